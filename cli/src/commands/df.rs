//! `lunfs df`: space on mounted volumes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use fuse_mount::control::Volume;
use fuse_mount::control::client::Daemon;
use serde_json::Value;

use super::{Command, Run};
use crate::output::{Format, Printer, Show, escape, human_bytes};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Df>("df");

/// Show the space of mounted volumes, and how they are mounted
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// Mount points or devices [default: all volumes that are mounted here]
    spec: Vec<PathBuf>,
    #[command(flatten)]
    format: Format,
}

impl Run for Df {
    fn run(self) -> anyhow::Result<ExitCode> {
        let volumes = if self.spec.is_empty() {
            // One that ends at this moment is not mounted any more.
            Daemon::all().iter().filter_map(|daemon| daemon.volume().ok()).collect()
        } else {
            self.spec.iter().map(|spec| Daemon::of(spec)?.volume()).collect::<Result<Vec<_>, _>>()?
        };
        let mut out = Printer::new(self.format);
        out.table(
            "volumes",
            &[
                ("size", 10),
                ("used", 10),
                ("free", 10),
                ("use", 5),
                ("inodes", 10),
                ("state", 10),
                ("label", 12),
                ("device", 24),
                ("mounted_on", 8),
            ],
        )?;
        for volume in &volumes {
            let bytes = |blocks: u64| Bytes(blocks.saturating_mul(volume.block_size_bytes.into()));
            let used = volume.blocks_total.saturating_sub(volume.blocks_free);
            let percent = used.saturating_mul(100).div_ceil(volume.blocks_total.max(1));
            out.row(&[
                &bytes(volume.blocks_total),
                &bytes(used),
                &bytes(volume.blocks_free),
                &Percent(percent),
                &volume.inodes_used,
                &state(volume),
                &escape(volume.label.as_bytes()),
                &escape(volume.device.as_os_str().as_encoded_bytes()),
                &escape(volume.mounted_on.as_os_str().as_encoded_bytes()),
            ])?;
        }
        out.end()?;
        out.finish()
    }
}

fn state(volume: &Volume) -> &'static str {
    match (volume.frozen, volume.read_only) {
        (true, _) => "frozen",
        (false, true) => "read-only",
        (false, false) => "writable",
    }
}

/// An amount in bytes.
struct Bytes(u64);

impl Show for Bytes {
    fn value(&self) -> Value {
        self.0.into()
    }
    fn text(&self) -> String {
        human_bytes(self.0)
    }
}

/// A part of a hundred.
struct Percent(u64);

impl Show for Percent {
    fn value(&self) -> Value {
        self.0.into()
    }
    fn text(&self) -> String {
        format!("{}%", self.0)
    }
}
