//! Who is told what: findings as they arise, up to a limit for each rule, and sums at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::rule::{Finding, Rule, Severity};
use crate::addr::BlockAddr;

/// What a check is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Journals are read.
    Journals,
    /// Bitmaps are read. Unit: resource groups.
    Bitmaps,
    /// Inodes and all that belongs to them. Unit: blocks that bitmaps describe.
    Inodes,
    /// Directories are read again, to find out which entries are wrong. Unit: directories.
    Names,
}

/// How far a check has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// How much of it is done, in the stage's unit.
    pub done: u64,
    /// How much there is.
    pub total: u64,
}

/// Who watches a check. Called from within it, so calls should return soon.
pub trait Watch: Sync {
    /// A rule is broken.
    fn finding(&self, finding: &Finding);

    /// It has come further.
    fn progress(&self, _progress: Progress) {}

    /// It should end: asked between blocks, so it ends soon.
    fn cancelled(&self) -> bool {
        false
    }
}

/// How often a rule was found broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How bad that is.
    pub severity: Severity,
    /// How often in all; [`Watch::finding`] was called for the first of them only, up to the limit.
    pub found: u64,
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Findings by name of the rule.
    pub rules: BTreeMap<String, Count>,
    /// Everything was examined. If not, damage was in the way (it is among the findings), or the check was cancelled.
    pub complete: bool,
    /// The check was cancelled.
    pub cancelled: bool,
    /// Inodes that were examined.
    pub inodes: u64,
    /// Directories among them.
    pub directories: u64,
    /// Blocks of files, directories and their metadata.
    pub blocks_used: u64,
    /// Blocks that bitmaps describe.
    pub blocks_total: u64,
}

impl Report {
    fn sum(&self, severity: Severity) -> u64 {
        self.rules.values().filter(|count| count.severity == severity).map(|count| count.found).sum()
    }

    /// Findings that are errors.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.sum(Severity::Error)
    }

    /// Findings that are notes.
    #[must_use]
    pub fn notes(&self) -> u64 {
        self.sum(Severity::Note)
    }

    /// All was examined, and there is no error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.complete && self.errors() == 0
    }
}

/// Counts findings and passes them on.
pub(super) struct Tally<'a> {
    watch: &'a dyn Watch,
    limit: u64,
    rules: Mutex<BTreeMap<String, Count>>,
    incomplete: AtomicBool,
    cancelled: AtomicBool,
    /// What is found has been reported before.
    muted: AtomicBool,
    /// Inodes examined.
    inodes: AtomicU64,
    /// Units of the stage that are done.
    done: AtomicU64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(watch: &'a dyn Watch, limit: u64) -> Self {
        Self {
            watch,
            limit,
            rules: Mutex::default(),
            incomplete: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            muted: AtomicBool::new(false),
            inodes: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Keeps findings to itself, and counts nothing, while all is looked at once more.
    pub(super) fn mute(&self, on: bool) {
        self.muted.store(on, Ordering::Relaxed);
    }

    /// An inode was examined.
    pub(super) fn count_inode(&self) {
        if !self.muted.load(Ordering::Relaxed) {
            self.inodes.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn report(&self, finding: &Finding) {
        if self.muted.load(Ordering::Relaxed) {
            return;
        }
        let found = {
            let mut rules = self.rules.lock();
            // The worst severity counts: one rule's may depend on its numbers.
            let severity = finding.rule.severity();
            let count = rules.entry(finding.rule.name()).or_insert(Count { severity, found: 0 });
            count.severity = count.severity.max(severity);
            count.found = count.found.saturating_add(1);
            count.found
        };
        if found <= self.limit {
            self.watch.finding(finding);
        }
    }

    /// A rule is broken at `block`, which belongs to no inode.
    pub(super) fn at(&self, block: BlockAddr, rule: impl Into<Rule>) {
        self.report(&Finding::new(rule.into(), block));
    }

    /// Something could not be examined; a finding says why.
    pub(super) fn incomplete(&self) {
        self.incomplete.store(true, Ordering::Relaxed);
    }

    /// The check should end.
    pub(super) fn is_cancelled(&self) -> bool {
        if self.watch.cancelled() {
            self.cancelled.store(true, Ordering::Relaxed);
        }
        self.cancelled.load(Ordering::Relaxed)
    }

    /// A stage begins.
    pub(super) fn begin(&self, stage: Stage, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.watch.progress(Progress { stage, done: 0, total });
    }

    /// So many units more of the stage are done.
    pub(super) fn step(&self, stage: Stage, units: u64, total: u64) {
        let done = self.done.fetch_add(units, Ordering::Relaxed).saturating_add(units);
        self.watch.progress(Progress { stage, done: done.min(total), total });
    }

    pub(super) fn finish(&self) -> Report {
        let cancelled = self.cancelled.load(Ordering::Relaxed);
        Report {
            rules: self.rules.lock().clone(),
            complete: !cancelled && !self.incomplete.load(Ordering::Relaxed),
            cancelled,
            inodes: self.inodes.load(Ordering::Relaxed),
            ..Report::default()
        }
    }
}
