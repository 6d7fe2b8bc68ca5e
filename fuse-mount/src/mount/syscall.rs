//! mount(2), umount(2) and /dev/fuse.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::mount::{MountFlags, UnmountFlags};

use super::mountinfo::{self, FsId};
use super::options::Options;

/// How a volume is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsType {
    /// The kernel knows nothing of a device.
    Fuse,
    /// The kernel holds the device exclusively, passes syncfs(2) on, and umount(2) waits for the daemon.
    FuseBlk,
}

impl FsType {
    /// Type and subtype. umount(8) looks for a helper of this name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fuse => "fuse.lunfs",
            Self::FuseBlk => "fuseblk.lunfs",
        }
    }
}

/// Smallest block that a device can be told to have, in bytes.
const DEVICE_BLOCK_MIN_BYTES: u32 = 512;

/// Opens a new connection to the kernel.
///
/// # Errors
/// What the operating system says.
pub fn open_fuse() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// What is mounted.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// How.
    pub kind: FsType,
    /// What the list of mounts shows; for `FuseBlk`, the device.
    pub device: &'a Path,
    /// Its smallest unit, in bytes. Only for `FuseBlk`.
    pub sector_bytes: u32,
}

/// Mounts the filesystem that will answer at `fuse` on the directory `target`.
///
/// `FuseBlk`: the device must be known to have no filesystem of FUSE on it that is mounted already, or was and is still
/// open somewhere. The kernel would attach `target` to that one, without an error.
///
/// # Errors
/// What the operating system says.
pub fn mount(fuse: &OwnedFd, source: Source<'_>, target: &Path, options: &Options) -> io::Result<()> {
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        fuse.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    if source.kind == FsType::FuseBlk {
        // A device refuses blocks that are smaller than its own.
        data.push_str(&format!(",blksize={}", source.sector_bytes.max(DEVICE_BLOCK_MIN_BYTES)));
    }
    for context in &options.security {
        data.push(',');
        data.push_str(context);
    }
    let data = CString::new(data)?;
    Ok(rustix::mount::mount(source.device, target, source.kind.name(), options.flags, Some(data.as_c_str()))?)
}

/// Changes the flags of what is visible at `point`, and of its filesystem.
///
/// # Errors
/// What the operating system says, `EBUSY` among it when it shall be read-only and files are open for writing.
pub fn remount(point: &Path, flags: MountFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(point, flags, c"")?)
}

/// Unmounts what is visible at `point`.
///
/// # Errors
/// What the operating system says, `EBUSY` among it.
pub fn unmount(point: &Path, flags: UnmountFlags) -> io::Result<()> {
    Ok(rustix::mount::unmount(point, flags | UnmountFlags::NOFOLLOW)?)
}

/// Unmounts every mount of one filesystem that this process sees, the covering ones first.
///
/// # Errors
/// The first error; the others have been tried all the same.
pub fn unmount_all(fs: FsId, flags: UnmountFlags) -> io::Result<()> {
    let mut result = Ok(());
    for mount in mountinfo::read()?.iter().rev().filter(|mount| mount.fs == fs && mount.is_ours()) {
        let unmounted =
            if is_covered(mount) { Err(io::ErrorKind::ResourceBusy.into()) } else { unmount(&mount.point, flags) };
        result = result.and(unmounted);
    }
    result
}

/// Whether something else is mounted over a mount. Unmounting by its path would take away what is on top.
pub fn is_covered(mount: &mountinfo::Mount) -> bool {
    // Without asking the filesystem's server, who may not answer.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(CWD, &mount.point, flags, StatxFlags::empty())
        .is_ok_and(|stat| (FsId { major: stat.stx_dev_major, minor: stat.stx_dev_minor }) != mount.fs)
}

/// Makes the kernel send what it holds back for one filesystem.
///
/// # Errors
/// What the operating system says, and when nothing of it is mounted here.
pub fn sync(fs: FsId) -> io::Result<()> {
    let mounts = mountinfo::read()?;
    let mount = mounts.iter().rev().find(|mount| mount.fs == fs).ok_or(io::ErrorKind::NotFound)?;
    Ok(rustix::fs::syncfs(std::fs::File::open(&mount.point)?)?)
}

/// Lets the kernel read ahead further than FUSE's default of 128 KiB: one request can carry 1 MiB. Not being allowed to
/// costs nothing but speed.
pub fn set_readahead(fs: FsId, bytes: u32) {
    // On a device, the device's own settings have the plain name.
    let suffix = if fs.major == 0 { "" } else { "-fuseblk" };
    let path = format!("/sys/class/bdi/{fs}{suffix}/read_ahead_kb");
    if let Err(error) = std::fs::write(&path, (bytes >> 10).to_string()) {
        tracing::debug!(%error, path, "readahead keeps its default");
    }
}

/// The number of the filesystem that is mounted at `point`.
///
/// # Errors
/// When mountinfo cannot be read, or nothing of ours is there.
pub fn mounted_at(point: &Path) -> io::Result<FsId> {
    let mounts = mountinfo::read()?;
    let mount = mountinfo::at(&mounts, point).filter(|mount| mount.is_ours());
    mount.map(|mount| mount.fs).ok_or_else(|| {
        let shown = point.as_os_str().as_bytes().escape_ascii();
        io::Error::new(io::ErrorKind::NotFound, format!("nothing of ours is mounted on {shown}"))
    })
}
