//! The checker against `fsck.gfs2 -n`, on volumes that were damaged a little: what the one reports, the other has to
//! report as well, except for what is listed here with its reason.
//!
//! `LUNFS_CHECKED=5000` tries so many variants, `LUNFS_CHECKED_SEED=77` one of them again.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::damage::{Base, damage, make_bases};
use common::differences::{is_only_ours, is_only_theirs};
use common::{Maker, Rng, Step, checker, fixture, fsck, run};
use fs_core::format::block_size::BlockSize;
use parking_lot::Mutex;

/// What one of the judges said of a variant.
struct Verdict {
    story: String,
    /// Rules that the checker found broken, with a finding of each.
    ours: BTreeMap<String, String>,
    /// Exit status of `fsck.gfs2 -n`; `None`: it crashed, or did not end.
    theirs: Option<i32>,
    output: String,
}

/// A volume of the kernel, with extended attributes and everything else that this node cannot make yet.
fn kernel_volume(name: &str) -> Base {
    let disk = fixture(name);
    let size = BlockSize::new(u32::from_be_bytes({
        let mut field = [0; 4];
        disk.peek(65536 + 36, &mut field);
        field
    }))
    .unwrap();
    Base::new(name.to_owned(), size, disk, BTreeMap::new())
}

/// Images of all volumes, for one thread.
struct Images {
    dir: tempfile::TempDir,
}

impl Images {
    fn new(bases: &[Base]) -> Self {
        let images = Self { dir: tempfile::tempdir().unwrap() };
        for (index, base) in bases.iter().enumerate() {
            base.disk.save(&images.path(index));
        }
        images
    }

    fn path(&self, base: usize) -> PathBuf {
        self.dir.path().join(base.to_string())
    }

    /// Damages a volume, asks both judges, and takes the damage back.
    fn variant(&self, bases: &[Base], seed: u64) -> Verdict {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let index = rng.below(bases.len() as u64) as usize;
        let base = &bases[index];
        let disk = base.disk.fork();
        let (how, _) = damage(&mut rng, base, &disk);
        let story = format!("LUNFS_CHECKED_SEED={seed}: {}, {how}", base.name);
        let _step = Step::new(story.clone());

        let file = std::fs::OpenOptions::new().write(true).open(self.path(index)).unwrap();
        let changed = base.disk.differing(&disk);
        changed.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());
        let (theirs, output) = fsck(&self.path(index));
        let before = disk.differing(&base.disk);
        before.iter().for_each(|(offset, bytes)| file.write_all_at(bytes, *offset).unwrap());

        let (report, findings) = run(checker::findings(Arc::new(disk)));
        let mut ours: BTreeMap<String, String> = BTreeMap::new();
        for finding in &findings {
            ours.entry(finding.rule.name()).or_insert_with(|| checker::line(finding));
        }
        if !report.complete {
            assert!(!ours.is_empty(), "{story}: not examined to the end, and no reason");
        }
        Verdict { story, ours, theirs, output }
    }
}

impl Verdict {
    /// Why the judges must not differ like this; `None` when they agree, or the reason is known.
    fn objection(&self) -> Option<String> {
        let rules: Vec<&str> = self.ours.keys().map(String::as_str).collect();
        match (self.theirs, self.ours.is_empty()) {
            (Some(0), false) if !is_only_ours(&rules) => {
                Some(format!("{}\n  only ours: {:?}", self.story, self.ours.values().collect::<Vec<_>>()))
            }
            (Some(status), true) if status != 0 && !is_only_theirs(&self.output) => {
                let lines: Vec<&str> = self
                    .output
                    .lines()
                    .filter(|line| !line.contains("ass") && !line.contains("Initializing"))
                    .collect();
                Some(format!("{}\n  only theirs: status {status}\n    {}", self.story, lines.join("\n    ")))
            }
            _ => None,
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn the_checker_reports_what_fsck_gfs2_reports() {
    let mut bases: Vec<Base> = run(async {
        let mut bases = Vec::new();
        for bytes in [512, 1024, 2048, 4096] {
            for maker in [Maker::Lunfs, Maker::Gfs2] {
                let [clean, _] = make_bases(maker, BlockSize::new(bytes).unwrap()).await.unwrap();
                bases.push(clean);
            }
        }
        bases
    });
    bases.extend(["features-512", "features-4096"].into_iter().map(kernel_volume));
    for base in &bases {
        let errors = run(checker::errors(Arc::new(base.disk.fork())));
        assert!(errors.is_empty(), "{} before any damage: {errors:#?}", base.name);
    }
    let (first, count) = match setting("LUNFS_CHECKED_SEED") {
        Some(seed) => (seed, 1),
        None => (0, setting("LUNFS_CHECKED").unwrap_or(400)),
    };
    let next = AtomicU64::new(first);
    let (verdicts, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |count| count.get().min(8)) {
            scope.spawn(|| {
                let images = Images::new(&bases);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let variant = || images.variant(&bases, seed);
                    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(variant)) {
                        Ok(verdict) => verdicts.lock().push(verdict),
                        Err(_) => failed.lock().push(seed),
                    }
                }
            });
        }
    });
    let (verdicts, failed) = (verdicts.into_inner(), failed.into_inner());
    let said = |ours: bool, theirs: bool| {
        verdicts.iter().filter(|v| v.ours.is_empty() != ours && (v.theirs != Some(0)) == theirs).count()
    };
    println!(
        "{count} variants: {} reported by both, {} by none, {} by the checker only, {} by fsck.gfs2 only; it crashed on {}",
        said(true, true),
        said(false, false),
        said(true, false),
        said(false, true),
        verdicts.iter().filter(|verdict| verdict.theirs.is_none()).count()
    );
    let mut objections: Vec<String> = verdicts.iter().filter_map(Verdict::objection).collect();
    objections.sort();
    for objection in &objections {
        println!("{objection}");
    }
    if let [verdict] = verdicts.as_slice() {
        println!("{}\n  ours: {:?}\n  theirs: {:?}\n{}", verdict.story, verdict.ours, verdict.theirs, verdict.output);
    }
    assert!(failed.is_empty(), "panics: LUNFS_CHECKED_SEED={failed:?}");
    assert!(objections.is_empty(), "{} disagreements", objections.len());
    if count >= 400 {
        let rules: std::collections::BTreeSet<&String> = verdicts.iter().flat_map(|v| v.ours.keys()).collect();
        println!("rules that were broken: {rules:?}");
        assert!(rules.len() > 30, "only {} rules were broken", rules.len());
    }
}
