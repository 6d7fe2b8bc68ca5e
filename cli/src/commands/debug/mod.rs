//! `lunfs debug`: decodes anything on the disk.
//!
//! Laws
//! * Opens for reading, takes no lock, writes nothing: it may be used on a volume that is mounted.
//! * Whatever the disk contains, it ends, without a panic; a broken rule is named with its block.
//! * What is sound around something broken is still shown: checks warn, and only what cannot be followed ends.

mod bitmap;
mod block;
mod check;
mod device;
mod dinode;
mod directory;
mod groups;
mod hex;
mod journal;
mod rgrp;
mod sb;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod volume;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ::block::device::BlockDevice;
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use fs_core::addr::{BlockAddr, InodeNo};

use self::volume::Volume;
use super::{Command, Run};
use crate::output::{Format, Printer};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Debug>("debug");

/// Show what is on a disk: read only, safe on a mounted volume
///
/// Exit status is 1 when something on the disk breaks a rule of the format.
#[derive(Debug, Args)]
pub(crate) struct Debug {
    /// Block device, image file or .vhdx file
    device: PathBuf,
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    what: What,
}

/// How to show it.
#[derive(Debug, Clone, Copy, Args)]
struct Options {
    /// Show everything: each extent, each logged block
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

/// What to show.
#[derive(Debug, Subcommand)]
enum What {
    /// The superblock, and what the volume consists of
    Sb,
    /// Resource groups: all of them, or one
    Rgrp {
        /// Which one, counted from 0
        #[arg(value_parser = number)]
        n: Option<u64>,
    },
    /// An inode
    Inode {
        /// Its number, which is the block of its dinode
        #[arg(value_parser = number)]
        n: u64,
    },
    /// The inode that a path leads to
    Path {
        /// From the root of the volume
        path: std::ffi::OsString,
    },
    /// The entries of a directory
    Dir {
        /// Its inode number
        #[arg(value_parser = number)]
        n: u64,
    },
    /// One block, as what it is; a hex dump of what has no type
    Block {
        /// Its number
        #[arg(value_parser = number)]
        n: u64,
    },
    /// A journal: its head and what would be replayed
    Journal {
        /// Which one, counted from 0
        #[arg(value_parser = number)]
        n: u64,
    },
    /// Examine the whole volume: every rule that is broken, with its block
    ///
    /// Exit status is 1 when the volume is damaged, and 0 when there is nothing, or only notes. Nothing is repaired, and
    /// journals are not replayed: mount and unmount the volume first. Each rule is shown a hundred times at most, with
    /// --verbose always.
    Check,
    /// The bitmap of a resource group
    Bitmap {
        /// Which one, counted from 0
        #[arg(value_parser = number)]
        n: u64,
    },
}

/// A number as people write them: decimal, or hexadecimal after 0x.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "give a number, decimal or with 0x before it".to_owned())
}

impl Run for Debug {
    fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let device = device::open(&self.device)?;
        let mut out = Printer::new(Format { json: self.options.json });
        if let Some(use_) = device::in_use(&self.device) {
            if self.options.json {
                out.field("in_use", use_)?;
            } else {
                let meaning = match self.what {
                    What::Check => "what is found may be changes in flight, and no damage",
                    _ => "what is shown may change while it is read",
                };
                eprintln!("{}: {use_}; {meaning}", self.device.display());
            }
        }
        let result = runtime.block_on(show(device, &self.what, &mut out, self.options.verbose));
        out.complete(result.with_context(|| self.device.display().to_string()))
    }
}

/// Shows `what` of the volume on `device`.
async fn show<W: std::io::Write + Send>(
    device: Arc<dyn BlockDevice>,
    what: &What,
    out: &mut Printer<W>,
    verbose: bool,
) -> anyhow::Result<ExitCode> {
    let mut view = View { out, volume: Volume::open(Arc::clone(&device)).await?, verbose };
    if matches!(what, What::Check) {
        return view.check(device).await;
    }
    view.show(what).await?;
    view.problems()
}

/// Where output goes, and what it is about.
struct View<'a, W: std::io::Write> {
    out: &'a mut Printer<W>,
    volume: Volume,
    verbose: bool,
}

impl<W: std::io::Write> View<'_, W> {
    async fn show(&mut self, what: &What) -> anyhow::Result<()> {
        match what {
            What::Sb => self.superblock().await,
            What::Rgrp { n: None } => self.groups().await,
            What::Rgrp { n: Some(n) } => self.group(*n).await,
            What::Inode { n } => self.inode(inode_number(*n)?).await,
            What::Path { path } => self.path(path).await,
            What::Dir { n } => self.directory(inode_number(*n)?).await,
            What::Block { n } => self.block(BlockAddr(*n)).await,
            What::Journal { n } => self.journal(*n).await,
            What::Bitmap { n } => self.bitmap(*n).await,
            // Has an exit status of its own.
            What::Check => Ok(()),
        }
    }

    /// Lists the rules that were found broken on the way.
    fn problems(&mut self) -> anyhow::Result<ExitCode> {
        let problems = self.volume.take_problems();
        if problems.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        self.out.lines("problems", problems.into_iter())?;
        Ok(ExitCode::FAILURE)
    }
}

fn inode_number(n: u64) -> anyhow::Result<InodeNo> {
    match InodeNo::new(n) {
        Some(ino) => Ok(ino),
        None => bail!("0 is no inode number; the root's number is in `debug DEVICE sb`"),
    }
}
