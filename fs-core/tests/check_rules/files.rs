//! Dinodes, trees, and who uses which block.

use fs_core::format::rgrp::BlockState;

use super::Case;
use crate::lab::PAYLOAD;

pub(crate) const CASES: &[Case] = &[
    (&["goal"], |lab, disk| lab.put(disk, lab.file, 104, 8, 0)),
    (&["goal"], |lab, disk| lab.put(disk, lab.file, 104, 8, disk.blocks(lab.size))),
    (&["directory-not-journaled"], |lab, disk| lab.add(disk, lab.dir, 128, 4, -1)),
    (&["linear-directory-size"], |lab, disk| lab.put(disk, lab.dir, 56, 8, 700)),
    (&["linear-directory-size"], |lab, disk| lab.put(disk, lab.dir, 56, 8, 2000)),
    (&["stuffed-size"], |lab, disk| lab.put(disk, lab.empty, 56, 8, 2000)),
    (&["orphan"], |lab, disk| {
        lab.remove(disk, lab.sub, "file");
        lab.put(disk, lab.file, 52, 4, 0);
        lab.set_state(disk, lab.file, BlockState::Unlinked);
    }),
    (&["unlinked-has-links"], |lab, disk| {
        lab.remove(disk, lab.sub, "file");
        lab.set_state(disk, lab.file, BlockState::Unlinked);
    }),
    (&["truncation-unfinished"], |lab, disk| lab.put(disk, lab.file, 128, 4, 0x2000_0000)),
    (&["block-count"], |lab, disk| lab.add(disk, lab.file, 64, 8, 1)),
    (&["block-count"], |lab, disk| lab.add(disk, lab.many, 64, 8, -1)),
    // Not an inode any more: its name leads nowhere.
    (&["bad-magic", "entry-dangling"], |lab, disk| lab.put(disk, lab.empty, 0, 4, 0)),
    (&["dinode-address", "entry-dangling"], |lab, disk| lab.add(disk, lab.empty, 32, 8, 1)),
    (&["dinode-mode", "entry-dangling"], |lab, disk| lab.put(disk, lab.empty, 40, 4, 0o070_644)),
    (&["dinode-height"], |lab, disk| lab.put(disk, lab.empty, 138, 2, 20)),
    (&["dinode-size"], |lab, disk| lab.put(disk, lab.file, 56, 8, 1 << 63)),
    (&["symlink-shape"], |lab, disk| lab.put(disk, lab.symlink, 56, 8, 0)),
    (&["directory-size"], |lab, disk| lab.add(disk, lab.many, 56, 8, 8)),
    // Blocks: marked as free, as another inode, not at all.
    (&["referenced-state"], |lab, disk| {
        lab.set_state(disk, lab.pointer(disk, lab.file, PAYLOAD, 1), BlockState::Free);
    }),
    (&["referenced-state"], |lab, disk| lab.set_state(disk, lab.leaf, BlockState::Free)),
    (&["bad-magic", "referenced-state"], |lab, disk| {
        lab.set_state(disk, lab.pointer(disk, lab.file, PAYLOAD, 1), BlockState::Dinode);
    }),
    (&["leaked", "referenced-outside"], |lab, disk| lab.put(disk, lab.file, PAYLOAD, 8, lab.places[0].addr.0)),
    (&["leaked", "pointer-range"], |lab, disk| lab.put(disk, lab.file, PAYLOAD, 8, 1 << 40)),
    (&["leaked", "pointer-range"], |lab, disk| lab.put(disk, lab.file, PAYLOAD, 8, 64)),
    (&["leaked", "referenced-twice"], |lab, disk| {
        lab.put(disk, lab.file, PAYLOAD, 8, lab.pointer(disk, lab.file, PAYLOAD, 1));
    }),
    (&["leaked", "referenced-twice"], |lab, disk| {
        lab.put(disk, lab.file, PAYLOAD, 8, lab.pointer(disk, lab.system["journal0"], PAYLOAD, 0));
    }),
    (&["leaked"], |lab, disk| lab.set_state(disk, lab.free, BlockState::Used)),
    // A pointer that is missing: its block is nobody's, and missed in the count.
    (&["block-count", "leaked"], |lab, disk| lab.put(disk, lab.file, PAYLOAD, 8, 0)),
    (&["bad-magic", "leaked"], |lab, disk| lab.put(disk, lab.pointer(disk, lab.big, PAYLOAD, 0), 0, 4, 1)),
    // A tree that is a circle: what hung there is lost.
    (&["leaked", "referenced-twice"], |lab, disk| {
        let indirect = lab.pointer(disk, lab.big, PAYLOAD, 0);
        lab.put(disk, lab.big, 138, 2, 3);
        for index in 0..125 {
            lab.put(disk, indirect, 24 + 8 * index, 8, indirect);
        }
        for index in 1..99 {
            lab.put(disk, lab.big, PAYLOAD + 8 * index, 8, 0);
        }
    }),
];
