//! `quota check`: counts what everybody has, and compares it with the quota file.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use block::device::BlockDevice;
use fs_core::check::report::Watch;
use fs_core::check::rule::{Finding, Rule, Severity};
use fs_core::check::{self, Options};
use fs_core::quota::{QuotaId, SetQuota};

use super::kind_name;
use super::names::Names;
use super::source::{Access, claim, place, with_device};
use crate::output::Printer;

/// A user or group for which the two differ.
struct Difference {
    id: QuotaId,
    counted: i64,
    found: i64,
}

/// What a check finds that matters here.
#[derive(Default)]
struct Found {
    differences: Vec<Difference>,
    /// The first thing that is wrong with the volume itself.
    damage: Option<String>,
    is_dirty: bool,
    too_many: bool,
}

#[derive(Default)]
struct Gather(Mutex<Found>);

impl Watch for Gather {
    fn finding(&self, finding: &Finding) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match finding.rule {
            Rule::QuotaUsage { id, counted, found: blocks } => {
                found.differences.push(Difference { id, counted, found: blocks });
            }
            Rule::QuotaIds { .. } => found.too_many = true,
            Rule::JournalDirty { .. } => found.is_dirty = true,
            rule if rule.severity() == Severity::Error && found.damage.is_none() => {
                found.damage = Some(format!("block {}: {rule}", finding.block));
            }
            _ => {}
        }
    }
}

pub(super) fn run<W: Write>(
    spec: &Path,
    repair: bool,
    names: &Names,
    out: &mut Printer<W>,
) -> anyhow::Result<ExitCode> {
    let (path, is_mounted) = place(spec)?;
    if is_mounted {
        anyhow::bail!("it is mounted, and what everybody has changes while it is counted: unmount it first");
    }
    if repair {
        // Replays journals, frees what has no name any more, and empties the change files.
        with_device(&path, |_| Ok(()))?;
    }
    let found = count(&path, if repair { Access::Change } else { Access::Look })?;
    out.table("differences", &[("kind", 5), ("id", 10), ("name", 16), ("counted_blocks", 16), ("found_blocks", 0)])?;
    for Difference { id, counted, found } in &found.differences {
        let name = names.name(*id).unwrap_or_default();
        out.row(&[&kind_name(id.kind), &id.id, &name, counted, found])?;
    }
    out.end()?;
    let count = found.differences.len();
    out.field("differing", count)?;
    if repair {
        set(&path, &found.differences)?;
        out.field("repaired", count)?;
    }
    Ok(if count == 0 || repair { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts, on a volume that is sound.
fn count(path: &Path, access: Access) -> anyhow::Result<Found> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (_claim, device) = claim(path, access)?;
    let gather = Gather::default();
    let device: Arc<dyn BlockDevice> = device;
    let options = Options { findings_max: u64::MAX, quotas: true, ..Options::default() };
    let report = runtime.block_on(check::check(device, options, &gather));
    let found = gather.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    if found.is_dirty {
        anyhow::bail!("a journal has to be replayed first: mount and unmount the volume, or use --repair");
    }
    if let Some(damage) = found.damage {
        anyhow::bail!("the volume is damaged, so nothing can be counted: {damage}; repair it with fsck.gfs2");
    }
    if found.too_many {
        anyhow::bail!("it has more users and groups than can be counted");
    }
    if !report.complete {
        anyhow::bail!("it could not be read to its end");
    }
    Ok(found)
}

/// Writes what was counted.
fn set(path: &Path, differences: &[Difference]) -> anyhow::Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    with_device(path, |source| {
        for Difference { id, found, .. } in differences {
            let used_blocks = Some(found.max(&0).unsigned_abs());
            source.set(*id, &SetQuota { used_blocks, ..SetQuota::default() })?;
        }
        Ok(())
    })
}
