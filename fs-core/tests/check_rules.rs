//! Each rule of the checker: a volume with just this damage gives just this finding, or just those that follow from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;
#[path = "check_rules/directories.rs"]
mod directories;
#[path = "check_rules/files.rs"]
mod files;
#[path = "check_rules/lab.rs"]
mod lab;
#[path = "check_rules/structure.rs"]
mod structure;
#[path = "check_rules/system.rs"]
mod system;
#[path = "check_rules/xattrs.rs"]
mod xattrs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::device::{BlockDevice, DeviceError, Durability, Geometry, IoBuf, IoFuture, Operation};
use common::differences::is_only_ours;
use common::{ForkDisk, checker, fsck_objects, run};
use fs_core::check::report::{Progress, Watch};
use fs_core::check::rule::{Finding, Rule, Severity};
use fs_core::check::{Options, check};
use lab::Lab;

/// A kind of damage, and the rules that it breaks.
type Case = (&'static [&'static str], fn(&Lab, &ForkDisk));

fn cases() -> Vec<Case> {
    [structure::CASES, files::CASES, directories::CASES, xattrs::CASES, system::CASES].concat()
}

/// Names of the rules that are declared in the checker, as the report has them.
fn declared() -> BTreeSet<String> {
    let source = include_str!("../src/check/rule.rs");
    let (_, rules) = source.split_once("pub enum Rule {").unwrap();
    let (rules, _) = rules.split_once("\n}\n").unwrap();
    let variants = rules.lines().filter_map(|line| {
        let line = line.strip_prefix("    ")?;
        line.starts_with(|c: char| c.is_ascii_uppercase()).then(|| line.split([' ', ',', '(']).next().unwrap())
    });
    let words = |variant: &str| {
        let mut name = String::new();
        for c in variant.chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    };
    variants.map(words).collect()
}

#[test]
fn each_damage_gives_its_findings_and_no_others() {
    let lab = run(Lab::new());
    let (report, findings) = run(checker::findings(Arc::new(lab.disk.fork())));
    assert!(report.is_clean() && findings.is_empty(), "before: {findings:?}");
    assert!(report.inodes > 100 && report.directories >= 7 && report.blocks_used > 8000, "{report:?}");
    let mut missing = declared();
    let mut wrong = Vec::new();
    for (number, (rules, damage)) in cases().into_iter().enumerate() {
        let disk = lab.disk.fork();
        damage(&lab, &disk);
        let (report, findings) = run(checker::findings(Arc::new(disk)));
        let found: BTreeSet<&str> = report.rules.keys().map(String::as_str).collect();
        if found != rules.iter().copied().collect() {
            let lines: Vec<String> = findings.iter().map(checker::line).collect();
            wrong.push(format!("{number}: wanted {rules:?}, found {lines:#?}"));
        }
        missing.retain(|rule| !rules.contains(&rule.as_str()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A device that cannot be read has a test of its own; the other is the rules of single structures.
    missing.remove("unreadable");
    missing.remove("format");
    // So do those that are only looked at when that is asked for.
    missing.remove("quota-usage");
    missing.remove("quota-ids");
    assert!(missing.is_empty(), "no test for {missing:?}");
}

#[test]
fn what_users_have_is_compared_when_that_is_asked_for() {
    let lab = run(Lab::new());
    let quotas = |ids_max| {
        let options = Options { quotas: true, quota_ids_max: ids_max, ..Options::default() };
        run(checker::findings_with(Arc::new(lab.disk.fork()), options)).1
    };
    // The volume was filled without quotas: the file knows the root directory only.
    let found = quotas(1 << 20);
    assert!(!found.is_empty());
    for finding in found {
        let Rule::QuotaUsage { counted: 1, found: 100.., id } = finding.rule else { panic!("{finding:?}") };
        assert!(id.id == 0 && finding.block.0 == lab.system["quota"], "{finding:?}");
        assert!((finding.rule.name(), finding.rule.severity()) == ("quota-usage".to_owned(), Severity::Note));
    }
    let found = quotas(1);
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    assert!(matches!(finding.rule, Rule::QuotaIds { counted: 1 }) && finding.rule.name() == "quota-ids");
}

/// A disk with a block that cannot be read.
struct Holed {
    disk: ForkDisk,
    hole: u64,
}

impl BlockDevice for Holed {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        let len_bytes = buf.len() as u64;
        if (offset_bytes..offset_bytes + len_bytes).contains(&self.hole) {
            let source = std::io::Error::other("a scratch");
            let error = DeviceError::Io { operation: Operation::Read, offset_bytes, len_bytes, source };
            return Box::pin(async move { Err(error) });
        }
        self.disk.read(offset_bytes, buf)
    }
    fn write(&self, _: u64, _: IoBuf, _: Durability) -> IoFuture<'_, IoBuf> {
        unreachable!("the checker writes nothing")
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        unreachable!("the checker writes nothing")
    }
    fn discard(&self, _: u64, _: u64) -> IoFuture<'_, ()> {
        unreachable!("the checker writes nothing")
    }
}

