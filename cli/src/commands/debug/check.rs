//! `debug check`: the whole volume, and every rule that is broken.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use block::device::BlockDevice;
use fs_core::check::report::{Report, Watch};
use fs_core::check::rule::{Finding, Severity};
use fs_core::check::{self, Options};

use super::View;
use crate::output::{Printer, escape};

/// Prints findings as they arise.
struct Lines<'a, W: Write> {
    out: Mutex<&'a mut Printer<W>>,
    /// Why printing failed: there is nobody to look at the rest.
    failed: Mutex<Option<io::Error>>,
}

impl<W: Write + Send> Lines<'_, W> {
    fn failed(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send> Watch for Lines<'_, W> {
    fn finding(&self, finding: &Finding) {
        let inode = finding.inode.map(|ino| ino.get());
        let name = finding.name.as_ref().map(|name| format!(" (name \"{}\")", escape(name))).unwrap_or_default();
        let what = format!("{}{name}", finding.rule);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let printed =
            out.row(&[&severity_name(finding.rule.severity()), &finding.block.0, &inode, &finding.rule.name(), &what]);
        if let Err(error) = printed {
            self.failed().get_or_insert(error);
        }
    }

    fn cancelled(&self) -> bool {
        self.failed().is_some()
    }
}

impl<W: Write + Send> View<'_, W> {
    pub(super) async fn check(&mut self, device: Arc<dyn BlockDevice>) -> anyhow::Result<ExitCode> {
        let findings_max = if self.verbose { u64::MAX } else { Options::default().findings_max };
        self.out.table("findings", &[("severity", 8), ("block", 12), ("inode", 12), ("rule", 20), ("what", 0)])?;
        let lines = Lines { out: Mutex::new(&mut *self.out), failed: Mutex::default() };
        let report = check::check(device, Options { findings_max, ..Options::default() }, &lines).await;
        if let Some(error) = lines.failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        self.out.end()?;
        self.summary(&report, findings_max)?;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn summary(&mut self, report: &Report, findings_max: u64) -> io::Result<()> {
        if report.rules.values().any(|count| count.found > findings_max) {
            self.out.table("counts", &[("rule", 20), ("found", 0)])?;
            for (rule, count) in &report.rules {
                self.out.row(&[rule, &count.found])?;
            }
            self.out.end()?;
        }
        self.out.field("inodes", report.inodes)?;
        self.out.field("directories", report.directories)?;
        self.out.field("blocks_used", report.blocks_used)?;
        self.out.field("blocks", report.blocks_total)?;
        self.out.field("complete", report.complete)?;
        self.out.field("errors", report.errors())?;
        self.out.field("notes", report.notes())?;
        self.out.field("result", verdict(report))
    }
}

/// The last line.
fn verdict(report: &Report) -> String {
    let (errors, notes) = (report.errors(), report.notes());
    let state = match (report.is_clean(), report.complete) {
        (true, _) => "clean",
        (false, true) => "damaged",
        (false, false) => "damaged, and not examined to the end",
    };
    format!("{state}: {errors} error(s), {notes} note(s)")
}

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Error => "error",
    }
}
