//! Where quotas are read and set: through the daemon of a mount, or on a device that is claimed meanwhile.

use std::io;
use std::path::Path;
use std::sync::Arc;

use block::OpenOptions;
use block::claim::{Claim, ClaimError, Sharing};
use block::device::BlockDevice;
use fs_core::fs::{Fs, MountOptions};
use fs_core::quota::{Kind, Mode, Quota, QuotaId, SetQuota};
use fuse_mount::daemon::clock::Clock;
use fuse_mount::daemon::registry::{Registered, State};
use fuse_mount::mount::spec;
use fuse_mount::quota::{Mounted, Record, kind, mode, set};
use tokio::runtime::Runtime;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing changes, but that journals are replayed.
    Look,
    /// Something changes.
    Change,
}

/// A volume.
pub(super) enum Source {
    /// Mounted, by us.
    Mount { mounted: Mounted, block_bytes: u64, mode: Mode },
    /// Not mounted: ours until it is closed.
    Device(Device),
}

/// A device with a volume, mounted within this process only.
pub(super) struct Device {
    runtime: Runtime,
    fs: Arc<Fs>,
    block_bytes: u64,
    _claim: Claim,
}

/// The device of `spec`, if it is not a directory, and the mount point, if it is mounted.
pub(super) fn place(spec: &Path) -> anyhow::Result<(std::path::PathBuf, bool)> {
    if spec.is_dir() {
        return Ok((spec.to_owned(), true));
    }
    let device = spec::resolve(spec)?;
    let serving = Registered::serving(&device).filter(|daemon| daemon.record.state == State::Serving);
    Ok(serving.map_or((device, false), |daemon| (daemon.record.mounted_on, true)))
}

impl Source {
    pub(super) fn open(spec: &Path, access: Access) -> anyhow::Result<Self> {
        match place(spec)? {
            (directory, true) => Self::mounted(&directory),
            (device, false) => Device::open(&device, access).map(Self::Device),
        }
    }

    fn mounted(directory: &Path) -> anyhow::Result<Self> {
        let mounted = Mounted::open(directory)?;
        // Everybody may ask for his own; the answer says what the mount does.
        let own = mounted.get(kind::USER, rustix::process::geteuid().as_raw()).map_err(explain)?;
        let block_bytes = rustix::fs::statvfs(directory)?.f_frsize;
        Ok(Self::Mount { mounted, block_bytes, mode: mode_of(own.mode) })
    }

    /// Size of a block, in bytes.
    pub(super) const fn block_bytes(&self) -> u64 {
        match self {
            Self::Mount { block_bytes, .. } => *block_bytes,
            Self::Device(device) => device.block_bytes,
        }
    }

    /// What the mount does about quotas, if there is one.
    pub(super) const fn mode(&self) -> Option<Mode> {
        match self {
            Self::Mount { mode, .. } => Some(*mode),
            Self::Device(_) => None,
        }
    }

    pub(super) fn get(&self, id: QuotaId) -> anyhow::Result<Quota> {
        match self {
            Self::Mount { mounted, .. } => {
                let (kind, number) = numbers(id);
                Ok(quota_of(&mounted.get(kind, number).map_err(explain)?))
            }
            Self::Device(device) => Ok(device.runtime.block_on(device.fs.quota(id))?),
        }
    }

    fn next(&self, from: QuotaId) -> anyhow::Result<Option<Quota>> {
        match self {
            Self::Mount { mounted, .. } => {
                let (kind, number) = numbers(from);
                Ok(mounted.next(kind, number).map_err(explain)?.as_ref().map(quota_of))
            }
            Self::Device(device) => Ok(device.runtime.block_on(device.fs.quota_next(from))?),
        }
    }

    pub(super) fn set(&self, id: QuotaId, change: &SetQuota) -> anyhow::Result<Quota> {
        match self {
            Self::Mount { mounted, .. } => {
                let (kind, number) = numbers(id);
                let bit = |given: Option<u64>, bit| if given.is_some() { bit } else { 0 };
                let record = Record {
                    kind,
                    id: number,
                    limit_blocks: change.limit_blocks.unwrap_or(0),
                    warn_blocks: change.warn_blocks.unwrap_or(0),
                    used_blocks: change.used_blocks.unwrap_or(0),
                    set: bit(change.limit_blocks, set::LIMIT)
                        | bit(change.warn_blocks, set::WARN)
                        | bit(change.used_blocks, set::USED),
                    mode: 0,
                };
                Ok(quota_of(&mounted.set(record).map_err(explain)?))
            }
            Self::Device(device) => Ok(device.runtime.block_on(device.fs.set_quota(id, change))?),
        }
    }

    pub(super) fn sync(&self) -> anyhow::Result<()> {
        match self {
            Self::Mount { mounted, .. } => mounted.sync().map_err(explain),
            Self::Device(device) => Ok(device.runtime.block_on(device.fs.sync_quotas())?),
        }
    }

