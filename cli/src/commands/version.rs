//! `lunfs version`: what is installed, and what it can read.

use std::process::ExitCode;

use clap::Args;
use fs_core::format::superblock;

use super::{Command, Run};
use crate::output::{Format, Printer};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Version>("version");

/// Print the version, and the disk formats that this version reads and writes
#[derive(Debug, Args)]
pub(crate) struct Version {
    #[command(flatten)]
    format: Format,
}

impl Run for Version {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(self.format);
        out.field("version", env!("CARGO_PKG_VERSION"))?;
        out.field("fs_format_min", superblock::FORMAT_MIN)?;
        out.field("fs_format_max", superblock::FORMAT_MAX)?;
        out.field("lock_protocol", superblock::LOCK_PROTOCOL)?;
        out.field("license", env!("CARGO_PKG_LICENSE"))?;
        out.finish()
    }
}
