//! Claims: this host uses a disk, and who else wants it here is told so.
//!
//! Laws
//! * A claim lives as long as its descriptor, and with that as long as the last process that inherited it. Nothing is
//!   left behind by a process that dies.
//! * A claim orders processes of one host. It says nothing about other hosts.
//! * A loop device and the file below it are one disk: who claims the device claims its part of the file as well.

// The locks of an open file description are reached through fcntl, for which there is no safe wrapper.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// How often a shared claim looks whether a device is free of other kinds of users, and how long it waits between.
/// Two that look at the same moment see each other, so one look is not enough.
const LOOKS: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// With whom a disk may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// With nobody on this host: one mount, or a tool that changes the disk. Needs a disk that can be opened for writing.
    Exclusive,
    /// With other shared claims: several nodes on one host, or readers.
    Shared,
}

/// Why a disk could not be claimed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Somebody on this host uses it.
    #[error("{}: in use on this machine (mounted, or opened by another program); unmount or stop that first", path.display())]
    InUse {
        /// The disk.
        path: PathBuf,
    },
    /// The operating system reported another error.
    #[error("{}: cannot be claimed", path.display())]
    Io {
        /// The disk.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// A disk that is claimed. Dropping it ends the claim.
#[derive(Debug)]
pub struct Claim {
    /// Carries the lock that other processes of ours respect.
    _fd: OwnedFd,
    /// The file below, if the disk is a loop device.
    _backing: Option<OwnedFd>,
    /// Keeps everybody else from a device.
    exclusive: Option<OwnedFd>,
    path: PathBuf,
}

impl Claim {
    /// Claims a block device or an image file. Does not wait.
    ///
    /// # Errors
    /// `InUse`, `Io`.
    pub fn take(path: &Path, sharing: Sharing) -> Result<Self, ClaimError> {
        match sharing {
            Sharing::Exclusive => {
                let mut claim = Self::against_ours(path)?;
                claim.exclude_others()?;
                Ok(claim)
            }
            Sharing::Shared => {
                let failed = |source| claim_failed(path, source);
                if is_device(path).map_err(failed)? {
                    look(path).map_err(failed)?;
                }
                Self::locked(path, sharing)
            }
        }
    }

    /// Claims a disk against other processes of ours only. Whoever has this claim knows that none of them uses the disk,
    /// also if somebody else does. Does not wait.
    ///
    /// # Errors
    /// `InUse`, `Io`.
    pub fn against_ours(path: &Path) -> Result<Self, ClaimError> {
        Self::locked(path, Sharing::Exclusive)
    }

    fn locked(path: &Path, sharing: Sharing) -> Result<Self, ClaimError> {
        let failed = |source| claim_failed(path, source);
        let (write, kind) = match sharing {
            Sharing::Exclusive => (true, libc::F_WRLCK),
            Sharing::Shared => (false, libc::F_RDLCK),
        };
        let fd = open(path, write, false).map_err(failed)?;
        lock(fd.as_fd(), kind, Range::WHOLE).map_err(failed)?;
        let backing = match Backing::of(fd.as_fd()) {
            // The file may have another name by now, or lie where this process cannot reach it: then it is left alone.
            Some(below) => match open(&below.path, write, false) {
                Ok(file) => {
                    lock(file.as_fd(), kind, below.range).map_err(failed)?;
                    Some(file)
                }
                Err(_) => None,
            },
            None => None,
        };
        Ok(Self { _fd: fd, _backing: backing, exclusive: None, path: path.to_owned() })
    }

    /// Makes the kernel refuse mounts and other exclusive users of a device, for as long as this claim lives or until
    /// [`Claim::lend`]. Nothing changes for an image file, and if it is so already.
    ///
    /// # Errors
    /// `InUse`, `Io`.
    pub fn exclude_others(&mut self) -> Result<(), ClaimError> {
        let failed = |source| claim_failed(&self.path, source);
        if self.exclusive.is_none() && is_device(&self.path).map_err(failed)? {
            self.exclusive = Some(open(&self.path, true, true).map_err(failed)?);
        }
        Ok(())
    }

    /// Lets somebody else have a device exclusively, on behalf of whoever holds this claim: the kernel, for a filesystem
    /// that is being mounted. Other processes of ours stay locked out.
    pub fn lend(&mut self) {
        self.exclusive = None;
    }

    /// Whether everybody else is kept from a block device by this claim itself.
    #[must_use]
    pub fn excludes_others(&self) -> bool {
        self.exclusive.is_some()
    }
}

fn claim_failed(path: &Path, source: io::Error) -> ClaimError {
    let path = path.to_owned();
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        // The open of a device answers the first, that of a running program the second, the lock the third.
        Some(Errno::BUSY | Errno::TXTBSY | Errno::AGAIN) => ClaimError::InUse { path },
        _ => ClaimError::Io { path, source },
    }
}