#[test]
fn a_block_that_cannot_be_read_is_a_finding_and_ends_nothing() {
    let lab = run(Lab::new());
    // A leaf of a directory, among many that are read with it.
    let hole = lab.leaf << lab.size.shift();
    let (report, findings) = run(checker::findings(Arc::new(Holed { disk: lab.disk.fork(), hole })));
    let unreadable: Vec<_> = findings.iter().filter(|finding| finding.rule.name() == "unreadable").collect();
    assert!(matches!(unreadable.as_slice(), [finding] if finding.block.0 == lab.leaf), "{findings:?}");
    // Names that stood there are missed, and nothing else.
    let rules: Vec<&str> = report.rules.keys().map(String::as_str).collect();
    assert_eq!(rules, ["unnamed", "unreadable"]);
}

#[test]
fn fsck_gfs2_objects_to_the_same_but_for_what_is_listed() {
    let lab = run(Lab::new());
    let wrong = parking_lot::Mutex::new(Vec::new());
    let (cases, next) = (cases(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |count| count.get().min(8)) {
            scope.spawn(|| {
                while let Some((rules, damage)) = cases.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let disk = lab.disk.fork();
                    damage(&lab, &disk);
                    match fsck_objects(&disk) {
                        None if !is_only_ours(rules) => wrong.lock().push(format!("only ours: {rules:?}")),
                        Some(text) if rules.is_empty() => wrong.lock().push(format!("only theirs: {text}")),
                        _ => {}
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_orphan_is_a_note_though_fsck_gfs2_objects() {
    let lab = run(Lab::new());
    let (_, damage) = files::CASES.iter().find(|(rules, _)| *rules == ["orphan"]).unwrap();
    let disk = lab.disk.fork();
    damage(&lab, &disk);
    assert!(fsck_objects(&disk).is_some_and(|text| text.contains("free blocks") || text.contains("bitmap")));
    let (report, _) = run(checker::findings(Arc::new(disk)));
    assert!(report.is_clean() && report.notes() == 1);
}

#[test]
fn a_journal_that_ends_in_a_hole_is_refused_by_mounts_as_well() {
    run(async {
        let lab = Lab::new().await;
        let disk = lab.disk.fork();
        lab.put(&disk, lab.system["journal0"], 56, 8, 9 << 20);
        let mounted = common::mount(Arc::new(disk), 1 << 20, false).await;
        assert!(mounted.is_err_and(|error| error.to_string().contains("an impossible size or a hole")));
    });
}

/// Counts, and ends the check after a while.
struct Counter {
    findings: AtomicU64,
    looks: AtomicU64,
    end_after: u64,
    progress: parking_lot::Mutex<Vec<Progress>>,
}

impl Counter {
    fn new(end_after: u64) -> Self {
        Self { findings: 0.into(), looks: 0.into(), end_after, progress: parking_lot::Mutex::default() }
    }
}

impl Watch for Counter {
    fn finding(&self, _: &Finding) {
        self.findings.fetch_add(1, Ordering::Relaxed);
    }
    fn progress(&self, progress: Progress) {
        self.progress.lock().push(progress);
    }
    fn cancelled(&self) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed) >= self.end_after
    }
}

#[test]
fn a_rule_is_shown_as_often_as_asked_and_counted_always() {
    let lab = run(Lab::new());
    let disk = lab.disk.fork();
    for file in &lab.files[..30] {
        lab.put(&disk, *file, 52, 4, 7);
    }
    let counter = Counter::new(u64::MAX);
    let report = run(check(Arc::new(disk), Options { findings_max: 5, ..Options::default() }, &counter));
    assert_eq!(counter.findings.into_inner(), 5);
    assert_eq!((report.errors(), report.rules["link-count"].found), (30, 30));
    let progress = counter.progress.into_inner();
    assert!(progress.iter().all(|progress| progress.done <= progress.total));
    assert!(progress.len() > 6);
}

#[test]
fn a_check_can_be_cancelled_anywhere() {
    let lab = run(Lab::new());
    let counter = Counter::new(u64::MAX);
    let report = run(check(Arc::new(lab.disk.fork()), Options::default(), &counter));
    assert!(report.is_clean());
    let looks = counter.looks.into_inner();
    assert!(looks > 20, "only {looks} places");
    for end_after in 0..looks {
        let counter = Counter::new(end_after);
        let report = run(check(Arc::new(lab.disk.fork()), Options::default(), &counter));
        assert!(report.cancelled && !report.is_clean());
        assert_eq!(report.rules, [].into(), "a check that was cut off after {end_after} looks finds damage");
    }
}
