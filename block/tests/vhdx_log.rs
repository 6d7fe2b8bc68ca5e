//! Dirty logs of `.vhdx` files, and damage of any kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the tests' configuration does not reach functions beside the tests"
)]

mod common;
mod vhdx_disk;

use std::os::unix::fs::FileExt;

use block::device::IoBuf;
use block::open;
use block::vhdx::VhdxError;
use common::{Numbers, Scratch, assert_holds, block_on};
use vhdx_disk::format::*;
use vhdx_disk::*;

#[test]
fn a_dirty_log_is_replayed_wherever_it_begins_in_the_ring() {
    let scratch = Scratch::new();
    let sectors = usize::try_from(LOG_LEN).unwrap() / LOG_SECTOR_BYTES;
    for start in [0, 1, 100, sectors - 6, sectors - 4, sectors - 3, sectors - 1] {
        let (disk, content) = with_dirty_log(start);
        let path = built(&scratch, &disk);
        let device = open(&path, WRITE).unwrap();
        assert_holds(&*device, &content);
        drop(device);
        // The log is clean now: the other implementation would say so, and the tables hold without it.
        assert_holds(&*open(&path, READ_ONLY).unwrap(), &content);
        assert!(converted_by_qemu(&scratch, &path).is_none_or(|seen| seen == content), "start {start}");
    }
}

#[test]
fn another_implementation_replays_the_same_log_to_the_same_disk() {
    let scratch = Scratch::new();
    let (disk, content) = with_dirty_log(3);
    let path = built(&scratch, &disk);
    let Ok(output) =
        std::process::Command::new("qemu-img").args(["check", "-r", "all", "-f", "vhdx"]).arg(&path).output()
    else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(converted_by_qemu(&scratch, &path).unwrap(), content);
    assert_holds(&*open(&path, WRITE).unwrap(), &content);
}

#[test]
fn a_dirty_log_of_a_file_that_is_read_only_is_replayed_in_memory() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    let table = [present(1), 0, present(0), 0];
    disk.log_entry(0, 5, 0, &[(BAT_AT, bat_sector(&table)), (BAT_AT + 4096, Write::Zero(4096))]);
    let path = built(&scratch, &disk);
    let before = std::fs::read(&path).unwrap();
    let mib = usize::try_from(MIB).unwrap();
    let mut content = vec![0; 4 * mib];
    content[..mib].copy_from_slice(&disk.blocks[mib..]);
    content[2 * mib..3 * mib].copy_from_slice(&disk.blocks[..mib]);
    assert_holds(&*open(&path, READ_ONLY).unwrap(), &content);
    assert!(std::fs::read(&path).unwrap() == before, "the file did not change");
    // A log that changes content as well cannot be hidden in this way.
    let (disk, _) = with_dirty_log(0);
    assert!(matches!(refused_file(&built(&scratch, &disk), READ_ONLY), VhdxError::LogNeedsWriting));
}

#[test]
fn entries_before_the_tail_or_of_an_older_log_are_not_replayed() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    let content = disk.content();
    let table = disk.bat.clone();
    // The first entry is done with: the tail is at the second.
    let second = disk.log_entry(0, 20, 0, &[(BLOCKS_AT, Write::Zero(MIB))]);
    let third = disk.log_entry(second, 21, second, &[(BAT_AT, bat_sector(&table))]);
    // What follows has a gap in its numbers, and then there is an older run.
    let fourth = disk.log_entry(third, 23, 40, &[(BLOCKS_AT, Write::Zero(MIB))]);
    disk.log_entry(fourth + 5, 7, fourth + 5, &[(BLOCKS_AT, Write::Zero(MIB))]);
    // Another log's entry.
    disk.log_entry_of(100, &[(BLOCKS_AT, Write::Zero(MIB))], |header| {
        header.log_id = Guid([1; 16]);
        header.sequence.set(99);
        header.tail_bytes.set(100 * 4096);
    });
    assert_holds(&*open(&built(&scratch, &disk), WRITE).unwrap(), &content);
}

#[test]
fn a_torn_last_entry_does_not_count() {
    let scratch = Scratch::new();
    let (disk, _) = with_dirty_log(0);
    // Sectors 0 and 1 are the first entry, 2 to 4 the second, 5 the third.
    for (torn, last) in [(5, 101), (4, 100), (3, 100), (2, 100)] {
        let mut disk = disk.clone();
        disk.log[torn * LOG_SECTOR_BYTES + 2000] ^= 1;
        let path = built(&scratch, &disk);
        let device = open(&path, WRITE).unwrap();
        let first = block_on(device.read(0, IoBuf::zeroed(8192))).unwrap();
        let mib = usize::try_from(MIB).unwrap();
        if last == 100 {
            assert!(first[..] == disk.blocks[..8192], "sector {torn} torn");
        } else {
            assert!(first[4096..] == disk.blocks[mib + 4096..mib + 8192], "sector {torn} torn");
        }
    }
    let mut disk = disk;
    disk.log[100] ^= 1;
    disk.log[2 * LOG_SECTOR_BYTES + 100] ^= 1;
    disk.log[5 * LOG_SECTOR_BYTES + 100] ^= 1;
    assert_refused!(scratch, disk, VhdxError::LogEmpty);
}

