//! What a volume is made on: a device or file that exists and that nobody uses, or a new file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use block::OpenOptions;
use block::claim::{Claim, ClaimError, Sharing};
use block::device::{BlockDevice, Geometry};
use block::vhdx::{self, Kind};

/// Sector of image files, in bytes.
const FILE_SECTOR_BYTES: u32 = 512;
/// What a disk below an image file is expected to have, in bytes.
const USUAL_SECTOR_BYTES: u32 = 4096;

/// An open target, claimed for this process.
pub(super) struct Target {
    device: Arc<dyn BlockDevice>,
    _claim: Claim,
    /// The file, if it was made by us.
    new: Option<PathBuf>,
}

/// What a file that has to be made will be like; `None` when `path` exists.
pub(super) fn expected_geometry(path: &Path, size: Option<u64>) -> anyhow::Result<Option<Geometry>> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(None);
    }
    let name = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).with_context(|| format!("{name}: no such device or file"))?;
    // A wrong name of a device would become a file in memory.
    let is_device_name = folder.starts_with("/dev") && !folder.starts_with("/dev/shm");
    match size {
        Some(size) if !is_device_name => {
            let whole = size.checked_next_multiple_of(u64::from(FILE_SECTOR_BYTES));
            Ok(Some(Geometry {
                size_bytes: whole.with_context(|| format!("{name}: no file can have {size} bytes"))?,
                logical_sector_bytes: FILE_SECTOR_BYTES,
                physical_sector_bytes: USUAL_SECTOR_BYTES,
                read_only: false,
                discards: true,
            }))
        }
        Some(_) => anyhow::bail!("{name}: no such device; check the name (lsblk lists the block devices)"),
        None => anyhow::bail!("{name}: no such device or file; check the name, or give a SIZE to make an image file"),
    }
}

/// Opens what exists to look at it.
pub(super) fn open_read_only(path: &Path) -> anyhow::Result<Arc<dyn BlockDevice>> {
    Ok(block::open(path, OpenOptions { read_only: true, ..OpenOptions::default() })?)
}

impl Target {
    /// Opens `path`, or makes a file of `size` there.
    pub(super) fn open(path: &Path, size: Option<u64>) -> anyhow::Result<Self> {
        let new = expected_geometry(path, size)?.map(|geometry| create(path, geometry.size_bytes)).transpose()?;
        let opened = Self::claim_and_open(path);
        match opened {
            Ok((claim, device)) => Ok(Self { device, _claim: claim, new }),
            Err(error) => {
                remove(new.as_deref());
                Err(error)
            }
        }
    }

    fn claim_and_open(path: &Path) -> anyhow::Result<(Claim, Arc<dyn BlockDevice>)> {
        refuse_loop_backing(path)?;
        let options = OpenOptions { io_uring: false, ..OpenOptions::default() };
        // A .vhdx file may be repaired by opening it, so it is claimed before.
        let claim = match Claim::take(path, Sharing::Exclusive) {
            Ok(claim) => claim,
            Err(error @ ClaimError::InUse { .. }) => return Err(error.into()),
            Err(error) => {
                // Opening knows better words for what is wrong with the name.
                block::open(path, options)?;
                return Err(error.into());
            }
        };
        Ok((claim, block::open_to_fill(path, options)?))
    }

    /// What to write to.
    pub(super) fn device(&self) -> &dyn BlockDevice {
        self.device.as_ref()
    }

    /// A file that was made for a volume that could not be made is of no use.
    pub(super) fn remove_if_new(&self) {
        remove(self.new.as_deref());
    }
}

fn remove(file: Option<&Path>) {
    if let Some(file) = file {
        // What matters is the error that came before.
        let _ = fs::remove_file(file);
    }
}

fn create(path: &Path, size_bytes: u64) -> anyhow::Result<PathBuf> {
    let is_vhdx = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vhdx"));
    if is_vhdx {
        vhdx::create(path, size_bytes, Kind::Dynamic, FILE_SECTOR_BYTES)
            .with_context(|| format!("{}: cannot be made", path.display()))?;
    } else {
        let made = File::create_new(path).with_context(|| format!("{}: cannot be made", path.display()))?;
        if let Err(error) = made.set_len(size_bytes) {
            remove(Some(path));
            return Err(error).with_context(|| format!("{}: cannot have {size_bytes} bytes", path.display()));
        }
    }
    Ok(path.to_owned())
}

/// A file that a loop device stands on is in use by whoever uses that.
fn refuse_loop_backing(path: &Path) -> anyhow::Result<()> {
    let Ok(wanted) = fs::canonicalize(path) else { return Ok(()) };
    let Ok(devices) = fs::read_dir("/sys/block") else { return Ok(()) };
    for device in devices.flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        if backing.is_ok_and(|backing| Path::new(backing.trim_end_matches('\n')) == wanted) {
            let name = device.file_name();
            let name = name.to_string_lossy();
            anyhow::bail!(
                "{}: in use by /dev/{name}; make the volume on that, or detach it first (losetup -d /dev/{name})",
                path.display()
            );
        }
    }
    Ok(())
}
