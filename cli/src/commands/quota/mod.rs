//! `lunfs quota`: what users and groups have, and may have, on a mounted volume or on a device.

mod check;
mod names;
mod source;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use fs_core::quota::{Kind, Mode, Quota, QuotaId, SetQuota};

use self::names::Names;
use self::source::{Access, Source};
use super::{Command, Run, size};
use crate::output::{Explained, Format, Printer, human_bytes};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<QuotaCommand>("quota");

/// Show and set what users and groups may have
///
/// Limits count on a mount with -o quota=on; -o quota=account counts only. Root may set them and see all; others see
/// their own.
#[derive(Debug, Args)]
pub(crate) struct QuotaCommand {
    /// A directory of the mounted volume; or the block device, image file or .vhdx file
    spec: PathBuf,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum What {
    /// Everybody who has anything, or a limit
    Report {
        /// Users only
        #[arg(long, conflicts_with = "group")]
        user: bool,
        /// Groups only
        #[arg(long)]
        group: bool,
    },
    /// What one user or group has, and may have
    Get {
        #[command(flatten)]
        whose: Whose,
    },
    /// Set limits; they hold from then on
    Set {
        #[command(flatten)]
        whose: Whose,
        /// Most that may be used, as 10G or 512M; 0 for no limit. Counted in whole blocks, rounded up
        #[arg(long, value_name = "SIZE", value_parser = size::bytes, required_unless_present = "warn")]
        limit: Option<u64>,
        /// From here on the log of the mount warns; 0 for never
        #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
        warn: Option<u64>,
    },
    /// Count what everybody has, and compare: on a device that is not mounted
    ///
    /// Whatever was changed on a mount without quotas is missing from the quota file until it is repaired. Exit status is 1
    /// when the two differ.
    Check {
        /// Write what was counted into the quota file
        #[arg(long)]
        repair: bool,
    },
    /// Bring the quota file up to date, which a mount does by itself every minute (-o quota_quantum=SECONDS)
    #[command(visible_alias = "refresh")]
    Sync,
}

/// Whose quota.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// A user, by name or number
    #[arg(long, value_name = "NAME|ID")]
    user: Option<String>,
    /// A group, by name or number
    #[arg(long, value_name = "NAME|ID")]
    group: Option<String>,
}

impl Whose {
    fn id(&self, names: &Names) -> anyhow::Result<QuotaId> {
        match (&self.user, &self.group) {
            (Some(user), _) => names.id(Kind::User, user),
            (None, Some(group)) => names.id(Kind::Group, group),
            (None, None) => anyhow::bail!("say whose: --user or --group"),
        }
    }
}

impl Run for QuotaCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(Format { json: self.json });
        let result = self.show(&mut out).with_context(|| self.spec.display().to_string());
        out.complete(result)
    }
}

impl QuotaCommand {
    fn show<W: Write>(&self, out: &mut Printer<W>) -> anyhow::Result<ExitCode> {
        let names = Names::read();
        let open = |access| Source::open(&self.spec, access);
        match &self.what {
            What::Check { repair } => return check::run(&self.spec, *repair, &names, out),
            What::Report { user, group } => {
                let source = open(Access::Look)?;
                // Neither asked for is both.
                let kinds = [(Kind::User, !group), (Kind::Group, !user)];
                report(&source, kinds.into_iter().filter_map(|(kind, wanted)| wanted.then_some(kind)), &names, out)?;
                source.close()?;
            }
            What::Get { whose } => {
                let id = whose.id(&names)?;
                let source = open(Access::Look)?;
                one(&source, &source.get(id)?, &names, out)?;
                source.close()?;
            }
            What::Set { whose, limit, warn } => {
                let id = whose.id(&names)?;
                let source = open(Access::Change)?;
                let blocks = |bytes: &u64| bytes.div_ceil(source.block_bytes());
                let change = SetQuota {
                    limit_blocks: limit.as_ref().map(blocks),
                    warn_blocks: warn.as_ref().map(blocks),
                    used_blocks: None,
                };
                let set = source.set(id, &change)?;
                one(&source, &set, &names, out)?;
                source.close()?;
            }
            What::Sync => {
                let source = open(Access::Change)?;
                source.sync()?;
                source.close()?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Off => "off",
        Mode::Account => "account",
        Mode::On => "on",
        Mode::Quiet => "quiet",
    }
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "user",
        Kind::Group => "group",
    }
}

/// An amount in blocks, with its size for people; `zero` stands for none.
fn amount(blocks: u64, block_bytes: u64, zero: &str) -> Explained<u64> {
    let size = human_bytes(blocks.saturating_mul(block_bytes));
    Explained(blocks, if blocks == 0 { zero.to_owned() } else { size })
}

/// What the output is about.
fn heading<W: Write>(source: &Source, mode: Option<Mode>, out: &mut Printer<W>) -> anyhow::Result<()> {
    out.field("block_size", Explained(source.block_bytes(), human_bytes(source.block_bytes())))?;
    // On a device there is no mount that would do anything.
    out.field_if("mode", mode.map(mode_name))?;
    Ok(())
}

fn one<W: Write>(source: &Source, quota: &Quota, names: &Names, out: &mut Printer<W>) -> anyhow::Result<()> {
    heading(source, source.mode(), out)?;
    let (Quota { id, .. }, bytes) = (quota, source.block_bytes());
    out.field("kind", kind_name(id.kind))?;
    out.field("id", id.id)?;
    out.field_if("name", names.name(*id))?;
    out.field("used_blocks", amount(quota.used_blocks, bytes, "nothing"))?;
    out.field("limit_blocks", amount(quota.limit_blocks, bytes, "none"))?;
    out.field("warn_blocks", amount(quota.warn_blocks, bytes, "never"))?;
    Ok(())
}

fn report<W: Write>(
    source: &Source,
    kinds: impl Iterator<Item = Kind>,
    names: &Names,
    out: &mut Printer<W>,
) -> anyhow::Result<()> {
    let mut begun = false;
    let bytes = source.block_bytes();
    for kind in kinds {
        source.each(kind, &mut |quota| {
            if !std::mem::replace(&mut begun, true) {
                begin(source, out)?;
            }
            let name = names.name(quota.id).unwrap_or_default();
            out.row(&[
                &kind_name(kind),
                &quota.id.id,
                &name,
                &amount(quota.used_blocks, bytes, "nothing"),
                &amount(quota.limit_blocks, bytes, "none"),
                &amount(quota.warn_blocks, bytes, "never"),
            ])?;
            Ok(())
        })?;
    }
    if !begun {
        begin(source, out)?;
    }
    out.end()?;
    Ok(())
}

fn begin<W: Write>(source: &Source, out: &mut Printer<W>) -> anyhow::Result<()> {
    heading(source, source.mode(), out)?;
    let columns =
        [("kind", 5), ("id", 10), ("name", 16), ("used_blocks", 20), ("limit_blocks", 20), ("warn_blocks", 0)];
    out.table("quotas", &columns)?;
    Ok(())
}
