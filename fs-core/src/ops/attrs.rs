//! Attributes: reading and changing them.

use crate::addr::InodeNo;
use crate::attr::{Attr, Caller, FileKind, NewTime, OpenFlags, SetAttr, Timestamp};
use crate::blocks::Edit;
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::BlockKind;
use crate::glock::service::Mode;
use crate::inode::truncate;
use crate::ops::acls;
use crate::stage::Stage;
use crate::volume::Volume;

/// # Errors
/// `NotPermitted` for an inode that may not change, or only grow.
pub fn check_changeable(dinode: &Dinode) -> Result<(), FsError> {
    if dinode.flags & flags::IMMUTABLE != 0 {
        return Err(FsError::NotPermitted("the inode is immutable"));
    }
    if dinode.flags & flags::APPENDONLY != 0 {
        return Err(FsError::NotPermitted("the inode is append-only"));
    }
    Ok(())
}

/// Takes setuid and setgid away when anybody but root changes the content (POSIX `write`, `truncate`).
pub const fn drop_privileges(dinode: &mut Dinode, caller: Caller) {
    if caller.uid == 0 {
        return;
    }
    clear_privileges(dinode);
}

const fn clear_privileges(dinode: &mut Dinode) {
    dinode.permissions &= !0o4000;
    // Without execution by the group, the bit means mandatory locking, not privilege.
    if dinode.permissions & 0o010 != 0 {
        dinode.permissions &= !0o2000;
    }
}

const fn time(new: NewTime, now: Timestamp) -> Timestamp {
    match new {
        NewTime::Now => now,
        NewTime::At(time) => time,
    }
}

/// Nothing but times, and they to the current one.
fn is_touch(change: &SetAttr) -> bool {
    let is_now = |time: Option<NewTime>| matches!(time, None | Some(NewTime::Now));
    let times = SetAttr { atime: change.atime, mtime: change.mtime, ..SetAttr::default() };
    *change == times && is_now(change.atime) && is_now(change.mtime)
}

/// # Errors
/// Errors of reading.
pub async fn getattr(volume: &Volume, ino: InodeNo) -> Result<Attr, FsError> {
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    Ok(volume.attr(&dinode))
}

/// # Errors
/// `NotPermitted`, `ReadOnly`, `IsDirectory` and `Invalid` for sizes of what has none, `TooLarge`, `NoSpace`,
/// `QuotaExceeded`; errors of reading and of the journal.
pub async fn setattr(volume: &Volume, ino: InodeNo, change: &SetAttr, caller: Caller) -> Result<Attr, FsError> {
    volume.check_writable()?;
    let (_guard, mut dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    // Times of this very moment say that something was done, which is true of an append-only inode as well.
    if !is_touch(change) || dinode.flags & flags::IMMUTABLE != 0 {
        check_changeable(&dinode)?;
    }
    if change.size_bytes.is_some() && dinode.flags & flags::TRUNC_IN_PROG != 0 {
        truncate::finish(volume, ino).await?;
        dinode = volume.dinode(ino).await?;
    }
    let mut stage = Stage::new(volume, ino).on_behalf_of(caller);
    let now = stage.time();
    if let Some(size) = change.size_bytes {
        set_size(&mut stage, &mut dinode, size).await?;
        drop_privileges(&mut dinode, caller);
        dinode.mtime = now;
    }
    // A new owner never inherits them, whoever gives the file away (chown(2)).
    if (change.uid.is_some() || change.gid.is_some()) && dinode.kind != FileKind::Directory {
        clear_privileges(&mut dinode);
    }
    if let Some(permissions) = change.permissions {
        dinode.permissions = permissions & 0o7777;
        acls::follow_mode(&mut stage, &mut dinode).await?;
    }
    if change.uid.is_some() || change.gid.is_some() {
        // As GFS2 has it: not even root gives a file to somebody who has no room for it.
        stage.keep_to_limits();
    }
    dinode.uid = change.uid.unwrap_or(dinode.uid);
    dinode.gid = change.gid.unwrap_or(dinode.gid);
    dinode.atime = change.atime.map_or(dinode.atime, |new| time(new, now));
    dinode.mtime = change.mtime.map_or(dinode.mtime, |new| time(new, now));
    dinode.ctime = now;
    dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    stage.commit().await?;
    if dinode.flags & flags::TRUNC_IN_PROG != 0 {
        truncate::finish(volume, ino).await?;
        dinode = volume.dinode(ino).await?;
    }
    if change.size_bytes.is_some() {
        volume.settle(&dinode).await?;
    }
    Ok(volume.attr(&dinode))
}

async fn set_size(stage: &mut Stage<'_>, dinode: &mut Dinode, size: u64) -> Result<(), FsError> {
    match dinode.kind {
        FileKind::Regular => {}
        FileKind::Directory => return Err(FsError::IsDirectory),
        _ => return Err(FsError::Invalid("only regular files have a size to be set")),
    }
    if size > i64::MAX.unsigned_abs() {
        return Err(FsError::TooLarge);
    }
    if size > dinode.size {
        truncate::extend(stage, dinode, size).await
    } else {
        // Also where the size stays: there may be blocks behind the end.
        truncate::shrink(stage, dinode, size).await
    }
}

/// Checks the inode's flags against what the file is opened for, and truncates where that is asked.
///
/// # Errors
/// `NotPermitted`, `ReadOnly`, and as [`setattr`].
pub async fn open(volume: &Volume, ino: InodeNo, wanted: OpenFlags, caller: Caller) -> Result<(), FsError> {
    volume.disk.health.check()?;
    if !wanted.write && !wanted.truncate {
        return Ok(());
    }
    volume.check_writable()?;
    {
        let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
        let append_only = dinode.flags & flags::APPENDONLY != 0;
        if !append_only || wanted.truncate || !wanted.append {
            check_changeable(&dinode)?;
        }
    }
    if wanted.truncate {
        let change = SetAttr { size_bytes: Some(0), ..SetAttr::default() };
        setattr(volume, ino, &change, caller).await?;
    }
    Ok(())
}
