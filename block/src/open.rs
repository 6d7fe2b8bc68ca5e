//! Opening: what a path is decides how it is read and written.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::device::{BUFFER_ALIGN_BYTES, BlockDevice, Geometry, IoBuf};
use crate::raw::{Medium, RawDevice, RawFile};
use crate::sys::{self, DirectIo};
use crate::vhdx::{self, VhdxError};

/// Sector size of an image file, in bytes.
const FILE_SECTOR_BYTES: u32 = 512;
/// Largest sector that buffers are aligned for, in bytes.
const SECTOR_MAX_BYTES: u32 = 4096;
const _: () = assert!(SECTOR_MAX_BYTES as usize <= BUFFER_ALIGN_BYTES);

/// How to open a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Nothing will be written.
    pub read_only: bool,
    /// Reads may go through io_uring.
    pub io_uring: bool,
}

impl Default for OpenOptions {
    /// For reading and writing, with io_uring.
    fn default() -> Self {
        Self { read_only: false, io_uring: true }
    }
}

/// Why a device could not be opened. The messages are for users: each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing has this name.
    #[error("{}: no such device or file; check the name (lsblk lists the block devices)", path.display())]
    NotFound {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A directory.
    #[error("{}: is a directory; give the device or image file itself, not where it is mounted", path.display())]
    Directory {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Something that is neither a block device nor a regular file.
    #[error("{}: is a {kind}; give a block device, an image file or a .vhdx file", path.display())]
    NotADisk {
        /// What was to be opened.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The user may not.
    #[error("{}: permission denied; run as root, or get access to it", path.display())]
    Permission {
        /// What was to be opened.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The medium cannot be written.
    #[error("{}: the medium is read-only; open it for reading only (mount -o ro), or make it writable", path.display())]
    ReadOnlyMedium {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Somebody else uses it exclusively.
    #[error("{}: in use by another filesystem, device mapping or program; unmount or stop that first", path.display())]
    Busy {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A device node without a device behind it.
    #[error("{}: there is no device behind this name any more; connect it, or check the name with lsblk", path.display())]
    NoDevice {
        /// What was to be opened.
        path: PathBuf,
    },
    /// Nothing fits in it.
    #[error("{}: has {size_bytes} bytes, less than one sector of {sector_bytes}; make it larger (truncate -s), or check that it was copied whole", path.display())]
    Empty {
        /// What was to be opened.
        path: PathBuf,
        /// How large it is, in bytes.
        size_bytes: u64,
        /// Size of a sector, in bytes.
        sector_bytes: u32,
    },
    /// Sectors of a size that lunfs cannot use.
    #[error("{}: has sectors of {sector_bytes} bytes; lunfs needs sectors of 512 to {SECTOR_MAX_BYTES} bytes", path.display())]
    SectorSize {
        /// What was to be opened.
        path: PathBuf,
        /// Size of a sector, in bytes.
        sector_bytes: u32,
    },
    /// A block device that can only be read through the page cache, which other machines do not see.
    #[error("{}: the device refuses direct I/O, so it cannot be shared; use another device or driver", path.display())]
    DirectRefused {
        /// What was to be opened.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A file that is named .vhdx and is something else.
    #[error("{}: is named .vhdx but is not one (its signature is missing); rename it if it is a plain image", path.display())]
    NotVhdx {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A .vhdx file that cannot be used.
    #[error("{}: cannot be used as a .vhdx disk", path.display())]
    Vhdx {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: VhdxError,
    },
    /// No threads to serve the device.
    #[error("{}: no threads for the device's requests; raise the limit of processes (ulimit -u, TasksMax)", path.display())]
    Threads {
        /// What was to be opened.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The operating system reported another error.
    #[error("{}: {doing} failed", path.display())]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// Whether opening failed only because it was for writing and the medium is read-only. Opening it for reading only
    /// is then worth a try.
    pub fn is_read_only_medium(&self) -> bool {
        matches!(self, Self::ReadOnlyMedium { .. })
    }
}

/// Opens a block device, an image file or a `.vhdx` file, which is recognised by its signature.
///
/// The device is served by threads of this process, which a fork does not take along: a daemon forks first and opens
/// then.
///
/// # Errors
/// One variant of [`OpenError`] for each reason.
pub fn open(path: &Path, options: OpenOptions) -> Result<Arc<dyn BlockDevice>, OpenError> {
    open_through(path, options, FileCache::Bypassed)
}

/// Opens as [`open`] does, but an image file through the page cache. A filesystem allocates the space of many small
/// writes into holes together then, and not while each of them waits; long writes bypass the cache all the same, which
/// would only copy them. For whoever fills a new image and has claimed it.
///
/// # Errors
/// As [`open`].
pub fn open_to_fill(path: &Path, options: OpenOptions) -> Result<Arc<dyn BlockDevice>, OpenError> {
    open_through(path, options, FileCache::Used)
}

/// Whether the page cache stands between us and an image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileCache {
    Bypassed,
    Used,
}

fn open_through(path: &Path, options: OpenOptions, cache: FileCache) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let (fd, medium) = open_medium(path, options.read_only)?;
    match medium {
        Medium::Device => Ok(Arc::new(open_device(path, fd, options)?)),
        Medium::File => open_file(path, fd, options, cache),
    }
}

/// Opens `path` as what it is, through the page cache for now.
fn open_medium(path: &Path, read_only: bool) -> Result<(OwnedFd, Medium), OpenError> {
    // Looked at before it is opened: opening a pipe or a terminal can block or do something.
    let metadata = std::fs::metadata(path).map_err(|source| open_failed(path, source))?;
    let medium = medium_of(path, &metadata)?;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(OFlags::CLOEXEC.bits().cast_signed())
        .open(path)
        .map_err(|source| write_open_failed(path, medium, read_only, source))?;
    let opened = file.metadata().map_err(|source| io_error(path, "asking for its size", source))?;
    if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
        let source = io::Error::other("it was replaced meanwhile");
        return Err(io_error(path, "opening", source));
    }
    Ok((file.into(), medium))
}

fn medium_of(path: &Path, metadata: &Metadata) -> Result<Medium, OpenError> {
    let kind = metadata.file_type();
    let other = if kind.is_block_device() {
        return Ok(Medium::Device);
    } else if kind.is_file() {
        return Ok(Medium::File);
    } else if kind.is_dir() {
        return Err(OpenError::Directory { path: path.to_owned() });
    } else if kind.is_char_device() {
        "character device"
    } else if kind.is_fifo() {
        "pipe"
    } else {
        "socket"
    };
    Err(OpenError::NotADisk { path: path.to_owned(), kind: other })
}

fn write_open_failed(path: &Path, medium: Medium, read_only: bool, source: io::Error) -> OpenError {
    // Some drivers answer "permission denied" where they mean "write-protected".
    if !read_only
        && medium == Medium::Device
        && source.kind() == io::ErrorKind::PermissionDenied
        && std::fs::File::open(path).is_ok_and(|file| sys::device_is_read_only(&file).unwrap_or(false))
    {
        return OpenError::ReadOnlyMedium { path: path.to_owned() };
    }
    open_failed(path, source)
}

fn open_failed(path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    match source.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => OpenError::NotFound { path },
        Some(Errno::ACCESS | Errno::PERM) => OpenError::Permission { path, source },
        Some(Errno::ROFS) => OpenError::ReadOnlyMedium { path },
        Some(Errno::BUSY | Errno::TXTBSY) => OpenError::Busy { path },
        Some(Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM) => OpenError::NoDevice { path },
        Some(Errno::ISDIR) => OpenError::Directory { path },
        _ => OpenError::Io { path, doing: "opening", source },
    }
}

fn io_error(path: &Path, doing: &'static str, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), doing, source }
}

fn threads_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Threads { path: path.to_owned(), source }
}

fn open_device(path: &Path, fd: OwnedFd, options: OpenOptions) -> Result<RawDevice, OpenError> {
    let failed = |doing| move |errno: Errno| io_error(path, doing, errno.into());
    let protected = sys::device_is_read_only(&fd).map_err(failed("asking whether it is read-only"))?;
    if protected && !options.read_only {
        return Err(OpenError::ReadOnlyMedium { path: path.to_owned() });
    }
    let (logical, physical) = sys::device_sectors(&fd).map_err(failed("asking for its sector size"))?;
    if !(512..=SECTOR_MAX_BYTES).contains(&logical) || !logical.is_power_of_two() {
        return Err(OpenError::SectorSize { path: path.to_owned(), sector_bytes: logical });
    }
    let size = sys::device_size(&fd).map_err(failed("asking for its size"))?;
    let geometry = Geometry {
        size_bytes: whole_sectors(path, size, logical)?,
        logical_sector_bytes: logical,
        physical_sector_bytes: physical.max(logical),
        read_only: options.read_only,
        discards: !options.read_only && sys::device_discards(&fd),
    };
    sys::set_direct(&fd, true)
        .map_err(|errno| OpenError::DirectRefused { path: path.to_owned(), source: errno.into() })?;
    RawDevice::start(RawFile::new(fd, Medium::Device, geometry), options.io_uring)
        .map_err(|source| threads_error(path, source))
}

fn open_file(
    path: &Path,
    fd: OwnedFd,
    options: OpenOptions,
    cache: FileCache,
) -> Result<Arc<dyn BlockDevice>, OpenError> {
    let failed = |doing| move |errno: Errno| io_error(path, doing, errno.into());
    let size = sys::file_size(&fd).map_err(failed("asking for its size"))?;
    let size = whole_sectors(path, size, FILE_SECTOR_BYTES)?;
    let mut start = [0; 8];
    sys::read_full(&fd, &mut start, 0).map_err(failed("reading its first bytes"))?;
    let is_vhdx = start == vhdx::SIGNATURE;
    if !is_vhdx && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vhdx")) {
        return Err(OpenError::NotVhdx { path: path.to_owned() });
    }

    if cache == FileCache::Bypassed && !go_direct(&fd) {
        tracing::info!(path = %path.display(), "the filesystem refuses direct I/O for this image: its page cache is used");
    }
    let preferred = sys::file_block_bytes(&fd).map_err(failed("asking for its block size"))?;
    let geometry = Geometry {
        size_bytes: size,
        logical_sector_bytes: FILE_SECTOR_BYTES,
        physical_sector_bytes: preferred.clamp(FILE_SECTOR_BYTES, SECTOR_MAX_BYTES),
        read_only: options.read_only,
        discards: !options.read_only && sys::can_punch_holes(&fd),
    };
    let direct = (cache == FileCache::Used).then(|| sys::open_again(&fd).ok()).flatten();
    let mut file = RawFile::new(fd, Medium::File, geometry);
    if let Some(direct) = direct.filter(go_direct) {
        file = file.write_long_through(direct);
    }
    let raw = RawDevice::start(file, options.io_uring).map_err(|source| threads_error(path, source))?;
    if is_vhdx {
        let disk = vhdx::VhdxDevice::open(raw).map_err(|source| OpenError::Vhdx { path: path.to_owned(), source })?;
        return Ok(Arc::new(disk));
    }
    Ok(Arc::new(raw))
}

/// Switches to direct I/O where that works for single sectors; says whether it does. Images have sectors of 512 bytes
/// whatever the disk below has, so that an image made elsewhere can be used here.
fn go_direct(fd: &OwnedFd) -> bool {
    match sys::direct_io(fd) {
        DirectIo::None => return false,
        DirectIo::AlignedTo(bytes) if bytes > FILE_SECTOR_BYTES => return false,
        DirectIo::AlignedTo(_) | DirectIo::Unknown => {}
    }
    if sys::set_direct(fd, true).is_err() {
        return false;
    }
    // The filesystem may agree to the flag and refuse the first request.
    let mut sector = IoBuf::zeroed(FILE_SECTOR_BYTES as usize);
    if sys::read_full(fd, &mut sector, 0).is_ok() {
        return true;
    }
    if let Err(error) = sys::set_direct(fd, false) {
        tracing::warn!(%error, "direct I/O cannot be switched off again");
    }
    false
}

/// The part of `size_bytes` that is whole sectors, if there is any.
fn whole_sectors(path: &Path, size_bytes: u64, sector_bytes: u32) -> Result<u64, OpenError> {
    let whole = size_bytes - size_bytes % u64::from(sector_bytes);
    if whole == 0 {
        return Err(OpenError::Empty { path: path.to_owned(), size_bytes, sector_bytes });
    }
    Ok(whole)
}
