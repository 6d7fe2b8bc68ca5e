//! The process behind a mount: from the device to the last write.
//!
//! Order: claim the device, open it, replay and mount the volume, attach it to the directory, serve. The directory
//! shows the volume only when it can be used, and nothing is attached if anything before has failed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use block::claim::{Claim, ClaimError, Sharing};
use block::device::BlockDevice;
use fs_core::addr::BlockAddr;
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::superblock;
use fs_core::fs::Fs;
use tokio::runtime::Runtime;

use crate::error::{MountError, one_line, status};
use crate::handlers::Handlers;
use crate::mount::options::Options;
use crate::mount::{leftover, mountinfo, spec, syscall, target};

pub mod clock;
pub mod detach;
mod memory;
pub mod registry;
mod serve;

use detach::Reporter;
use registry::{Registered, State};

/// Where errors place a superblock that does not say how large its blocks are: by the usual size of 4096 bytes.
const SUPERBLOCK: BlockAddr = BlockAddr(superblock::OFFSET_BYTES / 4096);

/// One mount that was asked for.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// Device, image file, `UUID=` or `LABEL=`.
    pub spec: PathBuf,
    /// Mount point.
    pub target: PathBuf,
    /// What stands after `-o`.
    pub options: Options,
    /// Everything but the mount itself.
    pub fake: bool,
}

/// Mounts in a daemon of its own: returns when the mount can be used. `daemon_arguments` make this program call
/// [`run_as_daemon`] with the same request.
///
/// # Errors
/// Whatever stops the mount.
pub fn start(request: &MountRequest, daemon_arguments: &[OsString]) -> Result<(), MountError> {
    let places = Places::find(request)?;
    if request.fake {
        return Ok(());
    }
    // What another daemon has is told at once.
    places.refuse_if_mounted()?;
    detach::start(daemon_arguments)
}

/// Mounts and serves in this process, until the volume is unmounted.
///
/// # Errors
/// Whatever stops the mount, and what keeps it from ending clean.
pub fn run_in_front(request: &MountRequest) -> Result<(), MountError> {
    crate::log::start(true);
    run(request, &mut Reporter::nobody())
}

/// The same, as the daemon that [`start`] waits for. To be called before anything else in the process. Returns the exit
/// status.
#[must_use]
pub fn run_as_daemon(request: &MountRequest) -> u8 {
    let Ok(mut reporter) = Reporter::of_daemon() else { return status::SYSTEM };
    crate::log::start(false);
    let Err(error) = run(request, &mut reporter) else { return status::OK };
    let line = one_line(&error);
    if reporter.is_reporting() {
        reporter.report(error.status(), &line);
    } else {
        // The command that started this daemon has gone long ago.
        tracing::error!("{line}");
    }
    error.status()
}

/// Device and mount point, as absolute paths.
#[derive(Debug)]
struct Places {
    device: PathBuf,
    target: PathBuf,
}

impl Places {
    /// Checks what can be checked without touching the device.
    fn find(request: &MountRequest) -> Result<Self, MountError> {
        if !rustix::process::geteuid().is_root() {
            return Err(MountError::NotRoot);
        }
        if !request.options.single {
            return Err(MountError::NeedsSingle);
        }
        syscall::open_fuse().map_err(MountError::NoFuse)?;
        let device = spec::resolve(&request.spec)?;
        let target = target::resolve(&request.target)?;
        if !request.fake {
            leftover::clear_target(&target)?;
        }
        if let Err(error) = target::check(&target) {
            // Killed a moment ago: the kernel knows, and the daemon's last files are just being closed.
            if request.fake || !leftover::wait_for_dying(&target)? {
                return Err(error);
            }
            leftover::clear_target(&target)?;
            target::check(&target)?;
        }
        Ok(Self { device, target })
    }

    /// Refuses what a living daemon serves. One that is on its way out is waited for; whether there was one.
    fn refuse_if_mounted(&self) -> Result<bool, MountError> {
        let mut waited = false;
        while let Some(mut daemon) = Registered::serving(&self.device) {
            let record = daemon.refresh().map_err(MountError::system("reading /run/lunfs"))?.clone();
            if record.state == State::Serving {
                return Err(mounted_already(record));
            }
            daemon.wait().map_err(MountError::system("waiting for the daemon of an earlier mount"))?;
            waited = true;
        }
        Ok(waited)
    }