    /// Calls `show` for everybody of the kind who has anything or a limit; for those who are not root, for themselves.
    pub(super) fn each(&self, kind: Kind, show: &mut dyn FnMut(&Quota) -> anyhow::Result<()>) -> anyhow::Result<()> {
        if matches!(self, Self::Mount { .. }) && !rustix::process::geteuid().is_root() {
            return own(kind)?.into_iter().try_for_each(|id| show(&self.get(id)?));
        }
        let mut from = Some(QuotaId { kind, id: 0 });
        while let Some(at) = from {
            let Some(quota) = self.next(at)? else { break };
            show(&quota)?;
            from = quota.id.id.checked_add(1).map(|id| QuotaId { kind, id });
        }
        Ok(())
    }

    /// Nothing is done any more. On a device, everything is written then.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Mount { .. } => Ok(()),
            Self::Device(device) => Ok(device.runtime.block_on(device.fs.unmount())?),
        }
    }
}

impl Device {
    fn open(path: &Path, access: Access) -> anyhow::Result<Self> {
        let (claim, device) = claim(path, access)?;
        Self::mount(claim, device, access)
    }

    fn mount(claim: Claim, device: Arc<dyn BlockDevice>, access: Access) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        // What is freed on the way counts.
        let options = MountOptions { read_only: access == Access::Look, quota: Mode::Account, ..Default::default() };
        let fs = runtime.block_on(Fs::mount(device, options, Arc::new(Clock)))?;
        let block_bytes = u64::from(runtime.block_on(fs.statfs())?.block_size_bytes);
        Ok(Self { runtime, fs, block_bytes, _claim: claim })
    }
}

/// Claims and opens a device. One that cannot be written to is good enough to look at.
pub(super) fn claim(path: &Path, access: Access) -> anyhow::Result<(Claim, Arc<dyn BlockDevice>)> {
    let open = |read_only| block::open(path, OpenOptions { read_only, io_uring: false });
    match Claim::take(path, Sharing::Exclusive) {
        Ok(claim) => Ok((claim, open(false)?)),
        Err(error @ ClaimError::InUse { .. }) => Err(error.into()),
        Err(error) => match open(false) {
            Err(refused) if access == Access::Look && refused.is_read_only_medium() => {
                Ok((Claim::take(path, Sharing::Shared)?, open(true)?))
            }
            // Opening knows better words for what is wrong with the name.
            Err(better) => Err(better.into()),
            Ok(_) => Err(error.into()),
        },
    }
}

/// The user, or the groups, that this process is.
fn own(kind: Kind) -> anyhow::Result<Vec<QuotaId>> {
    Ok(match kind {
        Kind::User => vec![QuotaId::user(rustix::process::geteuid().as_raw())],
        Kind::Group => {
            let mut groups: Vec<u32> = rustix::process::getgroups()?.iter().map(|group| group.as_raw()).collect();
            groups.push(rustix::process::getegid().as_raw());
            groups.sort_unstable();
            groups.dedup();
            groups.into_iter().map(QuotaId::group).collect()
        }
    })
}

/// What the error of an ioctl means here.
fn explain(error: io::Error) -> anyhow::Error {
    let meaning = match error.kind() {
        io::ErrorKind::PermissionDenied => "only root may do this, and see more than what is his own",
        io::ErrorKind::ReadOnlyFilesystem => "the volume is mounted read-only",
        io::ErrorKind::StorageFull => "there is no room for a record in the quota file",
        io::ErrorKind::InvalidInput => "the daemon of the mount does not understand this: it is of another version",
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOTTY.raw_os_error()) => {
            "not in a mounted volume of lunfs; give a directory of one, or a device"
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) => {
            "the volume has no quota file: it is damaged"
        }
        _ => return anyhow::Error::new(error).context("asking the daemon of the mount"),
    };
    anyhow::anyhow!(meaning)
}

const fn numbers(id: QuotaId) -> (u32, u32) {
    match id.kind {
        Kind::User => (kind::USER, id.id),
        Kind::Group => (kind::GROUP, id.id),
    }
}

const fn mode_of(number: u32) -> Mode {
    match number {
        mode::ACCOUNT => Mode::Account,
        mode::ON => Mode::On,
        mode::QUIET => Mode::Quiet,
        _ => Mode::Off,
    }
}

fn quota_of(record: &Record) -> Quota {
    Quota {
        id: QuotaId { kind: if record.kind == kind::USER { Kind::User } else { Kind::Group }, id: record.id },
        limit_blocks: record.limit_blocks,
        warn_blocks: record.warn_blocks,
        used_blocks: record.used_blocks,
    }
}

/// Mounts the device, changes what `change` asks for, and unmounts it.
pub(super) fn with_device(path: &Path, change: impl FnOnce(&Source) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let source = Source::Device(Device::open(path, Access::Change)?);
    change(&source)?;
    source.close()
}
