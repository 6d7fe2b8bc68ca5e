//! The checker, as tests call it.

#![allow(dead_code)] // each test uses a part of it

use std::sync::Arc;

use block::device::BlockDevice;
use fs_core::check::report::{Report, Watch};
use fs_core::check::rule::{Finding, Severity};
use fs_core::check::{Options, check};
use parking_lot::Mutex;

/// Keeps what it is told.
#[derive(Default)]
struct Keep(Mutex<Vec<Finding>>);

impl Watch for Keep {
    fn finding(&self, finding: &Finding) {
        self.0.lock().push(finding.clone());
    }
}

/// Checks a volume.
pub(crate) async fn findings(device: Arc<dyn BlockDevice>) -> (Report, Vec<Finding>) {
    let keep = Keep::default();
    let report = check(device, Options { findings_max: 20 }, &keep).await;
    (report, keep.0.into_inner())
}

/// What is wrong with a volume, notes left out; empty for a sound one.
pub(crate) async fn errors(device: Arc<dyn BlockDevice>) -> Vec<String> {
    let (report, findings) = findings(device).await;
    errors_among(&report, &findings)
}

/// The same, of what was found.
pub(crate) fn errors_among(report: &Report, findings: &[Finding]) -> Vec<String> {
    let errors = findings.iter().filter(|finding| finding.rule.severity() == Severity::Error);
    let mut lines: Vec<String> = errors.map(line).collect();
    if !report.complete {
        lines.push("not examined to the end".to_owned());
    }
    lines
}

pub(crate) fn line(finding: &Finding) -> String {
    let inode = finding.inode.map(|ino| format!(" of inode {ino}")).unwrap_or_default();
    format!("{}: block {}{inode}: {} {:?}", finding.rule.name(), finding.block, finding.rule, finding.name)
}
