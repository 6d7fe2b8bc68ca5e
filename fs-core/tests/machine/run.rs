//! Executes steps on a filesystem: what the kernel does with a system call before and after it asks the filesystem.

use std::sync::Arc;

use fs_core::addr::InodeNo;
use fs_core::attr::{
    Attr, Caller, FileKind, NewTime, RenameMode, SetAttr, SetXattr, Setgid, Timestamp, WriteFlags, XattrMode,
};
use fs_core::error::FsError;
use fs_core::fs::Fs;
use posix_model::acl::Acl;
use posix_model::errno::{EBADF, EEXIST, EINVAL, EIO, ENOENT, ENOTDIR, EOPNOTSUPP, Errno};
use posix_model::op::{self, Answer, Kind, Op, Outcome, Path, SLOTS, Stat, Step, Target, User};
use posix_model::rng::bytes;

pub(crate) const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0 };
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// Why a step has no answer: the filesystem has failed.
pub(crate) type Fatal = FsError;

/// A user of a directory, with what they have open.
pub(crate) struct Runner {
    fs: Arc<Fs>,
    root: InodeNo,
    slots: [Option<InodeNo>; SLOTS],
}

/// Inodes that an operation has looked up. They are given back when it is over.
struct Looked<'a> {
    fs: &'a Fs,
    inos: Vec<InodeNo>,
}

impl Drop for Looked<'_> {
    fn drop(&mut self) {
        self.inos.iter().for_each(|ino| self.fs.forget(*ino, 1));
    }
}

/// Either an error for the user, or one of the filesystem itself.
enum Failed {
    Answer(Errno),
    Fatal(Fatal),
}

impl From<FsError> for Failed {
    fn from(error: FsError) -> Self {
        match Errno(error.errno()) {
            EIO => Self::Fatal(error),
            errno => Self::Answer(errno),
        }
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self::Answer(errno)
    }
}

pub(crate) fn kind_of(kind: FileKind) -> Kind {
    match kind {
        FileKind::Fifo => Kind::Fifo,
        FileKind::CharDevice => Kind::Char,
        FileKind::Directory => Kind::Directory,
        FileKind::BlockDevice => Kind::Block,
        FileKind::Regular => Kind::File,
        FileKind::Symlink => Kind::Symlink,
        FileKind::Socket => Kind::Socket,
    }
}

pub(crate) fn stat_of(attr: &Attr) -> Stat {
    let sized = matches!(attr.kind, FileKind::Regular | FileKind::Symlink);
    Stat {
        kind: kind_of(attr.kind),
        mode: attr.permissions,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: if sized { attr.size_bytes } else { 0 },
        rdev: attr.rdev,
        mtime: Some(attr.mtime.sec),
    }
}

/// The answers are the same, as far as the model knows them.
pub(crate) fn same(expected: &Outcome, found: &Outcome) -> bool {
    match (expected, found) {
        (Ok(Answer::Stat(expected)), Ok(Answer::Stat(found))) => same_stat(expected, found),
        _ => expected == found,
    }
}

pub(crate) fn same_stat(expected: &Stat, found: &Stat) -> bool {
    let mtime = if expected.mtime.is_some() { found.mtime } else { None };
    *expected == Stat { mtime, ..found.clone() }
}

fn caller(user: &User) -> Caller {
    Caller { uid: user.uid, gid: user.gid, umask: user.umask }
}

impl Runner {
    pub(crate) fn new(fs: Arc<Fs>, root: InodeNo) -> Self {
        Self { fs, root, slots: [None; SLOTS] }
    }

    pub(crate) fn fs(&self) -> &Fs {
        &self.fs
    }

    pub(crate) fn root(&self) -> InodeNo {
        self.root
    }

    /// Does what a step asks for.
    pub(crate) async fn run(&mut self, step: &Step) -> Result<Outcome, Fatal> {
        let fs = Arc::clone(&self.fs);
        let mut looked = Looked { fs: &fs, inos: Vec::new() };
        match self.step(&mut looked, step).await {
            Ok(answer) => Ok(Ok(answer)),
            Err(Failed::Answer(errno)) => Ok(Err(errno)),
            Err(Failed::Fatal(error)) => Err(error),
        }
    }

