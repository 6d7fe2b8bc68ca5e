//! Moving names.

use std::collections::BTreeMap;

use crate::addr::InodeNo;
use crate::attr::{Caller, FileKind, RenameMode};
use crate::blocks::Edit;
use crate::dir::{self, Link};
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::BlockKind;
use crate::glock::GlockGuard;
use crate::glock::service::{Mode, Name};
use crate::ops::attrs::check_changeable;
use crate::ops::child::{Below, ancestors};
use crate::ops::lookup::{check_directory, check_target};
use crate::ops::unlink::drop_link;
use crate::stage::Stage;
use crate::volume::{Volume, one_link_less, one_more_link, touch};

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The directory.
    pub dir: InodeNo,
    /// The name.
    pub name: &'a [u8],
}

/// Inodes that are locked exclusively, as this operation sees and changes them.
struct Locked<'v> {
    volume: &'v Volume,
    caller: Caller,
    guards: Vec<GlockGuard<'v>>,
    dinodes: BTreeMap<InodeNo, Dinode>,
}

impl<'v> Locked<'v> {
    async fn lock(&mut self, ino: InodeNo) -> Result<(), FsError> {
        if !self.dinodes.contains_key(&ino) {
            let (guard, dinode) = self.volume.lock_inode(ino, Mode::Exclusive).await?;
            self.guards.push(guard);
            self.dinodes.insert(ino, dinode);
        }
        Ok(())
    }

    /// Locks what `link` in `dir` stands for. False: see [`Below::lock`].
    async fn lock_child(&mut self, dir: InodeNo, link: &Link, below: &Below) -> Result<bool, FsError> {
        if !self.dinodes.contains_key(&link.ino) {
            let Some((guard, dinode)) = below.lock(self.volume, dir, link).await? else { return Ok(false) };
            self.guards.push(guard);
            self.dinodes.insert(link.ino, dinode);
        }
        Ok(true)
    }

    fn get(&mut self, ino: InodeNo) -> Result<&mut Dinode, FsError> {
        self.dinodes.get_mut(&ino).ok_or(FsError::Invalid("an inode that is not locked"))
    }

    /// Checks a directory in which names change, and finds `name` in it.
    async fn find(&mut self, place: Place<'_>) -> Result<Option<Link>, FsError> {
        let volume = self.volume;
        let dir = self.get(place.dir)?;
        check_directory(dir)?;
        if dir.nlink == 0 {
            return Err(FsError::NotFound);
        }
        if dir.flags & flags::IMMUTABLE != 0 {
            return Err(FsError::NotPermitted("the directory is immutable"));
        }
        dir::lookup(&*volume.cache, dir, place.name).await
    }
}

/// Moves what `from` names to `to`, in one transaction.
///
/// # Errors
/// `NotFound`, `Exists`, `NotDirectory`, `IsDirectory`, `NotEmpty`, `Invalid` for a directory into itself,
/// `NotPermitted`, `NoSpace`, `QuotaExceeded`, `ReadOnly`; errors of reading and of the journal.
pub async fn rename(
    volume: &Volume,
    from: Place<'_>,
    to: Place<'_>,
    mode: RenameMode,
    caller: Caller,
) -> Result<(), FsError> {
    volume.check_writable()?;
    let mut below = Below::default();
    while let Some(place) = attempt(volume, from, to, mode, caller, &below).await? {
        below.check(volume, place.dir, place.name).await?;
    }
    Ok(())
}

/// Returns a name that has to be checked before this can be done.
async fn attempt<'a>(
    volume: &Volume,
    from: Place<'a>,
    to: Place<'a>,
    mode: RenameMode,
    caller: Caller,
    below: &Below,
) -> Result<Option<Place<'a>>, FsError> {
    let crosses = from.dir != to.dir;
    // Only under this lock do directories change their parents, so the ancestors that are found here stay true.
    let _rename = if crosses { Some(volume.glocks.lock(Name::RENAME, Mode::Exclusive).await?) } else { None };
    let (above_from, above_to) = if crosses {
        (ancestors(volume, from.dir).await?, ancestors(volume, to.dir).await?)
    } else {
        (vec![from.dir], vec![to.dir])
    };

    let mut locked = Locked { volume, caller, guards: Vec::new(), dinodes: BTreeMap::new() };
    for dir in parents_in_order(from.dir, to.dir, &above_from, &above_to) {
        locked.lock(dir).await?;
    }
    let source = locked.find(from).await?.ok_or(FsError::NotFound)?;
    let target = locked.find(to).await?;
    match (mode, &target) {
        (RenameMode::NoReplace, Some(_)) => return Err(FsError::Exists),
        (RenameMode::Exchange, None) => return Err(FsError::NotFound),
        // Two names of one inode: nothing happens (POSIX `rename`).
        (_, Some(target)) if target.ino == source.ino => return Ok(None),
        _ => {}
    }
    if source.kind == FileKind::Directory && above_to.contains(&source.ino) {
        return Err(FsError::Invalid("a directory cannot be moved into itself"));
    }
    if let Some(target) = &target
        && target.kind == FileKind::Directory
        && above_from.contains(&target.ino)
    {
        return Err(if mode == RenameMode::Exchange {
            FsError::Invalid("a directory cannot be moved into itself")
        } else {
            FsError::NotEmpty
        });
    }
    let mut inodes: Vec<(Place<'_>, Link)> = target.iter().map(|link| (to, *link)).chain([(from, source)]).collect();
    inodes.sort_by_key(|(_, link)| (link.kind != FileKind::Directory, link.ino));
    for (place, link) in inodes {
        if !locked.lock_child(place.dir, &link, below).await? {
            return Ok(Some(place));
        }
        let inode = locked.get(link.ino)?;
        check_target(&link, inode)?;
        check_changeable(inode)?;
    }
    check_changeable(locked.get(from.dir)?)?;
    match (mode, target) {
        (RenameMode::Exchange, Some(target)) => exchange(locked, from, source, to, target).await?,
        (_, target) => replace(locked, from, source, to, target).await?,
    }
    Ok(None)
}

