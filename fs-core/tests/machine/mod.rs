//! The crash machine: records what a workload does to a disk, cuts the power at any moment of the recording, and holds
//! what is left against a model of what may be there.
//!
//! ```text
//! plan ─▶ workload on a recording disk ─▶ log of writes and flushes ─▶ cut, losses ─▶ image ─▶ (replay, cut again) ─▶ mount
//!   └───▶ the model, step by step ──────▶ stories: which trees may be there ─────────────────────▶ judge: tree, use, checker
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `disk` | images that can be copied for nothing, disks on them, and the log of a disk |
//! | `medium` | what a disk with a volatile cache has kept when the power goes |
//! | `clock` | time, which passes with the steps that are done |
//! | `volume` | new volumes: block size, journal position, free space full of bytes that nobody wrote |
//! | `run` | executes a step on a filesystem |
//! | `see` | reads a whole tree, and compares it with the model |
//! | `plan` | workloads from seeds, and recording them |
//! | `story` | what may be there after a cut |
//! | `judge` | one image: replay, tree, use, checker |
//! | `search` | many images, counted; failures, made small |

#![allow(dead_code)] // each test uses a part of it

#[path = "../common/checker.rs"]
pub(crate) mod checker;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod judge;
pub(crate) mod medium;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod see;
pub(crate) mod story;
pub(crate) mod volume;

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} has to be a number")))
}

/// Runs a future on this thread alone: the same seed gives the same order of everything.
pub(crate) fn on_this_thread<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
