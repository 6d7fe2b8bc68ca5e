//! Numbers of Linux that both transports pass on as they are.

use fs_core::attr::{Allocation, OpenFlags, RenameMode, SeekTarget, WriteFlags, XattrMode};

use super::Errno;

/// Open flags, the same on every architecture that FUSE numbers are used on here.
const ACCESS_MODE: u32 = 0o3;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
/// O_SYNC contains the bit of O_DSYNC.
const O_DSYNC: u32 = 0o10000;

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;

/// Flags of setxattr(2).
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// Modes of fallocate(2).
const FALLOC_KEEP_SIZE: u32 = 0x1;
const FALLOC_PUNCH_HOLE: u32 = 0x2;
const FALLOC_ZERO_RANGE: u32 = 0x10;

pub(super) fn open_flags(flags: u32) -> OpenFlags {
    OpenFlags { write: flags & ACCESS_MODE != 0, truncate: flags & O_TRUNC != 0, append: flags & O_APPEND != 0 }
}

pub(super) fn is_exclusive(flags: u32) -> bool {
    flags & O_EXCL != 0
}

/// `of_file` are the flags with which the file is open.
pub(super) fn write_flags(of_file: u32, from_cache: bool) -> WriteFlags {
    WriteFlags { append: of_file & O_APPEND != 0, from_cache, sync: of_file & O_DSYNC != 0 }
}

/// Whiteouts, and what is not known, are refused.
pub(super) fn rename_mode(flags: u32) -> Result<RenameMode, Errno> {
    match flags {
        0 => Ok(RenameMode::Replace),
        RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn xattr_mode(flags: u32) -> Result<XattrMode, Errno> {
    match flags {
        0 => Ok(XattrMode::Any),
        XATTR_CREATE => Ok(XattrMode::Create),
        XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Errno::INVAL),
    }
}

/// What is not known, or makes no sense together, is refused. A hole never changes the size, and has to say so.
pub(super) fn allocation(mode: u32) -> Result<Allocation, Errno> {
    let keep_size = mode & FALLOC_KEEP_SIZE != 0;
    match mode & !FALLOC_KEEP_SIZE {
        0 => Ok(Allocation::Allocate { keep_size }),
        FALLOC_ZERO_RANGE => Ok(Allocation::Zero { keep_size }),
        FALLOC_PUNCH_HOLE if keep_size => Ok(Allocation::Punch),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// The kernel does every other kind of seeking itself.
pub(super) fn seek_target(whence: u32) -> Result<SeekTarget, Errno> {
    match whence {
        SEEK_DATA => Ok(SeekTarget::Data),
        SEEK_HOLE => Ok(SeekTarget::Hole),
        _ => Err(Errno::INVAL),
    }
}

/// The 32 bits in which the protocol packs the numbers of a device node: 12 of the major number, 20 of the minor one.
pub(super) fn device_number((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// Major and minor number out of those 32 bits.
pub(super) fn device_parts(number: u32) -> (u32, u32) {
    ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xf_ff00))
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
    fn modes_of_fallocate_that_mean_nothing_are_refused() {
        const COLLAPSE: u32 = 8;
        assert_eq!(allocation(0), Ok(Allocation::Allocate { keep_size: false }));
        assert_eq!(allocation(FALLOC_KEEP_SIZE | FALLOC_ZERO_RANGE), Ok(Allocation::Zero { keep_size: true }));
        assert_eq!(allocation(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE), Ok(Allocation::Punch));
        for mode in [FALLOC_PUNCH_HOLE, FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, COLLAPSE, 1 << 31] {
            assert_eq!(allocation(mode), Err(Errno::OPNOTSUPP));
        }
    }

    #[test]
    fn whiteouts_and_unknown_rename_flags_are_refused() {
        const WHITEOUT: u32 = 4;
        assert_eq!(rename_mode(0), Ok(RenameMode::Replace));
        assert_eq!(rename_mode(WHITEOUT), Err(Errno::INVAL));
        assert_eq!(rename_mode(RENAME_NOREPLACE | RENAME_EXCHANGE), Err(Errno::INVAL));
    }
}
