//! A process that is killed: what it was told to be written is there, its disk is whole, and its claim is gone.

#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use block::claim::{Claim, ClaimError, Sharing};
use block::device::{BlockDevice, Durability, IoBuf};
use block::vhdx::{Kind, create};
use block::{OpenOptions, open};
use common::{Scratch, block_on};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 256 * MIB;
/// Set in the process that is to be killed: the disk it works on.
const DISK: &str = "LUNFS_TEST_KILLED_DISK";

/// Every write goes somewhere else, so that each of the first ones needs a new block of a dynamic disk.
fn place(index: u64) -> u64 {
    index * 37 % 128 * 2 * MIB + index / 128 * 4096
}

fn bytes(index: u64) -> IoBuf {
    IoBuf::copied_from(&[u8::try_from(index % 251).unwrap() + 1; 4096])
}

/// The process that is to be killed; in an ordinary run of the tests it does nothing.
#[test]
fn writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(DISK).map(PathBuf::from) else { return };
    let _claim = Claim::take(&path, Sharing::Exclusive).unwrap();
    let device = open(&path, OpenOptions::default()).unwrap();
    for index in 0..u64::MAX {
        block_on(device.write(place(index % 8192), bytes(index % 8192), Durability::Durable)).unwrap();
        println!("\nwrote {index}");
    }
}

/// Kills a process that writes to `path` once `wanted` writes are done; gives how many were.
fn write_and_kill(path: &Path, wanted: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writes_until_it_is_killed", "--nocapture"])
        .env(DISK, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(index) = line.unwrap().strip_prefix("wrote ") {
            done = index.parse::<u64>().unwrap() + 1;
        }
        if done == wanted {
            assert!(matches!(Claim::take(path, Sharing::Exclusive), Err(ClaimError::InUse { .. })));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    done
}

fn holds_what_was_written(device: &dyn BlockDevice, done: u64) {
    for index in 0..done {
        let seen = block_on(device.read(place(index), IoBuf::zeroed(4096))).unwrap();
        assert!(seen[..] == bytes(index)[..], "write {index} of {done}");
    }
}

#[test]
fn a_killed_writers_disk_is_whole_and_free() {
    let scratch = Scratch::new();
    let vhdx = scratch.path("disk.vhdx");
    create(&vhdx, SIZE, Kind::Dynamic, 512).unwrap();
    for path in [vhdx.clone(), scratch.image("image", SIZE)] {
        for wanted in [1, 2, 17, 60] {
            let done = write_and_kill(&path, wanted);
            assert!(done >= wanted);
            drop(common::claim_when_free(&path, Sharing::Exclusive));
            holds_what_was_written(&*open(&path, OpenOptions::default()).unwrap(), done);
        }
    }
    if Command::new("qemu-img").arg("--version").output().is_ok() {
        common::run("qemu-img", &["check", "-f", "vhdx", vhdx.to_str().unwrap()]);
    }
}
