//! Compares mounts in one run: `bench [--scale X] [--reps N] NAME=DIR…`. The first one is what the others are compared
//! with. `tests/bench` makes the mounts and calls this.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A tool for developers: what goes wrong ends it.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // Figures of a table.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use block::device::IoBuf;
use rustix::fs::{Advice, OFlags};

/// One workload: its name, how often it is done, and what does it. Gives the time of one operation, in seconds.
struct Workload {
    name: &'static str,
    count: u64,
    run: fn(&Path, u64) -> f64,
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "create", count: 5000, run: create },
    Workload { name: "stat", count: 5000, run: stat },
    Workload { name: "unlink", count: 5000, run: unlink },
    Workload { name: "create + 4 KiB + fsync", count: 300, run: create_and_sync },
    Workload { name: "write 4 KiB", count: 20_000, run: |dir, count| write(dir, count, 4096, 0) },
    Workload { name: "read 4 KiB, cold", count: 20_000, run: |dir, count| read(dir, count, 4096, true, 0) },
    Workload { name: "read 4 KiB, cached", count: 20_000, run: |dir, count| read(dir, count, 4096, false, 0) },
    Workload { name: "read 4 KiB, direct", count: 5000, run: |dir, count| read(dir, count, 4096, true, direct()) },
    Workload { name: "write 4 KiB, direct", count: 5000, run: |dir, count| write(dir, count, 4096, direct()) },
    Workload { name: "write 1 MiB", count: 400, run: |dir, count| write(dir, count, 1 << 20, 0) },
    Workload { name: "read 1 MiB, cold", count: 400, run: |dir, count| read(dir, count, 1 << 20, true, 0) },
    Workload { name: "read 1 MiB, direct", count: 400, run: |dir, count| read(dir, count, 1 << 20, true, direct()) },
    Workload { name: "write 1 MiB, direct", count: 400, run: |dir, count| write(dir, count, 1 << 20, direct()) },
];

fn direct() -> i32 {
    OFlags::DIRECT.bits().cast_signed()
}

fn each(count: u64, mut act: impl FnMut(u64)) -> f64 {
    let started = Instant::now();
    for index in 0..count {
        act(index);
    }
    started.elapsed().as_secs_f64() / count as f64
}

fn name(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("file{index:06}"))
}

fn create(dir: &Path, count: u64) -> f64 {
    each(count, |index| drop(File::create_new(name(dir, index)).unwrap()))
}

fn stat(dir: &Path, count: u64) -> f64 {
    each(count, |index| assert!(name(dir, index).symlink_metadata().unwrap().is_file()))
}

fn unlink(dir: &Path, count: u64) -> f64 {
    each(count, |index| std::fs::remove_file(name(dir, index)).unwrap())
}

fn create_and_sync(dir: &Path, count: u64) -> f64 {
    let data = [7; 4096];
    let took = each(count, |index| {
        let file = File::create_new(name(dir, index)).unwrap();
        file.write_all_at(&data, 0).unwrap();
        file.sync_all().unwrap();
    });
    unlink(dir, count);
    took
}

/// Sequential writes to one file, the fsync at the end included.
fn write(dir: &Path, count: u64, size: usize, flags: i32) -> f64 {
    let mut data = IoBuf::zeroed(size);
    lunfs_tests::data::fill(1, 0, &mut data);
    let path = dir.join(format!("data{size}"));
    let file = OpenOptions::new().write(true).create(true).truncate(flags == 0).custom_flags(flags).open(path).unwrap();
    let started = Instant::now();
    for index in 0..count {
        file.write_all_at(&data, index * size as u64).unwrap();
    }
    file.sync_all().unwrap();
    started.elapsed().as_secs_f64() / count as f64
}

/// Sequential reads of what [`write`] has written; `cold`: the page cache is dropped before.
fn read(dir: &Path, count: u64, size: usize, cold: bool, flags: i32) -> f64 {
    let mut data = IoBuf::zeroed(size);
    let path = dir.join(format!("data{size}"));
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).unwrap();
    if cold {
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    each(count, |index| file.read_exact_at(&mut data, index * size as u64).unwrap())
}

fn main() {
    let (mut scale, mut reps, mut mounts) = (1.0, 3, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), arg.split_once('=')) {
            ("--scale", _) => scale = args.next().and_then(|text| text.parse().ok()).expect("--scale needs a number"),
            ("--reps", _) => reps = args.next().and_then(|text| text.parse().ok()).expect("--reps needs a number"),
            (_, Some((name, dir))) => mounts.push((name.to_owned(), PathBuf::from(dir))),
            _ => panic!("usage: bench [--scale X] [--reps N] NAME=DIR…"),
        }
    }
    assert!(!mounts.is_empty(), "usage: bench [--scale X] [--reps N] NAME=DIR…");
    // Best of several rounds that take turns, so that a disturbance hits all of them.
    let mut best = vec![vec![f64::INFINITY; mounts.len()]; WORKLOADS.len()];
    for round in 0..reps {
        for (column, (name, dir)) in mounts.iter().enumerate() {
            let dir = dir.join(format!("round{round}"));
            std::fs::create_dir(&dir).unwrap();
            for (row, workload) in WORKLOADS.iter().enumerate() {
                eprintln!("{round}: {name}: {}", workload.name);
                let count = ((workload.count as f64 * scale) as u64).max(1);
                let took = (workload.run)(&dir, count);
                best[row][column] = best[row][column].min(took);
            }
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
    let names: Vec<&str> = mounts.iter().map(|(name, _)| name.as_str()).collect();
    println!("| µs for one | {} |", names.join(" | "));
    println!("| --- |{}", " --- |".repeat(names.len()));
    for (row, workload) in WORKLOADS.iter().enumerate() {
        let cells: Vec<String> = best[row]
            .iter()
            .enumerate()
            .map(|(column, took)| match column {
                0 => format!("{:.1}", took * 1e6),
                _ => format!("{:.1} (× {:.2})", took * 1e6, took / best[row][0]),
            })
            .collect();
        println!("| {} | {} |", workload.name, cells.join(" | "));
    }
}
