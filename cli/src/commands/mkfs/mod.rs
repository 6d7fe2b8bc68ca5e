//! `mkfs.lunfs`, which mkfs(8) calls, and `lunfs mkfs`.

mod target;

use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use block::device::Geometry;
use clap::Args;
use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mkfs::options::{Identity, Options};
use mkfs::plan::Plan;
use mkfs::signature::{self, Signature};
use mkfs::{Progress, Report, Stage};
use uuid::Uuid;

use self::target::Target;
use super::{Command, Run, size};
use crate::output::{Explained, Format, Printer, human_bytes};

/// The table's entry.
pub(crate) const COMMAND: Command = Command { called: &[NAME], status_usage: 1, ..Command::new::<Mkfs>("mkfs") };

const NAME: &str = "mkfs.lunfs";

/// Make a volume. Everything on the device is lost
///
/// Sizes are bytes, or numbers with K, M, G or T for powers of 1024.
#[derive(Debug, Args)]
pub(crate) struct Mkfs {
    /// Block device, image file or .vhdx file; a file is made if there is none and SIZE is given
    device: PathBuf,
    /// Size of the volume, as 10G or 512M [default: the whole device]
    #[arg(value_parser = size::bytes)]
    size: Option<u64>,
    /// Journals: one for each node that mounts the volume at the same time [default: 8, fewer on a small volume]
    #[arg(short, value_name = "N")]
    journals: Option<u32>,
    /// Size of each journal; a number without unit is MiB [default: by the size of the volume, 8M to 1G]
    #[arg(short = 'J', value_name = "SIZE", value_parser = size::bytes_or_mib)]
    journal_size: Option<u64>,
    /// Block size: 512, 1024, 2048 or 4096
    #[arg(short, value_name = "SIZE", value_parser = block_size, default_value = "4096")]
    block_size: BlockSize,
    /// Size of the resource groups; a number without unit is MiB [default: by the size of the volume, 32M to 2G]
    #[arg(short, value_name = "SIZE", value_parser = size::bytes_or_mib)]
    rgrp_size: Option<u64>,
    /// Label, by which the volume can be mounted
    #[arg(short = 'L', default_value = "", hide_default_value = true)]
    label: String,
    /// UUID [default: a random one]
    #[arg(short = 'U', value_parser = volume_uuid)]
    uuid: Option<Uuid>,
    /// Do not discard the device first
    #[arg(short = 'K')]
    keep: bool,
    /// Print what would be done, and do nothing
    #[arg(short = 'n')]
    dry_run: bool,
    /// Print errors only
    #[arg(short)]
    quiet: bool,
    /// Print more
    #[arg(short, conflicts_with = "quiet")]
    verbose: bool,
    /// Overwrite what is on the device without asking
    #[arg(short, long, visible_short_alias = 'O')]
    force: bool,
    #[command(flatten)]
    format: Format,
    /// Accepted for those who come from mkfs.gfs2, and ignored
    #[arg(short = 'p', value_name = "PROTO", hide_short_help = true)]
    protocol: Option<String>,
    /// Accepted for those who come from mkfs.gfs2, and ignored
    #[arg(short = 't', value_name = "TABLE", hide_short_help = true)]
    table: Option<String>,
}

fn block_size(text: &str) -> Result<BlockSize, String> {
    let bytes = u32::try_from(size::bytes(text)?).ok().and_then(BlockSize::new);
    bytes.ok_or_else(|| "blocks have 512, 1024, 2048 or 4096 bytes".to_owned())
}

fn volume_uuid(text: &str) -> Result<Uuid, String> {
    match Uuid::try_parse(text) {
        Ok(uuid) if !uuid.is_nil() => Ok(uuid),
        _ => {
            Err("a UUID looks like 123e4567-e89b-42d3-a456-426614174000, and is not zero (uuidgen makes one)"
                .to_owned())
        }
    }
}

fn warn(text: &str) {
    eprintln!("{NAME}: warning: {text}");
}

impl Run for Mkfs {
    fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = Printer::new(self.format);
        let result = self.make(&mut out).map(|()| ExitCode::SUCCESS);
        if self.quiet && !self.format.json { result } else { out.complete(result) }
    }
}

impl Mkfs {
    fn make(&self, out: &mut Printer) -> anyhow::Result<()> {
        if self.protocol.is_some() {
            warn("-p is ignored: volumes of lunfs have their own lock protocol");
        }
        if self.table.is_some() {
            warn("-t is ignored: lunfs needs no cluster name; a label is given with -L");
        }
        if self.dry_run {
            return self.only_plan(out);
        }
        // A new file is made when the plan says that the volume fits into it.
        let plan_first = target::expected_geometry(&self.device, self.size)?.map(|geometry| self.plan(&geometry));
        plan_first.transpose()?;
        let target = Target::open(&self.device, self.size)?;
        let done = self.format_target(&target, out);
        if done.is_err() {
            target.remove_if_new();
        }
        done
    }

    fn format_target(&self, target: &Target, out: &mut Printer) -> anyhow::Result<()> {
        let device = target.device();
        let plan = self.plan(&device.geometry())?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().context("cannot start")?;
        let found = runtime.block_on(signature::find(device)).context("looking for what is on the device failed")?;
        self.may_overwrite(&found)?;
        let identity = Identity::new(self.uuid, now());
        let bar = self.bar();
        let progress = |progress| show(&bar, progress);
        let report = runtime.block_on(mkfs::format(device, &plan, &identity, !self.keep, &progress));
        bar.finish_and_clear();
        let report = report?;
        self.print(out, &plan, &device.geometry(), Some((&identity, &report)))
    }