fn is_device(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.file_type().is_block_device())
}

/// O_EXCL on a device makes the kernel refuse mounts and other exclusive users for as long as it is open.
fn open(path: &Path, write: bool, exclusive: bool) -> io::Result<OwnedFd> {
    let flags = if exclusive { OFlags::EXCL | OFlags::CLOEXEC } else { OFlags::CLOEXEC };
    let file =
        std::fs::OpenOptions::new().read(true).write(write).custom_flags(flags.bits().cast_signed()).open(path)?;
    Ok(file.into())
}

/// Sees whether a device is used exclusively, without keeping it so.
fn look(path: &Path) -> io::Result<()> {
    let mut looked = open(path, false, true);
    for _ in 1..LOOKS {
        match &looked {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
            _ => break,
        }
        std::thread::sleep(BETWEEN_LOOKS);
        looked = open(path, false, true);
    }
    looked.map(drop)
}

/// Part of a file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    start: i64,
    /// 0: up to the end.
    len: i64,
}

impl Range {
    const WHOLE: Self = Self { start: 0, len: 0 };
}

/// What a loop device, or a partition of one, stands on.
#[derive(Debug, PartialEq, Eq)]
struct Backing {
    path: PathBuf,
    range: Range,
}

impl Backing {
    /// `None` for other devices, and where the kernel does not tell.
    fn of(disk: BorrowedFd<'_>) -> Option<Self> {
        let number = rustix::fs::fstat(disk).ok()?.st_rdev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        Self::in_sysfs(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
    }

    fn in_sysfs(device: &Path) -> Option<Self> {
        let text = |path: PathBuf| std::fs::read_to_string(path).ok();
        let number = |path: PathBuf| text(path)?.trim().parse::<i64>().ok();
        let is_partition = device.join("partition").exists();
        let whole = if is_partition { device.join("..") } else { device.to_owned() };
        let path = text(whole.join("loop/backing_file"))?;
        let offset = number(whole.join("loop/offset"))?;
        let range = if is_partition {
            // sysfs counts in sectors of 512 bytes, whatever the device's are.
            let bytes = |name: &str| number(device.join(name))?.checked_mul(512);
            Range { start: offset.checked_add(bytes("start")?)?, len: bytes("size")? }
        } else {
            Range { start: offset, len: number(whole.join("loop/sizelimit"))? }
        };
        Some(Self { path: PathBuf::from(path.trim_end_matches('\n')), range })
    }
}

/// Locks part of a file, for the open file description: unlike a process's lock it is not lost when the process closes
/// another descriptor of the same file.
fn lock(fd: BorrowedFd<'_>, kind: libc::c_int, part: Range) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::c_short::try_from(kind).unwrap_or(0);
    range.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or(0);
    range.l_start = part.start;
    range.l_len = part.len;
    // SAFETY: F_OFD_SETLK reads one `flock`, which lives until the call returns.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_device_and_its_partitions_show_parts_of_a_file() {
        let sysfs = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = sysfs.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("loop0/loop/backing_file", "/images/a b.img\n");
        write("loop0/loop/offset", "4096\n");
        write("loop0/loop/sizelimit", "0\n");
        write("loop0/loop0p1/partition", "1\n");
        write("loop0/loop0p1/start", "2048\n");
        write("loop0/loop0p1/size", "100\n");
        write("sda/size", "100\n");
        let path = PathBuf::from("/images/a b.img");
        let whole = Backing { path: path.clone(), range: Range { start: 4096, len: 0 } };
        assert_eq!(Backing::in_sysfs(&sysfs.path().join("loop0")), Some(whole));
        let part = Backing { path, range: Range { start: 4096 + 2048 * 512, len: 100 * 512 } };
        assert_eq!(Backing::in_sysfs(&sysfs.path().join("loop0/loop0p1")), Some(part));
        assert_eq!(Backing::in_sysfs(&sysfs.path().join("sda")), None);
    }

    #[test]
    fn parts_of_a_file_that_do_not_overlap_do_not_disturb_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        std::fs::write(&path, "x").unwrap();
        let locked = |start, len| {
            let fd = open(&path, true, false).unwrap();
            lock(fd.as_fd(), libc::F_WRLCK, Range { start, len }).map(|()| fd)
        };
        let first = locked(0, 100).unwrap();
        let _second = locked(100, 100).unwrap();
        assert!(locked(99, 1).is_err());
        assert!(Claim::take(&path, Sharing::Exclusive).is_err());
        drop(first);
        assert!(locked(99, 1).is_ok());
    }
}