    /// A write beyond the limit of a file's size does not only fail, it ends the process.
    fn check_limit(&self, size_bytes: u64) -> Result<(), MountError> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        match limit.filter(|limit| *limit < size_bytes) {
            Some(limit_bytes) if self.device.is_file() => {
                Err(MountError::FileSizeLimit { image: self.device.clone(), limit_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Claims and opens the device. The claim comes first: opening some kinds of image writes to them, and what is
    /// claimed has no living daemon.
    fn open(&self, options: &Options) -> Result<(Claim, Arc<dyn BlockDevice>), MountError> {
        let open = |read_only| block::open(&self.device, block::OpenOptions { read_only, io_uring: options.io_uring });
        let open_claimed = || match open(false) {
            Err(error) if options.fs.read_only && error.is_read_only_medium() => open(true),
            opened => opened,
        };
        match self.claim() {
            Ok(claim) => Ok((claim, open_claimed()?)),
            Err(MountError::Claim(error @ ClaimError::InUse { .. })) => {
                if self.refuse_if_mounted()? {
                    self.open(options)
                } else {
                    Err(MountError::Claim(error))
                }
            }
            // It cannot be opened for writing. Opening it once more says best why not.
            Err(MountError::Claim(error)) => match open(false) {
                Err(error) if options.fs.read_only && error.is_read_only_medium() => {
                    let claim = Claim::take(&self.device, Sharing::Shared)?;
                    leftover::clear_device(&self.device)?;
                    Ok((claim, open(true)?))
                }
                Err(better) => Err(MountError::Open(better)),
                Ok(_) => Err(MountError::Claim(error)),
            },
            Err(error) => Err(error),
        }
    }

    /// Claims the device for writing, and clears away dead mounts of it.
    fn claim(&self) -> Result<Claim, MountError> {
        let mut claim = Claim::against_ours(&self.device)?;
        // The claim proves that they are dead. The kernel holds the device for them.
        leftover::clear_device(&self.device)?;
        match claim.exclude_others() {
            Err(ClaimError::InUse { .. }) if leftover::is_held(&self.device) => {
                // It keeps everybody else from the device, too.
                tracing::warn!("files of an earlier mount, whose daemon is dead, are still open");
            }
            result => result?,
        }
        Ok(claim)
    }
}

/// Says where it is mounted now: it may have been moved, or taken out of the tree.
fn mounted_already(record: registry::Record) -> MountError {
    let mounts = mountinfo::read().unwrap_or_default();
    match mounts.iter().rev().find(|mount| mount.is_ours() && mount.source == record.device) {
        Some(mount) => {
            MountError::MountedAlready { device: record.device, mounted_on: mount.point.clone(), pid: record.pid }
        }
        None => MountError::MountedUnseen { device: record.device, pid: record.pid },
    }
}

fn run(request: &MountRequest, reporter: &mut Reporter) -> Result<(), MountError> {
    memory::keep_large_buffers();
    let options = &request.options;
    let places = Places::find(request)?;
    for option in &options.ignored {
        tracing::debug!(option, "accepted, without a meaning here");
    }
    let fuse = syscall::open_fuse().map_err(MountError::NoFuse)?;
    let (mut claim, device) = places.open(options)?;
    let block::device::Geometry { size_bytes, logical_sector_bytes: sector_bytes, .. } = device.geometry();
    places.check_limit(size_bytes)?;
    // The daemon must not keep the folder busy that it was started in.
    std::env::set_current_dir("/").map_err(MountError::system("changing to the root directory"))?;

    let runtime = runtime()?;
    let mounted = runtime.block_on(Fs::mount(device, options.fs.clone(), Arc::new(clock::Clock)));
    let fs = mounted.map_err(|source| not_mounted(&places.device, source))?;
    let handlers = Arc::new(Handlers::new(Arc::clone(&fs)));
    let volume = serve::Volume { runtime: &runtime, fs, handlers, fuse, claim: &mut claim, sector_bytes };
    let served = serve::serve(volume, &places, options, reporter);
    // The claim goes when the device is idle, then the sign of it, and then whoever waits for the end hears of it.
    runtime.shutdown_background();
    drop(claim);
    if let Some(registration) = served.registration {
        registration.take_away();
    }
    drop(served.ended);
    served.result
}

/// Says what is on the device, if it is nothing of ours.
fn not_mounted(device: &Path, source: FsError) -> MountError {
    let device = device.to_owned();
    match source {
        FsError::Corrupt { addr, kind: CorruptKind::BadMagic { .. } } if addr == SUPERBLOCK => {
            let found = spec::probe(&device).unwrap_or_else(|| "nothing that blkid knows".to_owned());
            MountError::Foreign { device, found }
        }
        source => MountError::Volume { device, source },
    }
}

fn runtime() -> Result<Runtime, MountError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("lunfs-worker")
        .build()
        .map_err(MountError::system("starting threads"))
}
