//! The state of a tree of files, and what each operation makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::{self, READ, SEARCH, WRITE};
use crate::acl::Acl;
use crate::errno::{
    EACCES, EBADF, EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOTDIR, ENOTEMPTY, EOPNOTSUPP, EPERM, Errno,
};
use crate::op::{Answer, Kind, Op, Outcome, Path, Rename, SLOTS, Stat, Step, Target, User, XattrMode};
use crate::rng::bytes;

/// Number of an inode. The same sequence gives the same numbers; none is used twice.
pub type Id = usize;

/// The directory that a sequence is run in.
pub const ROOT: Id = 0;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// The filesystem alone: what permissions forbid has been refused before.
    Filesystem,
    /// The kernel, with all its checks.
    Kernel {
        /// The sysctl `fs.protected_hardlinks`.
        protected_hardlinks: bool,
    },
}

/// An inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Type.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; of directories, 2 and one for each directory below.
    pub nlink: u32,
    /// Content of a file, text of a link.
    pub content: Arc<Vec<u8>>,
    /// Major and minor number of device nodes.
    pub rdev: (u32, u32),
    /// Of directories.
    pub entries: BTreeMap<String, Id>,
    /// Directory that this directory is in.
    pub parent: Id,
    /// See [`Stat::mtime`].
    pub mtime: Option<i64>,
    /// Attributes of `user.`.
    pub xattrs: BTreeMap<String, Arc<Vec<u8>>>,
    /// Access list.
    pub access: Option<Acl>,
    /// What new entries of a directory inherit.
    pub default: Option<Acl>,
}

impl Inode {
    fn new(kind: Kind, mode: u32, uid: u32, gid: u32) -> Self {
        Self {
            kind,
            mode,
            uid,
            gid,
            nlink: if kind == Kind::Directory { 2 } else { 1 },
            content: Arc::default(),
            rdev: (0, 0),
            entries: BTreeMap::new(),
            parent: ROOT,
            mtime: None,
            xattrs: BTreeMap::new(),
            access: None,
            default: None,
        }
    }

    /// What lstat says.
    #[must_use]
    pub fn stat(&self) -> Stat {
        Stat {
            kind: self.kind,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            size: self.content.len() as u64,
            rdev: self.rdev,
            mtime: self.mtime,
        }
    }

    /// Setuid and setgid go when somebody else than the superuser changes the content, or anybody the owner.
    fn drop_privileges(&mut self) {
        self.mode &= !0o4000;
        if self.mode & 0o010 != 0 {
            self.mode &= !0o2000;
        }
    }
}

/// A tree.
#[derive(Debug, Clone)]
pub struct Tree {
    inodes: BTreeMap<Id, Arc<Inode>>,
    slots: [Option<Id>; SLOTS],
    next: Id,
    surface: Surface,
}

/// A name in a directory.
struct Place<'a> {
    dir: Id,
    name: &'a str,
}

impl Tree {
    /// An empty directory of the superuser with these permissions.
    #[must_use]
    pub fn new(surface: Surface, mode: u32) -> Self {
        let root = Inode::new(Kind::Directory, mode, 0, 0);
        Self { inodes: BTreeMap::from([(ROOT, Arc::new(root))]), slots: [None; SLOTS], next: 1, surface }
    }

    /// An inode that exists.
    #[must_use]
    pub fn inode(&self, id: Id) -> &Inode {
        &self.inodes[&id]
    }

    /// Inodes, with and without names.
    pub fn inodes(&self) -> impl Iterator<Item = (Id, &Arc<Inode>)> {
        self.inodes.iter().map(|(id, inode)| (*id, inode))
    }

    /// What is open in a slot.
    #[must_use]
    pub fn slot(&self, slot: usize) -> Option<Id> {
        self.slots[slot]
    }

    /// All names, and what they name.
    #[must_use]
    pub fn names(&self) -> Vec<(Path, Id)> {
        let mut names = Vec::new();
        let mut left = vec![(Path::default(), ROOT)];
        while let Some((path, dir)) = left.pop() {
            for (name, id) in &self.inode(dir).entries {
                let mut path = path.clone();
                path.0.push(name.clone());
                if self.inode(*id).kind == Kind::Directory {
                    left.push((path.clone(), *id));
                }
                names.push((path, *id));
            }
        }
        names
    }

    /// The same tree with nothing open: inodes without names are gone.
    #[must_use]
    pub fn closed(mut self) -> Self {
        for slot in 0..SLOTS {
            self.close(slot);
        }
        self
    }