    fn only_plan(&self, out: &mut Printer) -> anyhow::Result<()> {
        let geometry = match target::expected_geometry(&self.device, self.size)? {
            Some(geometry) => geometry,
            None => target::open_read_only(&self.device)?.geometry(),
        };
        let plan = self.plan(&geometry)?;
        self.print(out, &plan, &geometry, None)
    }

    fn plan(&self, geometry: &Geometry) -> anyhow::Result<Plan> {
        let size_bytes = match self.size {
            Some(size) if size > geometry.size_bytes => anyhow::bail!(
                "{}: a volume of {size} bytes was asked for and the device has {}; give a smaller SIZE, or none",
                self.device.display(),
                geometry.size_bytes
            ),
            Some(size) => size,
            None => geometry.size_bytes,
        };
        let options = Options {
            block_size: self.block_size,
            journals: self.journals,
            journal_bytes: self.journal_size,
            rgrp_bytes: self.rgrp_size,
            label: self.label.clone(),
        };
        Plan::new(size_bytes, geometry, &options).with_context(|| self.device.display().to_string())
    }

    /// Whether what is on the device may go.
    fn may_overwrite(&self, found: &[Signature]) -> anyhow::Result<()> {
        if found.is_empty() || self.force {
            return Ok(());
        }
        let names: Vec<&str> = found.iter().map(|signature| signature.name).collect();
        let what = format!("{}: holds {}", self.device.display(), names.join(", "));
        let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
        if !asks {
            anyhow::bail!("{what}; to overwrite it, add -f");
        }
        eprint!("{what}. Overwrite it? (y, N) ");
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => anyhow::bail!("nothing was written"),
        }
    }

    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::new(0);
        let is_shown = !self.quiet && !self.format.json && io::stderr().is_terminal();
        bar.set_draw_target(if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template("{msg:10} {wide_bar} {binary_bytes}/{binary_total_bytes} {eta}")
        {
            bar.set_style(style);
        }
        bar
    }

    fn print(
        &self,
        out: &mut Printer,
        plan: &Plan,
        geometry: &Geometry,
        done: Option<(&Identity, &Report)>,
    ) -> anyhow::Result<()> {
        self.warn_about(plan, geometry);
        if self.quiet && !self.format.json {
            return Ok(());
        }
        let details = self.verbose || self.format.json;
        let amount = |bytes: u64| Explained(bytes, human_bytes(bytes));
        let block = plan.block_size.bytes_u64();
        let rgrp_blocks = plan.rgrps.place(plan.rgrps.count() - 1).map_or(0, |place| place.end().0 - place.addr.0);
        out.field("device", self.device.display().to_string())?;
        out.field("size_bytes", amount(plan.size_bytes))?;
        out.field("block_size", block)?;
        out.field("journals", plan.journals)?;
        out.field("journal_bytes", amount(plan.journal_bytes()))?;
        out.field("resource_groups", plan.rgrps.count())?;
        if details {
            out.field("rgrp_bytes", amount(rgrp_blocks * block))?;
            out.field("first_rgrp_block", plan.first_rgrp().0)?;
            out.field("root_block", plan.shared.root.ino.get())?;
            out.field("master_block", plan.shared.master.ino.get())?;
            out.field("cluster_area", plan.area.is_some())?;
        }
        out.field("free_bytes", amount(plan.free_blocks() * block))?;
        out.field_if("label", Some(self.label.clone()).filter(|label| details || !label.is_empty()))?;
        match done {
            Some((identity, report)) => {
                out.field("uuid", identity.uuid.to_string())?;
                if details {
                    out.field("written_bytes", amount(report.written_bytes))?;
                    out.field("discarded", report.discarded)?;
                }
                out.field("mount_with", mount_line(&self.device))?;
            }
            None => {
                out.field_if("uuid", self.uuid.map(|uuid| uuid.to_string()))?;
                out.field("to_write_bytes", amount(plan.written_bytes()))?;
                out.field("dry_run", true)?;
            }
        }
        Ok(())
    }

    fn warn_about(&self, plan: &Plan, geometry: &Geometry) {
        if self.quiet {
            return;
        }
        let (block, sector) = (plan.block_size.bytes_u32(), geometry.physical_sector_bytes);
        if block < sector {
            warn(&format!(
                "blocks of {block} bytes are smaller than the device's physical sectors of {sector}, which makes writing slow (-b {sector})"
            ));
        }
        if plan.journals < plan.journals_wanted {
            warn(&format!(
                "the volume is small: journals for {} of {} nodes are made, more would take over a quarter of it (-j makes more)",
                plan.journals, plan.journals_wanted
            ));
        }
        if plan.area.is_none() {
            warn("the volume is smaller than 128 MiB, so only one node can use it (mount -o single)");
        }
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp { sec: i64::try_from(since.as_secs()).unwrap_or(0), nsec: since.subsec_nanos() }
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(match progress.stage {
        Stage::Discard => "discarding",
        Stage::Write => "writing",
        Stage::Flush => "flushing",
    });
    if progress.total_bytes > 0 {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes.min(progress.total_bytes));
    }
}

/// What to type next.
fn mount_line(device: &Path) -> String {
    let text = device.display().to_string();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-+:,@=".contains(character);
    let quoted = if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) };
    format!("mount -t lunfs -o single {quoted} /mydata")
}
