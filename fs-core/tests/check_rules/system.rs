//! System files and journals.

use fs_core::attr::Timestamp;
use fs_core::format::log::{self, NewHeader, StatfsDelta, flags};

use super::Case;
use crate::common::ForkDisk;
use crate::lab::{Lab, PAYLOAD};

/// Block `position` of the journal.
fn log_block(lab: &Lab, disk: &ForkDisk, position: usize) -> u64 {
    // Three levels at most: the journal has 8192 blocks.
    let journal = lab.system["journal0"];
    let (height, per_block) = (lab.get(disk, journal, 138, 2), 125_usize);
    let (mut block, mut first, mut span) = (journal, PAYLOAD, per_block.pow(height as u32 - 1));
    let mut rest = position;
    for _ in 0..height {
        block = lab.pointer(disk, block, first, rest / span);
        rest %= span;
        span = (span / per_block).max(1);
        first = 24;
    }
    block
}

/// Where the log's last header is, and its number.
fn head(lab: &Lab, disk: &ForkDisk) -> (usize, u64) {
    let header =
        |position: usize| log::parse_header(&disk.block(log_block(lab, disk, position), lab.size), position as u32);
    let headers = (0..8192).filter_map(|position| Some((position, header(position)?.sequence)));
    headers.max_by_key(|(_, sequence)| *sequence).unwrap()
}

/// Puts a header at `position`.
fn put_header(lab: &Lab, disk: &ForkDisk, position: usize, sequence: u64, tail: usize, flags: u32) {
    let mut block = vec![0; lab.size.bytes()];
    let addr = log_block(lab, disk, position);
    let new = NewHeader {
        jid: 0,
        sequence,
        flags,
        tail: tail as u32,
        blkno: position as u32,
        addr,
        time: Timestamp::default(),
        jinode: lab.system["journal0"],
        statfs_addr: 0,
        quota_addr: 0,
        local: StatfsDelta::default(),
    };
    log::write_header(&mut block, &new);
    disk.poke(addr << lab.size.shift(), &block);
}

fn clear(lab: &Lab, disk: &ForkDisk, position: usize) {
    disk.poke(log_block(lab, disk, position) << lab.size.shift(), &vec![0; lab.size.bytes()]);
}

pub(crate) const CASES: &[Case] = &[
    (&["system-file-missing"], |lab, disk| lab.rename(disk, lab.system["master"], "inum", "inux")),
    (&["system-file-missing"], |lab, disk| lab.rename(disk, lab.system["master"], "rindex", "rindes")),
    (&["system-file-missing"], |lab, disk| lab.rename(disk, lab.system["per_node"], "inum_range0", "inum_range1")),
    (&["system-file-shape"], |lab, disk| lab.put(disk, lab.system["inum_range0"], 56, 8, 17)),
    (&["system-file-shape"], |lab, disk| lab.put(disk, lab.system["statfs_change0"], 56, 8, 16)),
    (&["system-file-shape"], |lab, disk| lab.put(disk, lab.system["quota_change0"], 56, 8, 1 << 19)),
    (&["system-file-shape"], |lab, disk| lab.put(disk, lab.system["quota_change0"], 56, 8, 2 << 20)),
    (&["bad-magic"], |lab, disk| {
        let indirect = lab.pointer(disk, lab.system["quota_change0"], PAYLOAD, 0);
        lab.put(disk, lab.pointer(disk, indirect, 24, 3), 0, 4, 0);
    }),
    (&["system-flag"], |lab, disk| lab.put(disk, lab.system["quota"], 128, 4, 1)),
    (&["system-flag"], |lab, disk| lab.put(disk, lab.system["master"], 128, 4, 1)),
    (&["per-node-count", "system-file-missing", "unnamed"], |lab, disk| {
        lab.remove(disk, lab.system["per_node"], "inum_range0");
    }),
    (&["journal-names", "system-flag"], |lab, disk| {
        // A second name in jindex, behind journal0, where there is room: the file that had only one gets two.
        let place = lab.entry(disk, lab.system["jindex"], "journal0");
        let jindex = lab.system["jindex"];
        let rest = lab.get(disk, jindex, place.offset + 20, 2);
        lab.put(disk, jindex, place.offset + 20, 2, 48);
        let mut block = disk.block(jindex, lab.size);
        let name = *b"x";
        let at = place.offset + 48;
        for (offset, len, value) in [
            (0, 8, lab.get(disk, lab.empty, 24, 8)),
            (8, 8, lab.empty),
            (16, 4, u64::from(fs_core::format::dirent::hash(&name))),
            (20, 2, rest - 48),
            (22, 2, 1),
            (24, 2, 8),
        ] {
            crate::common::damage::put(&mut block, at + offset, len, value);
        }
        block[at + 40] = name[0];
        disk.poke(jindex << lab.size.shift(), &block);
        lab.add(disk, jindex, 148, 4, 1);
        lab.add(disk, lab.empty, 52, 4, 1);
    }),
    (&["statfs"], |lab, disk| lab.add(disk, lab.system["statfs"], PAYLOAD + 8, 8, 1)),
    (&["statfs-pending"], |lab, disk| {
        lab.add(disk, lab.system["statfs"], PAYLOAD + 8, 8, 5);
        lab.add(disk, lab.system["statfs_change0"], PAYLOAD + 8, 8, -5);
    }),
    (&["quota-size"], |lab, disk| lab.add(disk, lab.system["quota"], 56, 8, 1)),
    (&["quota-change-twice"], |lab, disk| {
        let indirect = lab.pointer(disk, lab.system["quota_change0"], PAYLOAD, 0);
        let block = lab.pointer(disk, indirect, 24, 3);
        for slot in [1, 4] {
            lab.put(disk, block, 24 + 16 * slot, 8, 10);
        }
    }),
    (&["journal-shape"], |lab, disk| lab.put(disk, lab.system["journal0"], 56, 8, 4 << 20)),
    (&["journal-shape"], |lab, disk| lab.put(disk, lab.system["journal0"], 56, 8, 9 << 20)),
    (&["journal-dirty"], |lab, disk| {
        let (position, sequence) = head(lab, disk);
        put_header(lab, disk, position + 1, sequence + 1, position + 1, flags::FLUSH_NORMAL);
    }),
    (&["journal-chain", "journal-dirty"], |lab, disk| {
        // The log starts at a block that is not of this turn.
        let (position, sequence) = head(lab, disk);
        put_header(lab, disk, position + 2, sequence + 1, position + 1, flags::FLUSH_NORMAL);
        clear(lab, disk, position + 1);
    }),
    (&["journal-sequence"], |lab, disk| {
        let (_, sequence) = head(lab, disk);
        put_header(lab, disk, 8000, sequence - 1, 8000, flags::UNMOUNT);
    }),
    (&["journal-header"], |lab, disk| lab.add(disk, log_block(lab, disk, 8000), 24, 8, 1)),
    (&["journal-unformatted"], |lab, disk| {
        let (kept, _) = head(lab, disk);
        (0..8192).filter(|position| *position != kept).for_each(|position| clear(lab, disk, position));
    }),
    (&["journal-no-head"], |lab, disk| (0..8192).for_each(|position| clear(lab, disk, position))),
];