    /// The inode that a target means, whoever asks.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EBADF.
    pub fn find(&self, target: &Target) -> Result<Id, Errno> {
        match target {
            Target::Named(path) => self.clone_surface(Surface::Filesystem).resolve(&crate::op::USERS[0], path),
            Target::Open(slot) => self.slots[*slot].ok_or(EBADF),
        }
    }

    fn clone_surface(&self, surface: Surface) -> Self {
        Self { surface, ..self.clone() }
    }

    /// Replaces the content of a file, which was found to be another one.
    pub fn set_content(&mut self, id: Id, content: Vec<u8>) {
        self.edit(id).content = Arc::new(content);
    }

    fn edit(&mut self, id: Id) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&id).unwrap())
    }

    fn kernel(&self) -> bool {
        self.surface != Surface::Filesystem
    }

    fn check(&self, user: &User, id: Id, wanted: u32) -> Result<(), Errno> {
        if self.kernel() { access::check(user, self.inode(id), wanted) } else { Ok(()) }
    }

    fn check_owner(&self, user: &User, id: Id) -> Result<(), Errno> {
        if self.kernel() { access::check_owner(user, self.inode(id)) } else { Ok(()) }
    }

    fn check_removal(&self, user: &User, dir: Id, victim: Id) -> Result<(), Errno> {
        if self.kernel() { access::check_removal(user, self.inode(dir), self.inode(victim)) } else { Ok(()) }
    }

    fn step_down(&self, user: &User, dir: Id, name: &str) -> Result<Option<Id>, Errno> {
        let inode = self.inode(dir);
        if inode.kind != Kind::Directory {
            return Err(ENOTDIR);
        }
        self.check(user, dir, SEARCH)?;
        Ok(inode.entries.get(name).copied())
    }

    fn resolve(&self, user: &User, path: &Path) -> Result<Id, Errno> {
        let mut at = ROOT;
        for name in &path.0 {
            at = self.step_down(user, at, name)?.ok_or(ENOENT)?;
        }
        Ok(at)
    }

    fn place<'a>(&self, user: &User, path: &'a Path) -> Result<Place<'a>, Errno> {
        let (name, parents) = path.0.split_last().ok_or(EINVAL)?;
        let mut dir = ROOT;
        for parent in parents {
            dir = self.step_down(user, dir, parent)?.ok_or(ENOENT)?;
        }
        if self.inode(dir).kind != Kind::Directory {
            return Err(ENOTDIR);
        }
        Ok(Place { dir, name })
    }

    /// The file that a target means, if it is a regular one that may be opened so.
    fn regular(&self, user: &User, target: &Target, wanted: u32) -> Result<Id, Errno> {
        let id = match target {
            Target::Named(path) => self.resolve(user, path)?,
            Target::Open(slot) => return self.slots[*slot].ok_or(EBADF),
        };
        match self.inode(id).kind {
            Kind::File => {}
            Kind::Directory => return Err(EISDIR),
            _ => return Err(EINVAL),
        }
        self.check(user, id, wanted)?;
        Ok(id)
    }

    /// Does what `step` asks for. An error changes nothing.
    ///
    /// # Errors
    /// What the caller is told.
    pub fn apply(&mut self, step: &Step) -> Outcome {
        let user = step.user();
        match &step.op {
            Op::Create { path, kind, mode, rdev } => self.create(user, path, *kind, *mode, *rdev),
            Op::Mkdir { path, mode } => self.create(user, path, Kind::Directory, *mode, (0, 0)),
            Op::Symlink { path, text } => {
                self.create(user, path, Kind::Symlink, 0o777, (0, 0))?;
                self.edit(self.next - 1).content = Arc::new(text.clone().into_bytes());
                Ok(Answer::Done)
            }
            Op::Link { from, to } => self.link(user, from, to),
            Op::Unlink { path } => self.remove(user, path, false),
            Op::Rmdir { path } => self.remove(user, path, true),
            Op::Rename { from, to, mode } => self.rename(user, from, to, *mode),
            Op::Write { target, at, len, tag, .. } => self.write(user, target, *at, *len, *tag),
            Op::Read { target, at, len } => {
                let id = self.regular(user, target, READ)?;
                let content = &self.inode(id).content;
                let from = content.len().min(*at as usize);
                Ok(Answer::Bytes(content[from..content.len().min(from + len)].to_vec()))
            }
            Op::Truncate { target, size } => {
                let id = self.regular(user, target, WRITE)?;
                let inode = self.edit(id);
                Arc::make_mut(&mut inode.content).resize(*size as usize, 0);
                inode.mtime = None;
                if !user.is_root() {
                    inode.drop_privileges();
                }
                Ok(Answer::Done)
            }
            Op::Chmod { path, mode } => self.chmod(user, path, *mode),
            Op::Chown { path, uid, gid } => self.chown(user, path, *uid, *gid),
            Op::Utimes { path, mtime } => {
                let id = self.resolve(user, path)?;
                self.check_owner(user, id)?;
                self.edit(id).mtime = Some(*mtime);
                Ok(Answer::Done)
            }
            Op::SetXattr { path, name, len, tag, mode } => {
                let id = self.xattr_target(user, path)?;
                match (mode, self.inode(id).xattrs.contains_key(name)) {
                    (XattrMode::Create, true) => return Err(EEXIST),
                    (XattrMode::Replace, false) => return Err(ENODATA),
                    _ => {}
                }
                self.edit(id).xattrs.insert(name.clone(), Arc::new(bytes(*tag, *len)));
                Ok(Answer::Done)
            }
            Op::RemoveXattr { path, name } => {
                let id = self.xattr_target(user, path)?;
                if !self.inode(id).xattrs.contains_key(name) {
                    return Err(ENODATA);
                }
                self.edit(id).xattrs.remove(name);
                Ok(Answer::Done)
            }
            Op::SetAcl { path, default, acl } => self.set_acl(user, path, *default, *acl),
            Op::Stat { path } => Ok(Answer::Stat(self.inode(self.resolve(user, path)?).stat())),
            Op::Readlink { path } => {
                let inode = self.inode(self.resolve(user, path)?);
                if inode.kind == Kind::Symlink { Ok(Answer::Bytes(inode.content.to_vec())) } else { Err(EINVAL) }
            }
            Op::List { path } => {
                let id = self.resolve(user, path)?;
                if self.inode(id).kind != Kind::Directory {
                    return Err(ENOTDIR);
                }
                self.check(user, id, READ)?;
                Ok(Answer::Names(self.inode(id).entries.keys().cloned().collect()))
            }
            Op::Open { path, slot } => {
                let id = self.regular(user, &Target::Named(path.clone()), READ | WRITE)?;
                self.close(*slot);
                self.slots[*slot] = Some(id);
                Ok(Answer::Done)
            }
            Op::Close { slot } => {
                if self.close(*slot) {
                    Ok(Answer::Done)
                } else {
                    Err(EBADF)
                }
            }
            Op::Fsync { target } => {
                let id = match target {
                    Target::Named(path) => self.resolve(user, path)?,
                    Target::Open(slot) => return self.slots[*slot].map(|_| Answer::Done).ok_or(EBADF),
                };
                if !matches!(self.inode(id).kind, Kind::File | Kind::Directory) {
                    return Err(EINVAL);
                }
                self.check(user, id, READ)?;
                Ok(Answer::Done)
            }
            Op::Sync => Ok(Answer::Done),
        }
    }

    fn create(&mut self, user: &User, path: &Path, kind: Kind, mode: u32, rdev: (u32, u32)) -> Outcome {
        let place = self.place(user, path)?;
        if self.step_down(user, place.dir, place.name)?.is_some() {
            return Err(EEXIST);
        }
        self.check(user, place.dir, WRITE | SEARCH)?;
        let device = matches!(kind, Kind::Char | Kind::Block);
        if device && self.kernel() && !user.is_root() {
            return Err(EPERM);
        }
        let dir = self.inode(place.dir);
        let group = if dir.mode & 0o2000 != 0 { dir.gid } else { user.gid };
        let mut inode = Inode::new(kind, mode, user.uid, group);
        match dir.default.filter(|_| kind != Kind::Symlink) {
            Some(default) => {
                let list = default.inherited(mode);
                inode.mode = (mode & !0o777) | list.mode();
                inode.access = Some(list);
                inode.default = (kind == Kind::Directory).then_some(default);
            }
            None if kind != Kind::Symlink => inode.mode = mode & !user.umask,
            None => {}
        }
        if kind == Kind::Directory && dir.mode & 0o2000 != 0 {
            inode.mode |= 0o2000;
        }
        inode.rdev = if device { rdev } else { (0, 0) };
        inode.parent = place.dir;
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Arc::new(inode));
        self.add_name(place.dir, place.name, id);
        if kind == Kind::Directory {
            self.edit(place.dir).nlink += 1;
        }
        Ok(Answer::Done)
    }

    fn add_name(&mut self, dir: Id, name: &str, id: Id) {
        let dir = self.edit(dir);
        dir.entries.insert(name.to_owned(), id);
        dir.mtime = None;
    }

    fn drop_name(&mut self, dir: Id, name: &str) {
        let dir = self.edit(dir);
        dir.entries.remove(name);
        dir.mtime = None;
    }

    /// A name of `id` is gone; it goes itself with its last name, unless it is open.
    fn unlinked(&mut self, id: Id) {
        let inode = self.edit(id);
        inode.nlink = if inode.kind == Kind::Directory { 0 } else { inode.nlink - 1 };
        self.reap(id);
    }

    fn reap(&mut self, id: Id) {
        if self.inode(id).nlink == 0 && !self.slots.contains(&Some(id)) {
            self.inodes.remove(&id);
        }
    }

    fn close(&mut self, slot: usize) -> bool {
        let Some(id) = self.slots[slot].take() else { return false };
        self.reap(id);
        true
    }

    fn link(&mut self, user: &User, from: &Path, to: &Path) -> Outcome {
        let (old, place) = (self.place(user, from)?, self.place(user, to)?);
        let id = self.step_down(user, old.dir, old.name)?.ok_or(ENOENT)?;
        if self.step_down(user, place.dir, place.name)?.is_some() {
            return Err(EEXIST);
        }
        if let Surface::Kernel { protected_hardlinks: true } = self.surface {
            access::check_link(user, self.inode(id))?;
        }
        self.check(user, place.dir, WRITE | SEARCH)?;
        if self.inode(id).kind == Kind::Directory {
            return Err(EPERM);
        }
        self.edit(id).nlink += 1;
        self.add_name(place.dir, place.name, id);
        Ok(Answer::Done)
    }

    fn remove(&mut self, user: &User, path: &Path, directory: bool) -> Outcome {
        let place = self.place(user, path)?;
        let id = self.step_down(user, place.dir, place.name)?.ok_or(ENOENT)?;
        self.check_removal(user, place.dir, id)?;
        self.check_kinds(directory, id)?;
        if directory && !self.inode(id).entries.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.drop_name(place.dir, place.name);
        if directory {
            self.edit(place.dir).nlink -= 1;
        }
        self.unlinked(id);
        Ok(Answer::Done)
    }

    fn check_kinds(&self, directory: bool, id: Id) -> Result<(), Errno> {
        match (directory, self.inode(id).kind == Kind::Directory) {
            (true, false) => Err(ENOTDIR),
            (false, true) => Err(EISDIR),
            _ => Ok(()),
        }
    }

    /// `id` is `below`, or one of the directories that it is in.
    fn is_above(&self, id: Id, below: Id) -> bool {
        let mut at = below;
        loop {
            if at == id {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.inode(at).parent;
        }
    }

    fn rename(&mut self, user: &User, from: &Path, to: &Path, mode: Rename) -> Outcome {
        let (old, new) = (self.place(user, from)?, self.place(user, to)?);
        self.check(user, old.dir, SEARCH)?;
        self.check(user, new.dir, SEARCH)?;
        let source = self.step_down(user, old.dir, old.name)?.ok_or(ENOENT)?;
        let target = self.step_down(user, new.dir, new.name)?;
        match (mode, target) {
            (Rename::NoReplace, Some(_)) => return Err(EEXIST),
            (Rename::Exchange, None) => return Err(ENOENT),
            _ => {}
        }
        let crosses = old.dir != new.dir;
        if crosses && self.is_above(source, new.dir) {
            return Err(EINVAL);
        }
        if let Some(target) = target.filter(|target| crosses && self.is_above(*target, old.dir)) {
            debug_assert!(target != source);
            return Err(if mode == Rename::Exchange { EINVAL } else { ENOTEMPTY });
        }
        if target == Some(source) {
            return Ok(Answer::Done);
        }
        let is_dir = |id: Id| self.inode(id).kind == Kind::Directory;
        let source_is_dir = is_dir(source);
        self.check_removal(user, old.dir, source)?;
        match target {
            None => self.check(user, new.dir, WRITE | SEARCH)?,
            Some(target) => {
                self.check_removal(user, new.dir, target)?;
                if mode != Rename::Exchange {
                    self.check_kinds(source_is_dir, target)?;
                }
            }
        }
        if crosses {
            // `..` changes.
            if source_is_dir {
                self.check(user, source, WRITE)?;
            }
            if let Some(target) = target.filter(|target| mode == Rename::Exchange && is_dir(*target)) {
                self.check(user, target, WRITE)?;
            }
        }
        match target {
            Some(target) if mode == Rename::Exchange => {
                let target_is_dir = is_dir(target);
                self.add_name(old.dir, old.name, target);
                self.add_name(new.dir, new.name, source);
                self.moved(source, source_is_dir, old.dir, new.dir);
                self.moved(target, target_is_dir, new.dir, old.dir);
                return Ok(Answer::Done);
            }
            Some(target) => {
                if source_is_dir && !self.inode(target).entries.is_empty() {
                    return Err(ENOTEMPTY);
                }
                if source_is_dir {
                    self.edit(new.dir).nlink -= 1;
                }
                self.unlinked(target);
            }
            None => {}
        }
        self.drop_name(old.dir, old.name);
        self.add_name(new.dir, new.name, source);
        self.moved(source, source_is_dir, old.dir, new.dir);
        Ok(Answer::Done)
    }

    fn moved(&mut self, id: Id, is_dir: bool, from: Id, to: Id) {
        if is_dir {
            self.edit(from).nlink -= 1;
            self.edit(to).nlink += 1;
            if from != to {
                self.edit(id).parent = to;
            }
        }
    }

    fn write(&mut self, user: &User, target: &Target, at: Option<u64>, len: usize, tag: u64) -> Outcome {
        let id = self.regular(user, target, WRITE)?;
        let inode = self.edit(id);
        let content = Arc::make_mut(&mut inode.content);
        let at = at.map_or(content.len(), |at| at as usize);
        content.resize(content.len().max(at + len), 0);
        content[at..at + len].copy_from_slice(&bytes(tag, len));
        inode.mtime = None;
        if !user.is_root() {
            inode.drop_privileges();
        }
        Ok(Answer::Wrote(len))
    }

    fn chmod(&mut self, user: &User, path: &Path, mode: u32) -> Outcome {
        let id = self.resolve(user, path)?;
        if self.inode(id).kind == Kind::Symlink {
            return Err(EOPNOTSUPP);
        }
        self.check_owner(user, id)?;
        let member = user.is_root() || user.is_in(self.inode(id).gid);
        let strip = if self.kernel() && !member { 0o2000 } else { 0 };
        let inode = self.edit(id);
        inode.mode = mode & !strip;
        inode.access = inode.access.map(|list| list.with_mode(mode));
        Ok(Answer::Done)
    }

    fn chown(&mut self, user: &User, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Outcome {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if self.kernel() && !user.is_root() {
            let keeps_owner = uid.is_none_or(|uid| uid == inode.uid);
            let own_group = gid.is_none_or(|gid| user.is_in(gid) || gid == inode.gid);
            if user.uid != inode.uid || !keeps_owner || !own_group {
                return Err(EPERM);
            }
        }
        let inode = self.edit(id);
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        if inode.kind != Kind::Directory {
            inode.drop_privileges();
        }
        Ok(Answer::Done)
    }

    /// An inode whose attributes of `user.` are to be changed (xattr(7)).
    fn xattr_target(&self, user: &User, path: &Path) -> Result<Id, Errno> {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if !matches!(inode.kind, Kind::File | Kind::Directory) {
            return Err(EPERM);
        }
        if inode.kind == Kind::Directory && inode.mode & 0o1000 != 0 {
            self.check_owner(user, id)?;
        }
        self.check(user, id, WRITE)?;
        Ok(id)
    }

    fn set_acl(&mut self, user: &User, path: &Path, default: bool, acl: Option<Acl>) -> Outcome {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if inode.kind == Kind::Symlink {
            return Err(EOPNOTSUPP);
        }
        if default && inode.kind != Kind::Directory {
            return if acl.is_some() { Err(EACCES) } else { Ok(Answer::Done) };
        }
        self.check_owner(user, id)?;
        let member = user.is_root() || user.is_in(inode.gid);
        let inode = self.edit(id);
        if default {
            inode.default = acl;
            return Ok(Answer::Done);
        }
        inode.access = acl;
        if let Some(list) = acl {
            inode.mode = (inode.mode & !0o777) | list.mode();
            if !member {
                inode.mode &= !0o2000;
            }
        }
        Ok(Answer::Done)
    }
}
