//! Between the types of the filesystem and those of fuser.

use fs_core::attr::{Attr, Caller, Capabilities, FileKind, NewTime, SetXattr};
use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};

use super::super::ioctl::{Asker, Ioctl};
use super::super::{Errno, NodeId, Process, capabilities, groups, linux};
use super::time;

impl From<INodeNo> for NodeId {
    fn from(ino: INodeNo) -> Self {
        Self(ino.0)
    }
}

impl From<Errno> for fuser::Errno {
    fn from(errno: Errno) -> Self {
        Self::from_i32(errno.0)
    }
}

pub(super) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), umask: 0 }
}

/// Who makes a new inode. Without access control lists the kernel has applied the umask, and it does not hurt twice.
pub(super) fn maker(request: &Request, umask: u32) -> Caller {
    Caller { umask, ..caller(request) }
}

/// Who asks for an ioctl.
pub(super) fn asker(request: &Request, wanted: &Ioctl) -> Asker {
    let capabilities =
        if wanted.is_privileged() { capabilities::of(request.pid(), request.uid()) } else { Capabilities::default() };
    Asker { process: Process { caller: caller(request), pid: request.pid() }, capabilities }
}

/// How an attribute is to be set. The kernel's own verdict on the setgid bit would come with an extension of the request
/// that fuser misreads.
pub(super) fn set_xattr(request: &Request, name: &[u8], flags: i32) -> Result<SetXattr, Errno> {
    Ok(SetXattr { mode: linux::xattr_mode(flags.cast_unsigned())?, setgid: groups::setgid(name, request.pid()) })
}

/// `ino` is what `stat` shows, and where fuser has one number for both, the kernel's name for the inode as well.
pub(super) fn file_attr(attr: &Attr, ino: u64) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: attr.size_bytes,
        blocks: attr.sectors,
        atime: time::to_send(attr.atime),
        mtime: time::to_send(attr.mtime),
        ctime: time::to_send(attr.ctime),
        crtime: std::time::SystemTime::UNIX_EPOCH,
        kind: file_type(attr.kind),
        perm: u16::try_from(attr.permissions & 0o7777).unwrap_or(0),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: linux::device_number(attr.rdev),
        blksize: attr.block_size_bytes,
        flags: 0,
    }
}

/// The attributes of nothing.
pub(super) fn no_attr() -> FileAttr {
    let never = std::time::SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: never,
        mtime: never,
        ctime: never,
        crtime: never,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::Directory => FileType::Directory,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Regular => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Socket => FileType::Socket,
    }
}

pub(super) fn new_time(time: TimeOrNow) -> NewTime {
    match time {
        TimeOrNow::Now => NewTime::Now,
        TimeOrNow::SpecificTime(time) => NewTime::At(time::received(time)),
    }
}
