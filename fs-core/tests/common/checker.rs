//! The checker, as tests call it.

#![allow(dead_code)] // each test uses a part of it

use std::sync::Arc;

use block::device::BlockDevice;
use fs_core::check::report::{Report, Watch};
use fs_core::check::rule::{Finding, Rule, Severity};
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
    findings_with(device, Options::default()).await
}

/// The same, but for the limit of findings as `options` say.
pub(crate) async fn findings_with(device: Arc<dyn BlockDevice>, options: Options) -> (Report, Vec<Finding>) {
    let keep = Keep::default();
    let report = check(device, Options { findings_max: 20, ..options }, &keep).await;
    (report, keep.0.into_inner())
}

/// What is wrong with a volume on which every mount has counted what users and groups have; empty for a sound one.
pub(crate) async fn errors_with_quotas(device: Arc<dyn BlockDevice>) -> Vec<String> {
    let (report, findings) = findings_with(device, Options { quotas: true, ..Options::default() }).await;
    lines(&report, &findings, |rule| rule.severity() == Severity::Error || matches!(rule, Rule::QuotaUsage { .. }))
}

/// What is wrong with a volume, notes left out; empty for a sound one.
pub(crate) async fn errors(device: Arc<dyn BlockDevice>) -> Vec<String> {
    let (report, findings) = findings(device).await;
    errors_among(&report, &findings)
}

/// The same, of what was found.
pub(crate) fn errors_among(report: &Report, findings: &[Finding]) -> Vec<String> {
    lines(report, findings, |rule| rule.severity() == Severity::Error)
}

fn lines(report: &Report, findings: &[Finding], counts: impl Fn(&Rule) -> bool) -> Vec<String> {
    let errors = findings.iter().filter(|finding| counts(&finding.rule));
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