/// The parent that is an ancestor of the other first, else by number.
fn parents_in_order(from: InodeNo, to: InodeNo, above_from: &[InodeNo], above_to: &[InodeNo]) -> Vec<InodeNo> {
    let mut parents = vec![from, to];
    if above_from.contains(&to) {
        parents.reverse();
    } else if !above_to.contains(&from) {
        parents.sort_unstable();
    }
    parents.dedup();
    parents
}

/// Writes the inodes that changed into the transaction.
async fn write_back(locked: &mut Locked<'_>, stage: &mut Stage<'_>, inos: &[InodeNo]) -> Result<(), FsError> {
    for ino in inos {
        stage.set_owner(*ino);
        let inode = locked.get(*ino)?;
        inode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    }
    Ok(())
}

/// The moved inode remembers the change; a directory gets its new parent.
async fn moved(
    locked: &mut Locked<'_>,
    stage: &mut Stage<'_>,
    ino: InodeNo,
    old_dir: InodeNo,
    new_dir: InodeNo,
) -> Result<(), FsError> {
    let parent_formal = locked.get(new_dir)?.formal;
    let now = stage.time();
    let inode = locked.get(ino)?;
    inode.ctime = now;
    if inode.kind == FileKind::Directory && old_dir != new_dir {
        stage.set_owner(ino);
        let parent = Link { ino: new_dir, formal: parent_formal, kind: FileKind::Directory };
        dir::replace(stage, inode, dir::DOT_DOT, parent).await?;
        one_link_less(locked.get(old_dir)?)?;
        one_more_link(locked.get(new_dir)?)?;
    }
    Ok(())
}

async fn replace(
    mut locked: Locked<'_>,
    from: Place<'_>,
    source: Link,
    to: Place<'_>,
    target: Option<Link>,
) -> Result<(), FsError> {
    if let Some(target) = &target {
        match (source.kind == FileKind::Directory, target.kind == FileKind::Directory) {
            (true, false) => return Err(FsError::NotDirectory),
            (false, true) => return Err(FsError::IsDirectory),
            (true, true) if !dir::is_empty(locked.get(target.ino)?)? => return Err(FsError::NotEmpty),
            _ => {}
        }
        check_changeable(locked.get(to.dir)?)?;
    }
    let volume = locked.volume;
    let mut stage = Stage::new(volume, from.dir).on_behalf_of(locked.caller);
    dir::remove(&mut stage, locked.get(from.dir)?, from.name).await?;
    if mistake!(RenameInTwo) {
        write_back(&mut locked, &mut stage, &[from.dir]).await?;
        let number = std::mem::replace(&mut stage, Stage::new(volume, from.dir)).commit().await?;
        volume.journal.flush(number).await?;
    }
    stage.set_owner(to.dir);
    match &target {
        Some(_) => drop(dir::replace(&mut stage, locked.get(to.dir)?, to.name, source).await?),
        None => dir::insert(&mut stage, locked.get(to.dir)?, to.name, source).await?,
    }
    moved(&mut locked, &mut stage, source.ino, from.dir, to.dir).await?;
    let mut orphan = None;
    if let Some(target) = &target {
        if target.kind == FileKind::Directory {
            one_link_less(locked.get(to.dir)?)?;
        }
        if drop_link(&mut stage, locked.get(target.ino)?).await? {
            orphan = Some(target.ino);
        }
    }
    let now = stage.time();
    touch(locked.get(from.dir)?, now);
    touch(locked.get(to.dir)?, now);
    write_back(&mut locked, &mut stage, &[from.dir, to.dir, source.ino]).await?;
    stage.commit().await?;
    if let Some(ino) = orphan {
        volume.refs.unlinked(ino);
    }
    settle(&mut locked, from, to).await
}

async fn exchange(
    mut locked: Locked<'_>,
    from: Place<'_>,
    source: Link,
    to: Place<'_>,
    target: Link,
) -> Result<(), FsError> {
    check_changeable(locked.get(to.dir)?)?;
    let mut stage = Stage::new(locked.volume, from.dir).on_behalf_of(locked.caller);
    dir::replace(&mut stage, locked.get(from.dir)?, from.name, target).await?;
    stage.set_owner(to.dir);
    dir::replace(&mut stage, locked.get(to.dir)?, to.name, source).await?;
    moved(&mut locked, &mut stage, source.ino, from.dir, to.dir).await?;
    moved(&mut locked, &mut stage, target.ino, to.dir, from.dir).await?;
    let now = stage.time();
    touch(locked.get(from.dir)?, now);
    touch(locked.get(to.dir)?, now);
    write_back(&mut locked, &mut stage, &[from.dir, to.dir, source.ino, target.ino]).await?;
    stage.commit().await?;
    settle(&mut locked, from, to).await
}

/// Durable, where one of the directories asks for it.
async fn settle(locked: &mut Locked<'_>, from: Place<'_>, to: Place<'_>) -> Result<(), FsError> {
    let volume = locked.volume;
    volume.settle(locked.get(from.dir)?).await?;
    volume.settle(locked.get(to.dir)?).await
}
