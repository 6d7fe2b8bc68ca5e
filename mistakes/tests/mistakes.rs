//! The crash machine finds each deliberate mistake, and finds nothing where none is made. Journals are short here, so that
//! their logs come around, and are full, all the time.
//!
//! `LUNFS_MISTAKE` names one mistake to be tried alone, `LUNFS_MISTAKE_IMAGES` how many images each may take,
//! `LUNFS_SHORT_IMAGES` how many are tried without any, `LUNFS_CRASH_SEED` is the first workload.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)] // a test

extern crate fs_core as mkfs_core;
extern crate fs_core_with_mistakes as fs_core;

#[path = "../../fs-core/tests/machine/mod.rs"]
mod machine;

use std::io::Write;

use fs_core::mistakes::{self, Mistake};
use machine::judge::Judges;
use machine::plan::Limits;
use machine::search::{Search, explain, search};
use machine::setting;
use parking_lot::Mutex;

/// One test at a time: each uses all processors, and one of them silences panics.
static TURN: Mutex<()> = Mutex::new(());

const JUDGES: Judges = Judges { fsck_permille: 0 };

/// Uses the first part of each journal only.
fn shorten_journals(blocks: Option<u32>) {
    mistakes::shorten_journals(blocks);
}

fn plan(images: u64, each: u64) -> Search {
    Search {
        limits: Limits { foreign: false, short_journals: true, steps: 250 },
        judges: JUDGES,
        seed: setting("LUNFS_CRASH_SEED", 1),
        images,
        each,
        threads: setting("LUNFS_CRASH_THREADS", std::thread::available_parallelism().map_or(1, usize::from) as u64)
            as usize,
        prepare: |_| (),
        argument: 0,
    }
}

/// Makes the mistake with this number on the thread that calls.
fn make(number: usize) {
    mistakes::make(Some(Mistake::ALL[number]));
}

#[test]
fn no_mistake_is_found_where_none_is_made() {
    let _turn = TURN.lock();
    let each = setting("LUNFS_CRASH_EACH", 200);
    let images = setting("LUNFS_SHORT_IMAGES", 6000);
    let (tally, failure) = search(plan(images, each));
    if let Some(failure) = failure {
        let seed = failure.plan.seed;
        panic!(
            "{}\nrepeat: LUNFS_CRASH_SEED={seed} LUNFS_SHORT_IMAGES={each} LUNFS_CRASH_EACH={each} cargo test --workspace \
             --test mistakes no_mistake",
            explain(&failure, JUDGES)
        );
    }
    println!("{tally:?}");
}

#[test]
fn every_mistake_is_found() {
    let _turn = TURN.lock();
    let images = setting("LUNFS_MISTAKE_IMAGES", 16_000);
    let only = std::env::var("LUNFS_MISTAKE").ok();
    let hook = std::panic::take_hook();
    // Mistakes trip assertions on their way.
    std::panic::set_hook(Box::new(|_| ()));
    let (mut tried, mut missed) = (0, Vec::new());
    for (number, mistake) in Mistake::ALL.iter().enumerate() {
        let name = format!("{mistake:?}");
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let (tally, failure) = search(Search { prepare: make, argument: number, ..plan(images, 20) });
        let line = match &failure {
            Some(failure) => {
                let reason: String = failure.reason.lines().next().unwrap_or_default().chars().take(110).collect();
                format!("{name:22} found after {:>5} images: {reason}", tally.images)
            }
            None => format!("{name:22} NOT FOUND in {} images", tally.images),
        };
        // Also where a test that passes says nothing.
        writeln!(std::io::stderr(), "{line}").unwrap();
        tried += 1;
        if failure.is_none() {
            missed.push(name);
        }
    }
    std::panic::set_hook(hook);
    assert!(tried > 0, "there is no such mistake");
    assert!(missed.is_empty(), "not found: {missed:?}");
}
