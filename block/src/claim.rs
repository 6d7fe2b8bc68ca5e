//! Claims: this host uses a disk, and who else wants it here is told so.
//!
//! Laws
//! * A claim lives as long as its descriptor, and with that as long as the last process that inherited it. Nothing is
//!   left behind by a process that dies.
//! * A claim orders processes of one host. It says nothing about other hosts.

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
    fd: OwnedFd,
    path: PathBuf,
    sharing: Sharing,
}

impl Claim {
    /// Claims a block device or an image file. Does not wait.
    ///
    /// # Errors
    /// `InUse`, `Io`.
    pub fn take(path: &Path, sharing: Sharing) -> Result<Self, ClaimError> {
        let failed = |source| claim_failed(path, source);
        let is_device = std::fs::metadata(path).map_err(failed)?.file_type().is_block_device();
        let fd = match sharing {
            // O_EXCL on a device makes the kernel refuse mounts and other exclusive users for as long as it is open.
            Sharing::Exclusive => open(path, true, is_device).map_err(failed)?,
            Sharing::Shared => {
                if is_device {
                    look(path).map_err(failed)?;
                }
                open(path, false, false).map_err(failed)?
            }
        };
        let kind = match sharing {
            Sharing::Exclusive => libc::F_WRLCK,
            Sharing::Shared => libc::F_RDLCK,
        };
        lock(fd.as_fd(), kind).map_err(failed)?;
        Ok(Self { fd, path: path.to_owned(), sharing })
    }

    /// What is claimed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// With whom it is used.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }
}

impl AsFd for Claim {
    /// The descriptor that carries the claim; a duplicate, or a child that inherits it, prolongs it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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

/// Locks the whole file, for the open file description: unlike a process's lock it is not lost when the process closes
/// another descriptor of the same file.
fn lock(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::c_short::try_from(kind).unwrap_or(0);
    range.l_whence = libc::c_short::try_from(libc::SEEK_SET).unwrap_or(0);
    // SAFETY: F_OFD_SETLK reads one `flock`, which lives until the call returns.
    let answer = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
