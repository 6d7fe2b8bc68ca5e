//! The state of a tree of files, and what each operation makes of it.

mod attributes;
mod names;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::{self, READ, SEARCH, WRITE};
use crate::acl::Acl;
use crate::errno::{EBADF, EEXIST, EINVAL, EISDIR, ENODATA, ENOENT, ENOTDIR, Errno};
use crate::op::{Answer, Kind, Op, Outcome, Path, SLOTS, Stat, Step, Target, User, XattrMode};
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
}
