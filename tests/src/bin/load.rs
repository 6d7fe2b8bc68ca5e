//! The mixed load of the kill test on any mounted directory: `load DIR SEED OPERATIONS`. What `tests/kernel` leaves dirty
//! volumes with. Ends quietly when the filesystem is taken away under it, after its first operations.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool for developers: what goes wrong ends it.

use std::path::PathBuf;

use lunfs_tests::load::{Load, skeleton};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, operations] = &args[..] else { panic!("usage: load DIR SEED OPERATIONS") };
    let dir = PathBuf::from(dir);
    let histories = skeleton(&dir, 4);
    let load = Load::start(histories, seed.parse().expect("a number"), &dir, u64::MAX);
    load.wait_for(operations.parse().expect("a number"));
    // Whoever waits for this line kills the daemon; from here on errors are expected.
    load.expect_crash_soon();
    println!("{} operations", load.counts().0);
    let _ = load.join();
}
