//! Executes steps by system calls, with the credentials of who asks. Names are looked up component by component, so that
//! no symbolic link is followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path as FilePath;

use lunfs_tests::volume::is_foreign;
use posix_model::acl::Acl;
use posix_model::errno::{EBADF, EINVAL, EISDIR, EOPNOTSUPP, Errno};
use posix_model::op::{Answer, Kind, Op, Outcome, Path, Rename, SLOTS, Stat, Step, Target, USERS, User, XattrMode};
use posix_model::rng::bytes;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::fs::{CWD, fstat, openat, statat};

/// A user of a directory on a mounted filesystem, with what is open.
pub(crate) struct Runner {
    root: OwnedFd,
    /// What `root` is in, and its name there: who may not search it can still be told what it is.
    above: OwnedFd,
    name: String,
    slots: [Option<OwnedFd>; SLOTS],
}

struct Failed(Errno);

impl From<rustix::io::Errno> for Failed {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(Errno(errno.raw_os_error()))
    }
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

type Done<T> = Result<T, Failed>;

/// The calling thread is somebody else, until this is dropped.
struct As;

impl As {
    fn new(user: &User) -> Self {
        let (root, groups) = (Uid::ROOT, user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect::<Vec<_>>());
        rustix::thread::set_thread_groups(&groups).unwrap();
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::from_raw(user.gid), Gid::ROOT).unwrap();
        // With the effective user 0 go all capabilities; the saved one brings them back.
        rustix::thread::set_thread_res_uid(root, Uid::from_raw(user.uid), root).unwrap();
        rustix::process::umask(Mode::from_raw_mode(user.umask));
        Self
    }
}

