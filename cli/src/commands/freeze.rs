//! `lunfs freeze`: a mounted volume stays as it is for a while.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use fuse_mount::control::Command as Request;
use fuse_mount::control::client::Daemon;

use super::{Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Freeze>("freeze");

/// Write everything to disk, and hold back changes until a thaw
///
/// For a snapshot of the device, or a copy: it is a volume that was unmounted cleanly. Programs can read meanwhile; those that
/// change something wait until 'lunfs thaw'.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// Mount point or device
    spec: PathBuf,
}

impl Run for Freeze {
    fn run(self) -> anyhow::Result<ExitCode> {
        let daemon = Daemon::of(&self.spec)?;
        // What was changed through mmap is only in the kernel yet.
        let synced = std::fs::File::open(daemon.mounted_on()).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        synced.with_context(|| format!("{}: writing what the kernel holds back", daemon.mounted_on().display()))?;
        daemon.call(Request::Freeze)?;
        Ok(ExitCode::SUCCESS)
    }
}
