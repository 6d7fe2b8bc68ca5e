//! `lunfs thaw`: the end of a freeze.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fuse_mount::control::Command as Request;
use fuse_mount::control::client::Daemon;

use super::{Command, Run};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Thaw>("thaw");

/// Let changes go on that 'lunfs freeze' holds back
#[derive(Debug, Args)]
pub(crate) struct Thaw {
    /// Mount point or device
    spec: PathBuf,
}

impl Run for Thaw {
    fn run(self) -> anyhow::Result<ExitCode> {
        Daemon::of(&self.spec)?.call(Request::Thaw)?;
        Ok(ExitCode::SUCCESS)
    }
}