impl Drop for As {
    fn drop(&mut self) {
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).unwrap();
        rustix::thread::set_thread_groups(&[]).unwrap();
        rustix::process::umask(Mode::from_raw_mode(0o022));
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

pub(crate) fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let kind = Kind::of_mode(stat.st_mode).unwrap();
    let device = matches!(kind, Kind::Char | Kind::Block);
    Stat {
        kind,
        mode: stat.st_mode & 0o7777,
        nlink: u32::try_from(stat.st_nlink).unwrap(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if matches!(kind, Kind::File | Kind::Symlink) { u64::try_from(stat.st_size).unwrap() } else { 0 },
        rdev: if device { (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)) } else { (0, 0) },
        mtime: Some(stat.st_mtime),
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

/// A name in a directory that is open.
struct Place<'a> {
    dir: OwnedFd,
    name: &'a str,
}

impl Place<'_> {
    fn stat(&self) -> Done<Stat> {
        Ok(stat_of(&statat(&self.dir, self.name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// A path for calls that take nothing else.
    fn path(&self) -> String {
        format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), self.name)
    }

    /// Opens a regular file, and nothing else.
    fn open(&self, flags: OFlags) -> Done<OwnedFd> {
        match self.stat()?.kind {
            Kind::File => Ok(openat(&self.dir, self.name, flags | FILE, Mode::empty())?),
            Kind::Directory => Err(EISDIR.into()),
            _ => Err(EINVAL.into()),
        }
    }
}

impl Runner {
    /// In the directory `root`.
    pub(crate) fn new(root: &FilePath) -> Self {
        let above = openat(CWD, root.parent().unwrap(), DIRECTORY, Mode::empty()).unwrap();
        let name = root.file_name().unwrap().to_str().unwrap().to_owned();
        let root = openat(CWD, root, DIRECTORY, Mode::empty()).unwrap();
        Self { root, above, name, slots: [const { None }; SLOTS] }
    }

    /// Does what a step asks for, as who asks for it.
    pub(crate) fn run(&mut self, step: &Step) -> Outcome {
        let _as = As::new(step.user());
        self.step(step).map_err(|Failed(errno)| errno)
    }

    /// What stands at a path: attributes, content or text, and all extended attributes; as root.
    pub(crate) fn look(&mut self, path: &Path) -> Result<Look, Errno> {
        let _as = As::new(&USERS[0]);
        self.look_at(path).map_err(|Failed(errno)| errno)
    }

    fn look_at(&self, path: &Path) -> Done<Look> {
        let place = self.place(path)?;
        let stat = place.stat()?;
        let content = match stat.kind {
            Kind::File => read(place.open(OFlags::RDONLY)?.as_fd(), 0, usize::MAX)?,
            Kind::Symlink => rustix::fs::readlinkat(&place.dir, place.name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let mut list = vec![0; 1 << 16];
        let len = rustix::fs::llistxattr(place.path(), &mut list)?;
        let mut attributes = Vec::new();
        for name in list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let name = std::str::from_utf8(name).unwrap();
            let mut value = vec![0; 1 << 16];
            let len = rustix::fs::lgetxattr(place.path(), name, &mut value)?;
            value.truncate(len);
            attributes.push((name.to_owned(), value));
        }
        attributes.sort_unstable();
        Ok(Look { stat, content, attributes })
    }

    fn place<'p>(&'p self, path: &'p Path) -> Done<Place<'p>> {
        let Some((name, parents)) = path.0.split_last() else {
            return Ok(Place { dir: self.above.try_clone().unwrap(), name: &self.name });
        };
        let mut dir = self.root.try_clone().unwrap();
        for parent in parents {
            dir = openat(&dir, parent.as_str(), DIRECTORY, Mode::empty())?;
        }
        Ok(Place { dir, name })
    }

    fn open(&self, target: &Target, flags: OFlags) -> Done<OwnedFd> {
        match target {
            Target::Named(path) => self.place(path)?.open(flags),
            Target::Open(slot) => Ok(self.slots[*slot].as_ref().ok_or(EBADF)?.try_clone().unwrap()),
        }
    }

    fn step(&mut self, step: &Step) -> Done<Answer> {
        match &step.op {
            Op::Create { path, kind, mode, rdev } => {
                let place = self.place(path)?;
                let kind = FileType::from_raw_mode(kind.bits());
                let device = rustix::fs::makedev(rdev.0, rdev.1);
                rustix::fs::mknodat(&place.dir, place.name, kind, Mode::from_raw_mode(*mode), device)?;
            }
            Op::Mkdir { path, mode } => {
                let place = self.place(path)?;
                rustix::fs::mkdirat(&place.dir, place.name, Mode::from_raw_mode(*mode))?;
            }
            Op::Symlink { path, text } => {
                let place = self.place(path)?;
                rustix::fs::symlinkat(text.as_str(), &place.dir, place.name)?;
            }
            Op::Link { from, to } => {
                let (old, new) = (self.place(from)?, self.place(to)?);
                rustix::fs::linkat(&old.dir, old.name, &new.dir, new.name, AtFlags::empty())?;
            }
            Op::Unlink { path } => {
                let place = self.place(path)?;
                rustix::fs::unlinkat(&place.dir, place.name, AtFlags::empty())?;
            }
            Op::Rmdir { path } => {
                let place = self.place(path)?;
                rustix::fs::unlinkat(&place.dir, place.name, AtFlags::REMOVEDIR)?;
            }
            Op::Rename { from, to, mode } => {
                let (old, new) = (self.place(from)?, self.place(to)?);
                let flags = match mode {
                    Rename::Replace => RenameFlags::empty(),
                    Rename::NoReplace => RenameFlags::NOREPLACE,
                    Rename::Exchange => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(&old.dir, old.name, &new.dir, new.name, flags)?;
            }
            Op::Write { target, at, len, tag, sync } => {
                let sync = if *sync { OFlags::SYNC } else { OFlags::empty() };
                let file = self.open(target, OFlags::WRONLY | sync)?;
                let end = || fstat(&file).map(|stat| u64::try_from(stat.st_size).unwrap());
                let at = at.map_or_else(end, Ok)?;
                return Ok(Answer::Wrote(rustix::io::pwrite(&file, &bytes(*tag, *len), at)?));
            }
            Op::Read { target, at, len } => {
                let file = self.open(target, OFlags::RDONLY)?;
                return Ok(Answer::Bytes(read(file.as_fd(), *at, *len)?));
            }
            Op::Truncate { target, size } => rustix::fs::ftruncate(self.open(target, OFlags::WRONLY)?, *size)?,
            Op::Chmod { path, mode } => {
                let place = self.place(path)?;
                if place.stat()?.kind == Kind::Symlink {
                    return Err(EOPNOTSUPP.into());
                }
                rustix::fs::chmodat(&place.dir, place.name, Mode::from_raw_mode(*mode), AtFlags::empty())?;
            }
            Op::Chown { path, uid, gid } => {
                let place = self.place(path)?;
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                rustix::fs::chownat(&place.dir, place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Op::Utimes { path, mtime } => {
                let place = self.place(path)?;
                let times = Timestamps {
                    last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                    last_modification: Timespec { tv_sec: *mtime, tv_nsec: 0 },
                };
                rustix::fs::utimensat(&place.dir, place.name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Op::SetXattr { path, name, len, tag, mode } => {
                let flags = match mode {
                    XattrMode::Any => XattrFlags::empty(),
                    XattrMode::Create => XattrFlags::CREATE,
                    XattrMode::Replace => XattrFlags::REPLACE,
                };
                let place = self.place(path)?;
                rustix::fs::lsetxattr(place.path(), format!("user.{name}"), &bytes(*tag, *len), flags)?;
            }
            Op::RemoveXattr { path, name } => {
                rustix::fs::lremovexattr(self.place(path)?.path(), format!("user.{name}"))?;
            }
            Op::SetAcl { path, default, acl } => self.set_acl(path, *default, acl.as_ref())?,
            Op::Stat { path } => return Ok(Answer::Stat(self.place(path)?.stat()?)),
            Op::Readlink { path } => {
                let place = self.place(path)?;
                let text = rustix::fs::readlinkat(&place.dir, place.name, Vec::new())?;
                return Ok(Answer::Bytes(text.into_bytes()));
            }
            Op::List { path } => return Ok(Answer::Names(self.list(path)?)),
            Op::Open { path, slot } => self.slots[*slot] = Some(self.place(path)?.open(OFlags::RDWR)?),
            Op::Close { slot } => drop(self.slots[*slot].take().ok_or(EBADF)?),
            Op::Fsync { target: Target::Named(path) } => {
                let place = self.place(path)?;
                if !matches!(place.stat()?.kind, Kind::File | Kind::Directory) {
                    return Err(EINVAL.into());
                }
                rustix::fs::fsync(openat(&place.dir, place.name, OFlags::RDONLY | FILE, Mode::empty())?)?;
            }
            Op::Fsync { target } => rustix::fs::fsync(self.open(target, OFlags::RDONLY)?)?,
            Op::Sync => {
                let root = openat(&self.root, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                // Who may not read the directory has nothing to call it with.
                if let Ok(root) = root {
                    rustix::fs::syncfs(root)?;
                }
            }
        }
        Ok(Answer::Done)
    }

    fn set_acl(&self, path: &Path, default: bool, acl: Option<&Acl>) -> Done<()> {
        let place = self.place(path)?;
        let name = if default { "system.posix_acl_default" } else { "system.posix_acl_access" };
        match acl {
            Some(acl) => rustix::fs::lsetxattr(place.path(), name, &acl.to_bytes(), XattrFlags::empty())?,
            None => match rustix::fs::lremovexattr(place.path(), name) {
                // Some filesystems say that there was none.
                Err(rustix::io::Errno::NODATA) => {}
                result => result?,
            },
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> Done<Vec<String>> {
        let place = self.place(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | FILE;
        let dir = openat(&place.dir, place.name, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(dir)? {
            let name = entry?.file_name().to_str().unwrap().to_owned();
            if name != "." && name != ".." && !is_foreign(OsStr::new(&name)) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Everything about what stands at a path.
pub(crate) struct Look {
    pub(crate) stat: Stat,
    pub(crate) content: Vec<u8>,
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
}

fn read(file: std::os::fd::BorrowedFd<'_>, at: u64, len: usize) -> Done<Vec<u8>> {
    let mut content = Vec::new();
    while content.len() < len {
        let mut piece = vec![0; (len - content.len()).min(1 << 16)];
        let got = rustix::io::pread(file, &mut piece, at + content.len() as u64)?;
        if got == 0 {
            break;
        }
        content.extend_from_slice(&piece[..got]);
    }
    Ok(content)
}
