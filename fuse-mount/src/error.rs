//! Why a volume could not be mounted or unmounted: each message says what is wrong and what to do.

use std::io;
use std::path::PathBuf;

use block::OpenError;
use block::claim::ClaimError;
use fs_core::error::FsError;
pub use fs_core::error::one_line;

/// Exit statuses of mount(8) and its helpers.
pub mod status {
    /// All is well.
    pub const OK: u8 = 0;
    /// Wrong use, or no permission.
    pub const USAGE: u8 = 1;
    /// The system lacks something.
    pub const SYSTEM: u8 = 2;
    /// The user interrupted it.
    pub const INTERRUPTED: u8 = 8;
    /// This device cannot be mounted there, or not be unmounted.
    pub const FAILED: u8 = 32;
}

/// Why a mount or an unmount failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Mounting needs root.
    #[error("only root can do this (try it with sudo)")]
    NotRoot,
    /// Somebody keeps the volume as it is.
    #[error("{}: is frozen; thaw it first (lunfs thaw {})", path.display(), path.display())]
    Frozen {
        /// Where it is mounted.
        path: PathBuf,
    },
    /// The kernel does not change a mount.
    #[error("{}: the kernel refuses to remount it{}", target.display(),
        if source.raw_os_error() == Some(16) { " while files are open for writing (lsof or fuser -m shows who has them)" } else { "" })]
    Remount {
        /// Where it is mounted.
        target: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The daemon does not change a mount.
    #[error("{}: cannot be remounted", target.display())]
    RemountRefused {
        /// Where it is mounted.
        target: PathBuf,
        /// What the daemon said.
        #[source]
        source: Box<crate::control::client::ControlError>,
    },
    /// No such option.
    #[error("unknown option '{0}' (lunfs help mount lists them)")]
    UnknownOption(String),
    /// An option has a value that it cannot have.
    #[error("option '{option}': {expected}")]
    BadValue {
        /// The option as it was given.
        option: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// An option that this version cannot honour.
    #[error("option '{option}': not in this version: {reason}; leave it out")]
    NotYet {
        /// The option as it was given.
        option: String,
        /// What is missing.
        reason: &'static str,
    },
    /// Several nodes cannot be coordinated yet.
    #[error("this version can mount on one node only: add '-o single', and mount the volume nowhere else meanwhile")]
    NeedsSingle,
    /// FUSE is not there.
    #[error("/dev/fuse cannot be opened; load the module (modprobe fuse), or give this container access to the device")]
    NoFuse(#[source] io::Error),
    /// UUID= or LABEL= without such a volume.
    #[error("{spec}: no such volume (lsblk -f lists labels and UUIDs)")]
    NoSuchVolume {
        /// What was asked for.
        spec: String,
    },
    /// The mount point cannot be used.
    #[error("mount point {}: {problem}", path.display())]
    Target {
        /// The mount point.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The mount point cannot be looked at.
    #[error("mount point {}", path.display())]
    TargetLookup {
        /// The mount point.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A limit that this process may not lift would end it.
    #[error("files of this process are limited to {limit_bytes} bytes, which is less than {} has; raise the limit first (ulimit -f unlimited)", image.display())]
    FileSizeLimit {
        /// The image file.
        image: PathBuf,
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// Something else hides the mount.
    #[error("{}: something else is mounted over it; unmount that first", path.display())]
    Covered {
        /// The mount point.
        path: PathBuf,
    },
    /// A living daemon has the device, and its mount cannot be seen.
    #[error("{} is in use by a mount that cannot be seen from here (process {pid}): it was detached while somebody used it, or is in another mount namespace; it ends when its last user has gone", device.display())]
    MountedUnseen {
        /// The device.
        device: PathBuf,
        /// Its daemon.
        pid: u32,
    },
    /// A living daemon has the device.
    #[error("{} is mounted already on {} (process {pid}); umount it there first", device.display(), mounted_on.display())]
    MountedAlready {
        /// The device.
        device: PathBuf,
        /// Where.
        mounted_on: PathBuf,
        /// Its daemon.
        pid: u32,
    },
    /// The device is in use.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The device cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something else is on the device.
    #[error("{} is not a volume of lunfs or GFS2 (it holds {found}); check the name with lsblk -f, or make a volume with mkfs.lunfs", device.display())]
    Foreign {
        /// The device.
        device: PathBuf,
        /// What it holds instead.
        found: String,
    },
    /// What the device contains cannot be mounted.
    #[error("{} cannot be mounted", device.display())]
    Volume {
        /// The device.
        device: PathBuf,
        /// Why not.
        #[source]
        source: FsError,
    },
    /// The kernel refused the mount.
    #[error("the kernel refuses to mount on {}", target.display())]
    Refused {
        /// The mount point.
        target: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Something of the operating system failed.
    #[error("{doing} failed")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The daemon ended before it could say anything.
    #[error("the daemon ended before the volume was mounted ({0}); its log tells more (journalctl -t lunfs, or dmesg)")]
    DaemonEnded(std::process::ExitStatus),
    /// The daemon reported an error to the process that started it.
    #[error("{message}")]
    Reported {
        /// Its exit status.
        status: u8,
        /// Its message.
        message: String,
    },
    /// The user interrupted it.
    #[error("interrupted; nothing is mounted")]
    Interrupted,
    /// There is nothing to unmount.
    #[error("{}: not a mounted lunfs volume", path.display())]
    NotMounted {
        /// What was given.
        path: PathBuf,
    },
    /// It is in use.
    #[error("{}: target is busy (lsof and fuser -m show who uses it)", path.display())]
    Busy {
        /// The mount point.
        path: PathBuf,
    },
    /// The kernel refused to unmount.
    #[error("{}: cannot be unmounted", path.display())]
    Unmount {
        /// The mount point.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The volume did not end clean.
    #[error("{}: unmounted, but not everything could be written: {problem}", device.display())]
    NotClean {
        /// The device.
        device: PathBuf,
        /// What went wrong, and what to do.
        problem: String,
    },
}

impl MountError {
    /// The exit status of mount(8) and umount(8). Exhaustive on purpose: a new variant has to choose.
    #[must_use]
    pub const fn status(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NotRoot
            | Self::UnknownOption(_)
            | Self::BadValue { .. }
            | Self::NotYet { .. }
            | Self::NeedsSingle => status::USAGE,
            Self::FileSizeLimit { .. } | Self::NoFuse(_) | Self::System { .. } | Self::DaemonEnded(_) => status::SYSTEM,
            Self::Interrupted => status::INTERRUPTED,
            Self::Reported { status, .. } => *status,
            Self::NoSuchVolume { .. }
            | Self::Target { .. }
            | Self::TargetLookup { .. }
            | Self::MountedAlready { .. }
            | Self::MountedUnseen { .. }
            | Self::Covered { .. }
            | Self::Claim(_)
            | Self::Open(_)
            | Self::Volume { .. }
            | Self::Foreign { .. }
            | Self::Refused { .. }
            | Self::Frozen { .. }
            | Self::Remount { .. }
            | Self::RemountRefused { .. }
            | Self::NotMounted { .. }
            | Self::Busy { .. }
            | Self::Unmount { .. }
            | Self::NotClean { .. } => status::FAILED,
        }
    }

    /// What failed, for `map_err`.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_in_one_line_and_only_once() {
        let source = io::Error::from_raw_os_error(2);
        let error = MountError::System { doing: "reading\nsomething", source };
        assert_eq!(one_line(&error), "reading something failed: No such file or directory (os error 2)");
        assert_eq!(one_line(&MountError::NotRoot), MountError::NotRoot.to_string());
    }
}
