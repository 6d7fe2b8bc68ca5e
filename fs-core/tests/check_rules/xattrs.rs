//! Extended attributes, made by hand: the blocks of a file become blocks of its attributes.

use fs_core::format::meta::{self, BlockKind};

use super::Case;
use crate::common::ForkDisk;
use crate::common::damage::put;
use crate::lab::{Lab, PAYLOAD};

/// Offset of the first record.
const FIRST: usize = 24;
/// Length of the first record: one with a name of one byte, and a value of three.
const FIRST_LEN: usize = 24;
/// Length of the second one: a pointer to a value of 100 bytes.
const SECOND_LEN: usize = 1000 - FIRST_LEN;

/// Gives the file of three blocks two attributes, one of which has its value in a block, and a list of blocks.
/// Returns the list, the block of records, and that of the value.
fn make(lab: &Lab, disk: &ForkDisk) -> [u64; 3] {
    let blocks = [0, 1, 2].map(|index| lab.pointer(disk, lab.file, PAYLOAD, index));
    for (addr, kind) in blocks.iter().zip([BlockKind::INDIRECT, BlockKind::XATTR, BlockKind::XATTR_DATA]) {
        let mut block = vec![0; lab.size.bytes()];
        meta::start(&mut block, kind);
        disk.poke(addr << lab.size.shift(), &block);
    }
    let [list, records, value] = blocks;
    lab.put(disk, list, 24, 8, records);
    // rec_len, data_len, name_len, type, flags, num_ptrs.
    let mut block = disk.block(records, lab.size);
    for (at, len, fields) in [(FIRST, FIRST_LEN, [3, 1, 1, 0, 0]), (FIRST + FIRST_LEN, SECOND_LEN, [100, 1, 3, 1, 1])] {
        put(&mut block, at, 4, len as u64);
        put(&mut block, at + 4, 4, fields[0]);
        (0..4).for_each(|index| put(&mut block, at + 8 + index, 1, fields[index + 1]));
        block[at + 16] = b'n';
    }
    put(&mut block, FIRST + FIRST_LEN + 24, 8, value);
    disk.poke(records << lab.size.shift(), &block);
    for index in 0..3 {
        lab.put(disk, lab.file, PAYLOAD + 8 * index, 8, 0);
    }
    for (at, len, value) in [(56, 8, 0), (138, 2, 0), (168, 8, list), (128, 4, 8)] {
        lab.put(disk, lab.file, at, len, value);
    }
    blocks
}

pub(crate) const CASES: &[Case] = &[
    (&[], |lab, disk| {
        make(lab, disk);
    }),
    (&["xattr-chain", "leaked"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST, 4, 1001)),
    (&["xattr-chain", "leaked"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST, 4, 0)),
    (&["xattr-last"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + FIRST_LEN + 10, 1, 0)),
    (&["xattr-last"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + 10, 1, 1)),
    (&["xattr-kind"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + 9, 1, 5)),
    (&["xattr-kind"], |lab, disk| {
        lab.put(disk, make(lab, disk)[1], FIRST + 9, 1, 4);
        lab.put(disk, 64, 24, 4, 1801);
    }),
    (&[], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + 9, 1, 4)),
    (&["xattr-name"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + 8, 1, 0)),
    (&["xattr-value"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + 4, 4, 8)),
    (&["xattr-value"], |lab, disk| lab.put(disk, make(lab, disk)[1], FIRST + FIRST_LEN + 11, 1, 2)),
    (&["xattr-list-hole"], |lab, disk| {
        let [list, records, _] = make(lab, disk);
        lab.put(disk, list, 24, 8, 0);
        lab.put(disk, list, 32, 8, records);
    }),
    (&["wrong-kind"], |lab, disk| lab.put(disk, make(lab, disk)[2], 4, 4, 10)),
    (&["wrong-kind", "leaked"], |lab, disk| lab.put(disk, make(lab, disk)[1], 4, 4, 11)),
    (&["referenced-twice"], |lab, disk| {
        let [_, records, _] = make(lab, disk);
        lab.put(disk, lab.empty, 168, 8, records);
    }),
];
