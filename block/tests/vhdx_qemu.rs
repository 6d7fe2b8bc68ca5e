//! `.vhdx` files against another implementation: what `qemu-img` makes is read and written right, and what is made and
//! written here is right in its eyes.

#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

mod common;

use std::path::Path;

use block::device::{Durability, IoBuf};
use block::vhdx::{Kind, create};
use block::{OpenOptions, open};
use common::{Numbers, Scratch, assert_holds, block_on, run, work_at_random};

const MIB: u64 = 1 << 20;
const READ_ONLY: OpenOptions = OpenOptions { read_only: true, io_uring: true };

fn qemu_is_here() -> bool {
    let here = std::process::Command::new("qemu-img").arg("--version").output().is_ok();
    if !here {
        eprintln!("qemu-img is not installed, nothing tested");
    }
    here
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `qemu-img` says is on the disk.
fn as_qemu_sees_it(scratch: &Scratch, vhdx: &Path) -> Vec<u8> {
    run("qemu-img", &["check", "-f", "vhdx", text(vhdx)]);
    let raw = scratch.path("converted");
    run("qemu-img", &["convert", "-f", "vhdx", "-O", "raw", text(vhdx), text(&raw)]);
    std::fs::read(raw).unwrap()
}

fn zeroes(len_bytes: u64) -> Vec<u8> {
    vec![0; usize::try_from(len_bytes).unwrap()]
}

/// Works on a disk in several sessions; every byte has to be right here and there after each.
fn is_read_and_written_right(scratch: &Scratch, vhdx: &Path, model: &mut [u8], seed: u64) {
    for session in 0..3 {
        let options = OpenOptions { read_only: false, io_uring: session % 2 == 0 };
        let device = open(vhdx, options).unwrap();
        assert_eq!(device.geometry().size_bytes, model.len() as u64);
        assert_holds(&*device, model);
        // Now and then longer than a block of 1 MiB.
        let longest = if session == 2 { 3 * MIB } else { 64 * 1024 };
        work_at_random(&*device, model, 60, longest, seed + session);
        drop(device);
        assert!(as_qemu_sees_it(scratch, vhdx) == *model, "session {session}, seed {seed}");
        assert_holds(&*open(vhdx, READ_ONLY).unwrap(), model);
    }
}

#[test]
fn disks_made_by_qemu_are_read_and_written_right() {
    if !qemu_is_here() {
        return;
    }
    let scratch = Scratch::new();
    for (kind, block, size) in
        [("dynamic", "1M", 24 * MIB), ("fixed", "1M", 24 * MIB), ("dynamic", "8M", 21 * MIB), ("fixed", "8M", 21 * MIB)]
    {
        let vhdx = scratch.path(&format!("{kind}-{block}.vhdx"));
        let options = format!("subformat={kind},block_size={block}");
        run("qemu-img", &["create", "-q", "-f", "vhdx", "-o", &options, text(&vhdx), &size.to_string()]);
        is_read_and_written_right(&scratch, &vhdx, &mut zeroes(size), 1);
    }
}

#[test]
fn a_disk_that_qemu_has_filled_holds_the_same_bytes_here() {
    if !qemu_is_here() {
        return;
    }
    let scratch = Scratch::new();
    let raw = scratch.path("raw");
    let mut model = zeroes(20 * MIB);
    let mut numbers = Numbers::new(7);
    for start in [0, 5 * MIB + 512, 19 * MIB] {
        let start = usize::try_from(start).unwrap();
        model[start..start + 100_000].copy_from_slice(&numbers.bytes(100_000));
    }
    std::fs::write(&raw, &model).unwrap();
    for kind in ["dynamic", "fixed"] {
        let vhdx = scratch.path(&format!("{kind}.vhdx"));
        let options = format!("subformat={kind},block_size=1M");
        run("qemu-img", &["convert", "-f", "raw", "-O", "vhdx", "-o", &options, text(&raw), text(&vhdx)]);
        is_read_and_written_right(&scratch, &vhdx, &mut model.clone(), 20);
    }
}

#[test]
fn disks_made_here_are_right_in_qemus_eyes() {
    if !qemu_is_here() {
        return;
    }
    let scratch = Scratch::new();
    for (name, kind) in [("fixed", Kind::Fixed), ("dynamic", Kind::Dynamic)] {
        let vhdx = scratch.path(&format!("{name}.vhdx"));
        let size = 19 * MIB + 512;
        create(&vhdx, size, kind, 512).unwrap();
        let info = run("qemu-img", &["info", text(&vhdx)]);
        assert!(info.contains(&format!("({size} bytes)")), "{info}");
        is_read_and_written_right(&scratch, &vhdx, &mut zeroes(size), 40);
    }
}

#[test]
fn a_large_dynamic_disk_has_entries_for_sector_bitmaps_in_between() {
    if !qemu_is_here() {
        return;
    }
    // With blocks of 1 MiB and sectors of 512 bytes every 4097th entry is one: a disk of 5 GiB has one.
    let scratch = Scratch::new();
    let vhdx = scratch.path("large.vhdx");
    run("qemu-img", &["create", "-q", "-f", "vhdx", "-o", "block_size=1M", text(&vhdx), "5G"]);
    let device = open(&vhdx, OpenOptions::default()).unwrap();
    let mut numbers = Numbers::new(3);
    let (bytes, at) = (numbers.bytes(4096), 4097 * MIB);
    for offset in [0, 4095 * MIB, 4096 * MIB, at] {
        block_on(device.write(offset, IoBuf::copied_from(&bytes), Durability::Durable)).unwrap();
    }
    drop(device);
    run("qemu-img", &["check", "-f", "vhdx", text(&vhdx)]);
    let mut last = zeroes(MIB);
    last[..4096].copy_from_slice(&bytes);
    // The whole content, sparse on both sides.
    let raw = scratch.path("large.raw");
    run("qemu-img", &["convert", "-f", "vhdx", "-O", "raw", text(&vhdx), text(&raw)]);
    let raw = open(&raw, READ_ONLY).unwrap();
    for offset in [0, 4095 * MIB, 4096 * MIB, at] {
        assert!(block_on(raw.read(offset, IoBuf::zeroed(1 << 20))).unwrap()[..] == last[..], "byte {offset}");
    }
}

#[test]
fn a_new_disk_does_not_replace_a_file_and_has_a_possible_size() {
    let scratch = Scratch::new();
    let path = scratch.image("taken.vhdx", 10);
    create(&path, MIB, Kind::Dynamic, 512).unwrap_err();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 10);
    for (size, sector) in [(0, 512), (100, 512), (512, 4096), (MIB, 1024), ((64 << 40) + 512, 512)] {
        create(&scratch.path("new.vhdx"), size, Kind::Dynamic, sector).unwrap_err();
        assert!(!scratch.path("new.vhdx").exists());
    }
}