#[test]
fn a_log_extends_the_file_and_is_refused_when_the_file_was_cut_since() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    let table = [present(2), present(1), present(0), 0];
    disk.log_entry_of(0, &[(BAT_AT, bat_sector(&table))], |header| {
        header.sequence.set(1);
        header.file_bytes.set(BLOCKS_AT + 3 * MIB);
    });
    let path = built(&scratch, &disk);
    assert_holds(&*open(&path, WRITE).unwrap(), &disk.content());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCKS_AT + 3 * MIB);
    let mut disk = Disk::new(512);
    disk.log_entry_of(0, &[], |header| {
        header.sequence.set(1);
        header.flushed_bytes.set(BLOCKS_AT + 9 * MIB);
    });
    assert_refused!(scratch, disk, VhdxError::LogNewerThanFile { .. });
}

#[test]
fn a_log_that_writes_where_none_may_is_refused_by_name() {
    let scratch = Scratch::new();
    let sector = Write::Sector(vec![0; LOG_SECTOR_BYTES]);
    for (offset, write) in [
        (0, sector.clone()),
        (HEADER_OFFSETS[0], sector.clone()),
        (LOG_AT, sector.clone()),
        (LOG_AT - 4096, Write::Zero(8192)),
        (BAT_AT + 1, sector.clone()),
        (BAT_AT, Write::Zero(1)),
        (BAT_AT, Write::Zero(u64::MAX)),
        (u64::MAX - 4095, sector),
        (BAT_AT, Write::Zero(1 << 60)),
    ] {
        let mut disk = Disk::new(512);
        disk.log_entry(0, 1, 0, &[(offset, write)]);
        assert_refused!(scratch, disk, VhdxError::LogTarget { .. });
    }
    let mut disk = Disk::new(512);
    disk.log_entry_of(0, &[], |header| {
        header.sequence.set(1);
        header.file_bytes.set(u64::MAX);
    });
    assert_refused!(scratch, disk, VhdxError::LogTarget { .. });
    let mut disk = Disk::new(512);
    disk.log_entry(0, 1, 0, &[]);
    disk.headers[0].log_version.set(1);
    assert_refused!(scratch, disk, VhdxError::LogVersion { version: 1 });
}

#[test]
fn an_entry_with_more_descriptors_than_one_sector_holds_is_replayed() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    let sectors: Vec<Vec<u8>> = (0..200).map(|seed| Numbers::new(seed).bytes(LOG_SECTOR_BYTES)).collect();
    let changes: Vec<(u64, Write)> =
        (0..).zip(&sectors).map(|(index, sector)| (BLOCKS_AT + index * 4096, Write::Sector(sector.clone()))).collect();
    disk.log_entry(200, 1 << 40, 200, &changes);
    let path = built(&scratch, &disk);
    let device = open(&path, WRITE).unwrap();
    let seen = block_on(device.read(2 * MIB, IoBuf::zeroed(200 * 4096))).unwrap();
    assert!(seen[..] == sectors.concat()[..]);
}

#[test]
fn no_damage_makes_opening_or_reading_panic_or_hang() {
    let scratch = Scratch::new();
    let (disk, _) = with_dirty_log(0);
    let path = built(&scratch, &disk);
    let whole = std::fs::read(&path).unwrap();
    let mut numbers = Numbers::new(11);
    // Where structures are, in bytes: damage elsewhere is damage of content.
    let structures =
        [(64 << 10, 80), (192 << 10, 96), (LOG_AT, 24576), (METADATA_AT, 192), (METADATA_AT + 65536, 40), (BAT_AT, 40)];
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    for round in 0..400 {
        let (at, len) = structures[usize::try_from(numbers.below(6)).unwrap()];
        let mut damaged = whole[..usize::try_from(BLOCKS_AT).unwrap()].to_vec();
        for _ in 0..=numbers.below(3) {
            let place = usize::try_from(at + numbers.below(len)).unwrap();
            damaged[place] = numbers.next().to_le_bytes()[0];
        }
        // A damaged checksum hides everything behind it, so most rounds repair it.
        if numbers.below(4) != 0 {
            repair_checksums(&mut damaged);
        }
        file.set_len(whole.len() as u64).unwrap();
        file.write_all_at(&damaged, 0).unwrap();
        if let Ok(device) = open(&path, if round % 2 == 0 { WRITE } else { READ_ONLY }) {
            let size = device.geometry().size_bytes.min(8 * MIB);
            for offset in (0..size / MIB).map(|mib| mib * MIB) {
                let _ = block_on(device.read(offset, IoBuf::zeroed(4096)));
            }
        }
    }
}

fn repair_checksums(bytes: &mut [u8]) {
    let headers = HEADER_OFFSETS.map(|at| (at, 4096));
    let tables = REGION_TABLE_OFFSETS.map(|at| (at, TABLE_BYTES));
    let entries = [(LOG_AT, 8192), (LOG_AT + 8192, 12288), (LOG_AT + 20480, 4096)];
    for (at, len) in headers.into_iter().chain(tables).chain(entries) {
        let at = usize::try_from(at).unwrap();
        let sum = checksum(&bytes[at..at + len]);
        bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
}
