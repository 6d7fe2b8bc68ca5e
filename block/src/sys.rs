//! System calls on an open file or device: whole requests, interrupted and short calls repeated.

// Block devices are asked and told through ioctl, which cannot be said in safe Rust.
#![allow(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::ioctl::{self, Getter, Opcode, Setter, opcode};

use crate::device::IoBuf;

/// `BLKROGET`: is the device read-only?
const BLKROGET: Opcode = opcode::none(0x12, 94);
/// `BLKGETSIZE64`: size in bytes. The published number is made with the type `size_t`.
const BLKGETSIZE64: Opcode = opcode::read::<usize>(0x12, 114);
/// `BLKDISCARD`: discard of `[start, length]`, in bytes.
const BLKDISCARD: Opcode = opcode::none(0x12, 119);

/// Where a hole is punched to find out whether the filesystem can: beyond the end of any file.
const PUNCH_PROBE_OFFSET_BYTES: u64 = 1 << 42;

/// Zeroes that are written at a time where the filesystem cannot zero a range, in bytes.
const ZEROES_BYTES: usize = 1 << 20;
/// Most bytes that are zeroed in this way: a damaged file may ask for any number.
const ZEROES_WRITTEN_MAX_BYTES: u64 = 1 << 30;

/// What the kernel says about direct I/O on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectIo {
    /// The kernel or the filesystem does not tell.
    Unknown,
    /// Not supported.
    None,
    /// Offsets and lengths are multiples of this many bytes.
    AlignedTo(u32),
}

/// Fills the whole of `buf`.
pub(crate) fn read_full(fd: &OwnedFd, buf: &mut [u8], offset_bytes: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < buf.len() {
        match rustix::io::pread(fd, &mut buf[done..], offset_bytes.saturating_add(done as u64)) {
            // The end of the medium came before the end of the request.
            Ok(0) => return Err(Errno::NODATA),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes the whole of `data`.
pub(crate) fn write_full(fd: &OwnedFd, data: &[u8], offset_bytes: u64) -> Result<(), Errno> {
    write_flagged(fd, data, offset_bytes, ReadWriteFlags::empty())
}

/// Writes the whole of `data` to stable storage.
pub(crate) fn write_durable(fd: &OwnedFd, data: &[u8], offset_bytes: u64) -> Result<(), Errno> {
    match write_flagged(fd, data, offset_bytes, ReadWriteFlags::DSYNC) {
        // A filesystem without durable writes still has a flush.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            write_full(fd, data, offset_bytes)?;
            flush(fd)
        }
        other => other,
    }
}

fn write_flagged(fd: &OwnedFd, data: &[u8], offset_bytes: u64, flags: ReadWriteFlags) -> Result<(), Errno> {
    let mut done = 0;
    while done < data.len() {
        let (rest, at) = (&data[done..], offset_bytes.saturating_add(done as u64));
        let wrote = if flags.is_empty() {
            rustix::io::pwrite(fd, rest, at)
        } else {
            rustix::io::pwritev2(fd, &[IoSlice::new(rest)], at, flags)
        };
        match wrote {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes completed writes durable.
pub(crate) fn flush(fd: &OwnedFd) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::fdatasync(fd))
}

/// Gives a range of a file back to its filesystem; it reads as zeroes afterwards.
pub(crate) fn punch_hole(fd: &OwnedFd, offset_bytes: u64, len_bytes: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, mode, offset_bytes, len_bytes))
}

/// Whether the file's filesystem can punch holes. Changes nothing.
pub(crate) fn can_punch_holes(fd: &OwnedFd) -> bool {
    punch_hole(fd, PUNCH_PROBE_OFFSET_BYTES, 4096).is_ok()
}

/// Discards a range of a block device.
pub(crate) fn discard_device(fd: &OwnedFd, offset_bytes: u64, len_bytes: u64) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| {
        // SAFETY: BLKDISCARD reads two 64-bit numbers, which is what the setter passes.
        unsafe { ioctl::ioctl(fd, Setter::<BLKDISCARD, [u64; 2]>::new([offset_bytes, len_bytes])) }
    })
}

/// Size of a block device, in bytes.
pub(crate) fn device_size(fd: &OwnedFd) -> Result<u64, Errno> {
    // SAFETY: BLKGETSIZE64 writes one 64-bit number.
    unsafe { ioctl::ioctl(fd, Getter::<BLKGETSIZE64, u64>::new()) }
}

/// Whether a block device refuses writes.
pub(crate) fn device_is_read_only(fd: impl AsFd) -> Result<bool, Errno> {
    // SAFETY: BLKROGET writes one int.
    let answer = unsafe { ioctl::ioctl(fd, Getter::<BLKROGET, i32>::new()) };
    answer.map(|flag| flag != 0)
}

/// Logical and physical sector size of a block device, in bytes.
pub(crate) fn device_sectors(fd: &OwnedFd) -> Result<(u32, u32), Errno> {
    Ok((rustix::fs::ioctl_blksszget(fd)?, rustix::fs::ioctl_blkpbszget(fd)?))
}

/// Whether a block device discards, from its queue's limits. Partitions have the limits of their disk.
pub(crate) fn device_discards(fd: &OwnedFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    ["queue", "../queue"]
        .iter()
        .filter_map(|queue| {
            std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/{queue}/discard_max_bytes")).ok()
        })
        .any(|text| text.trim().parse::<u64>().is_ok_and(|bytes| bytes > 0))
}

/// Size of a regular file, in bytes.
pub(crate) fn file_size(fd: &OwnedFd) -> Result<u64, Errno> {
    // A negative size does not exist; it would be one of a kernel that is broken.
    Ok(u64::try_from(rustix::fs::fstat(fd)?.st_size).unwrap_or(0))
}

/// Block size that the file's filesystem prefers, in bytes.
pub(crate) fn file_block_bytes(fd: &OwnedFd) -> Result<u32, Errno> {
    Ok(u32::try_from(rustix::fs::fstat(fd)?.st_blksize).unwrap_or(4096))
}

/// What the kernel says about direct I/O on a file.
pub(crate) fn direct_io(fd: &OwnedFd) -> DirectIo {
    let Ok(stat) = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return DirectIo::Unknown;
    };
    if StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN) {
        match stat.stx_dio_offset_align {
            0 => DirectIo::None,
            bytes => DirectIo::AlignedTo(bytes),
        }
    } else {
        DirectIo::Unknown
    }
}

/// Switches the page cache off (or on again) for this descriptor.
pub(crate) fn set_direct(fd: &OwnedFd, direct: bool) -> Result<(), Errno> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::DIRECT, direct);
    rustix::fs::fcntl_setfl(fd, flags)
}

/// Another descriptor of the same file, for reading and writing.
pub(crate) fn open_again(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Zeroes a range of a file.
pub(crate) fn zero_range(fd: &OwnedFd, offset_bytes: u64, len_bytes: u64) -> Result<(), Errno> {
    if len_bytes == 0 {
        return Ok(());
    }
    match punch_hole(fd, offset_bytes, len_bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) if len_bytes <= ZEROES_WRITTEN_MAX_BYTES => {}
        other => return other,
    }
    let zeroes = IoBuf::zeroed(ZEROES_BYTES);
    let mut done = 0;
    while done < len_bytes {
        let piece = usize::try_from(len_bytes - done).unwrap_or(ZEROES_BYTES).min(ZEROES_BYTES);
        write_full(fd, &zeroes[..piece], offset_bytes.saturating_add(done))?;
        done += piece as u64;
    }
    Ok(())
}
