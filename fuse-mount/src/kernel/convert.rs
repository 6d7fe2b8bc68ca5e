//! Between the types of the filesystem and those of fuser.

use fs_core::attr::{
    Attr, Caller, FileKind, NewTime, OpenFlags, RenameMode, SeekTarget, SetXattr, Setgid, WriteFlags, XattrMode,
};
use fuser::{FileAttr, FileType, INodeNo, RenameFlags, Request, TimeOrNow};

use super::{Errno, NodeId, groups, time};

/// Open flags of Linux, the same on every architecture that FUSE numbers are used on here.
const ACCESS_MODE: u32 = 0o3;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
/// O_SYNC contains the bit of O_DSYNC.
const O_DSYNC: u32 = 0o10000;

/// Flags of setxattr(2).
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;
/// The attribute for which it matters who sets it.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

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

/// How an attribute is to be set. The kernel's own verdict on the setgid bit would come with an extension of the request
/// that fuser misreads; so the caller's groups are looked up.
pub(super) fn set_xattr(request: &Request, name: &[u8], flags: i32) -> Result<SetXattr, Errno> {
    let mode = match flags {
        0 => XattrMode::Any,
        XATTR_CREATE => XattrMode::Create,
        XATTR_REPLACE => XattrMode::Replace,
        _ => return Err(Errno::INVAL),
    };
    let setgid =
        if name == ACCESS_LIST { Setgid::KeepIfMember(groups::of_process(request.pid())) } else { Setgid::Keep };
    Ok(SetXattr { mode, setgid })
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
        rdev: device_number(attr.rdev),
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

/// The 32 bits in which the protocol packs the numbers of a device node: 12 of the major number, 20 of the minor one.
fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// Major and minor number out of those 32 bits.
pub(super) fn device_parts(number: u32) -> (u32, u32) {
    ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
}

pub(super) fn new_time(time: TimeOrNow) -> NewTime {
    match time {
        TimeOrNow::Now => NewTime::Now,
        TimeOrNow::SpecificTime(time) => NewTime::At(time::received(time)),
    }
}

pub(super) fn open_flags(flags: i32) -> OpenFlags {
    let flags = flags.cast_unsigned();
    OpenFlags { write: flags & ACCESS_MODE != 0, truncate: flags & O_TRUNC != 0, append: flags & O_APPEND != 0 }
}

pub(super) fn is_exclusive(flags: i32) -> bool {
    flags.cast_unsigned() & O_EXCL != 0
}

pub(super) fn write_flags(of_file: fuser::OpenFlags, of_request: fuser::WriteFlags) -> WriteFlags {
    let of_file = of_file.0.cast_unsigned();
    WriteFlags {
        append: of_file & O_APPEND != 0,
        from_cache: of_request.contains(fuser::WriteFlags::FUSE_WRITE_CACHE),
        sync: of_file & O_DSYNC != 0,
    }
}

pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode, Errno> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(Errno::INVAL)
    }
}

pub(super) fn seek_target(whence: i32) -> Result<SeekTarget, Errno> {
    match whence {
        SEEK_DATA => Ok(SeekTarget::Data),
        SEEK_HOLE => Ok(SeekTarget::Hole),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_the_way_there_and_back() {
        for parts in [(0, 0), (8, 1), (1, 3), (259, 70_000), (0xfff, 0xf_ffff)] {
            assert_eq!(device_parts(device_number(parts)), parts);
        }
        // As the kernel packs /dev/sdb1 and a minor number above 255.
        assert_eq!(device_number((8, 17)), 0x811);
        assert_eq!(device_number((8, 0x123)), 0x0010_0823);
    }

    #[test]
    fn whiteouts_and_unknown_rename_flags_are_refused() {
        assert_eq!(rename_mode(RenameFlags::empty()), Ok(RenameMode::Replace));
        assert_eq!(rename_mode(RenameFlags::RENAME_WHITEOUT), Err(Errno::INVAL));
        let both = RenameFlags::RENAME_NOREPLACE | RenameFlags::RENAME_EXCHANGE;
        assert_eq!(rename_mode(both), Err(Errno::INVAL));
    }
}