    async fn lookup(&self, looked: &mut Looked<'_>, dir: InodeNo, name: &str) -> Result<Attr, Failed> {
        let attr = self.fs.lookup(dir, name.as_bytes()).await?;
        looked.inos.push(attr.ino);
        Ok(attr)
    }

    async fn resolve(&self, looked: &mut Looked<'_>, path: &Path) -> Result<Attr, Failed> {
        let mut at = self.fs.getattr(self.root).await?;
        for name in &path.0 {
            if at.kind != FileKind::Directory {
                return Err(ENOTDIR.into());
            }
            at = self.lookup(looked, at.ino, name).await?;
        }
        Ok(at)
    }

    async fn place<'p>(&self, looked: &mut Looked<'_>, path: &'p Path) -> Result<(InodeNo, &'p [u8]), Failed> {
        let (name, parents) = path.0.split_last().ok_or(EINVAL)?;
        let dir = self.resolve(looked, &Path(parents.to_vec())).await?;
        if dir.kind != FileKind::Directory {
            return Err(ENOTDIR.into());
        }
        Ok((dir.ino, name.as_bytes()))
    }

    async fn target(&self, looked: &mut Looked<'_>, target: &Target) -> Result<InodeNo, Failed> {
        match target {
            Target::Named(path) => Ok(self.resolve(looked, path).await?.ino),
            Target::Open(slot) => Ok(self.slots[*slot].ok_or(EBADF)?),
        }
    }

    async fn step(&mut self, looked: &mut Looked<'_>, step: &Step) -> Result<Answer, Failed> {
        let fs = Arc::clone(&self.fs);
        let user = step.user();
        let caller = caller(user);
        match &step.op {
            Op::Create { path, kind, mode, rdev } => {
                let (dir, name) = self.place(looked, path).await?;
                looked.inos.push(fs.mknod(dir, name, kind.bits() | mode, *rdev, caller).await?.ino);
            }
            Op::Mkdir { path, mode } => {
                let (dir, name) = self.place(looked, path).await?;
                looked.inos.push(fs.mkdir(dir, name, *mode, caller).await?.ino);
            }
            Op::Symlink { path, text } => {
                let (dir, name) = self.place(looked, path).await?;
                looked.inos.push(fs.symlink(dir, name, text.as_bytes(), caller).await?.ino);
            }
            Op::Link { from, to } => {
                let (old_dir, old_name) = self.place(looked, from).await?;
                let (dir, name) = self.place(looked, to).await?;
                let ino = self.lookup(looked, old_dir, std::str::from_utf8(old_name).unwrap()).await?.ino;
                // The kernel looks the new name up first.
                match self.lookup(looked, dir, std::str::from_utf8(name).unwrap()).await {
                    Err(Failed::Answer(ENOENT)) => {}
                    Err(other) => return Err(other),
                    Ok(_) => return Err(EEXIST.into()),
                }
                looked.inos.push(fs.link(ino, dir, name, caller).await?.ino);
            }
            Op::Unlink { path } => {
                let (dir, name) = self.place(looked, path).await?;
                fs.unlink(dir, name).await?;
            }
            Op::Rmdir { path } => {
                let (dir, name) = self.place(looked, path).await?;
                fs.rmdir(dir, name).await?;
            }
            Op::Rename { from, to, mode } => {
                let (from_dir, from_name) = self.place(looked, from).await?;
                let (to_dir, to_name) = self.place(looked, to).await?;
                let mode = match mode {
                    op::Rename::Replace => RenameMode::Replace,
                    op::Rename::NoReplace => RenameMode::NoReplace,
                    op::Rename::Exchange => RenameMode::Exchange,
                };
                fs.rename(from_dir, from_name, to_dir, to_name, mode, caller).await?;
            }
            Op::Write { target, at, len, tag, sync } => {
                let ino = self.target(looked, target).await?;
                let flags = WriteFlags { append: at.is_none(), sync: *sync, ..WriteFlags::default() };
                let done = fs.write(ino, at.unwrap_or(0), bytes(*tag, *len), flags, caller).await?;
                return Ok(Answer::Wrote(done as usize));
            }
            Op::Read { target, at, len } => {
                let ino = self.target(looked, target).await?;
                let data = fs.read(ino, *at, *len as u32).await?;
                return Ok(Answer::Bytes(data.to_vec()));
            }
            Op::Truncate { target, size } => {
                let ino = self.target(looked, target).await?;
                let change = SetAttr { size_bytes: Some(*size), ..SetAttr::default() };
                fs.setattr(ino, &change, caller).await?;
            }
            Op::Chmod { path, mode } => {
                let attr = self.resolve(looked, path).await?;
                if attr.kind == FileKind::Symlink {
                    return Err(EOPNOTSUPP.into());
                }
                let change = SetAttr { permissions: Some(*mode), ..SetAttr::default() };
                fs.setattr(attr.ino, &change, caller).await?;
            }
            Op::Chown { path, uid, gid } => {
                let ino = self.resolve(looked, path).await?.ino;
                let change = SetAttr { uid: *uid, gid: *gid, ..SetAttr::default() };
                fs.setattr(ino, &change, caller).await?;
            }
            Op::Utimes { path, mtime } => {
                let ino = self.resolve(looked, path).await?.ino;
                let time = NewTime::At(Timestamp { sec: *mtime, nsec: 0 });
                let change = SetAttr { mtime: Some(time), ..SetAttr::default() };
                fs.setattr(ino, &change, caller).await?;
            }
            Op::SetXattr { path, name, len, tag, mode } => {
                let ino = self.resolve(looked, path).await?.ino;
                let mode = match mode {
                    op::XattrMode::Any => XattrMode::Any,
                    op::XattrMode::Create => XattrMode::Create,
                    op::XattrMode::Replace => XattrMode::Replace,
                };
                let how = SetXattr { mode, ..SetXattr::default() };
                fs.setxattr(ino, format!("user.{name}").as_bytes(), &bytes(*tag, *len), &how, caller).await?;
            }
            Op::RemoveXattr { path, name } => {
                let ino = self.resolve(looked, path).await?.ino;
                fs.removexattr(ino, format!("user.{name}").as_bytes()).await?;
            }
            Op::SetAcl { path, default, acl } => {
                let ino = self.resolve(looked, path).await?.ino;
                let name = if *default { DEFAULT } else { ACCESS };
                let how = SetXattr { setgid: Setgid::KeepIfMember(user.groups.to_vec()), ..SetXattr::default() };
                match acl.as_ref().map(Acl::to_bytes) {
                    Some(value) => fs.setxattr(ino, name, &value, &how, caller).await?,
                    None => fs.removexattr(ino, name).await?,
                }
            }
            Op::Stat { path } => return Ok(Answer::Stat(stat_of(&self.resolve(looked, path).await?))),
            Op::Readlink { path } => {
                let ino = self.resolve(looked, path).await?.ino;
                return Ok(Answer::Bytes(fs.readlink(ino).await?));
            }
            Op::List { path } => {
                let ino = self.resolve(looked, path).await?.ino;
                let mut names = Vec::new();
                fs.readdir(ino, 0, &mut |entry| {
                    names.push(String::from_utf8(entry.name.clone()).unwrap());
                    true
                })
                .await?;
                names.retain(|name| name != "." && name != "..");
                names.sort_unstable();
                return Ok(Answer::Names(names));
            }
            Op::Open { path, slot } => {
                let attr = self.resolve(looked, path).await?;
                match attr.kind {
                    FileKind::Regular => {}
                    FileKind::Directory => return Err(FsError::IsDirectory.into()),
                    _ => return Err(EINVAL.into()),
                }
                self.close(*slot);
                // Its reference stays.
                looked.inos.pop();
                self.slots[*slot] = Some(attr.ino);
            }
            Op::Close { slot } => {
                if !self.close(*slot) {
                    return Err(EBADF.into());
                }
            }
            Op::Fsync { target: Target::Named(path) } => {
                let attr = self.resolve(looked, path).await?;
                if !matches!(attr.kind, FileKind::Regular | FileKind::Directory) {
                    return Err(EINVAL.into());
                }
                fs.fsync(attr.ino).await?;
            }
            Op::Fsync { target } => fs.fsync(self.target(looked, target).await?).await?,
            Op::Sync => fs.sync().await?,
        }
        Ok(Answer::Done)
    }

    fn close(&mut self, slot: usize) -> bool {
        let Some(ino) = self.slots[slot].take() else { return false };
        self.fs.forget(ino, 1);
        true
    }
}
