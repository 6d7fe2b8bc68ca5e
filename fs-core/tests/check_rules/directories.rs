//! Directories: entries, hash tables, leaves; names and counts of names.

use fs_core::format::rgrp::BlockState;

use super::Case;
use crate::lab::PAYLOAD;

pub(crate) const CASES: &[Case] = &[
    (&["entry-count"], |lab, disk| lab.add(disk, lab.dir, 148, 4, 1)),
    (&["entry-count"], |lab, disk| lab.add(disk, lab.many, 148, 4, -1)),
    (&["leaf-entry-count"], |lab, disk| lab.add(disk, lab.leaf, 26, 2, 1)),
    (&["leaf-owner"], |lab, disk| lab.put(disk, lab.leaf, 40, 8, lab.dir)),
    (&["leaf-depth"], |lab, disk| lab.put(disk, lab.leaf, 24, 2, 12)),
    (&["leaf-depth", "unnamed"], |lab, disk| lab.put(disk, lab.leaf, 24, 2, 18)),
    // Its own address: a chain that is a circle, and too early.
    (&["leaf-chain", "referenced-twice"], |lab, disk| lab.put(disk, lab.leaf, 32, 8, lab.leaf)),
    (&["hash-table-hole"], |lab, disk| {
        // The first leaf fills several slots.
        assert_eq!(lab.pointer(disk, lab.many, PAYLOAD, 1), lab.leaf);
        lab.put(disk, lab.many, PAYLOAD, 8, 0);
    }),
    (&["dirent-chain", "unnamed"], |lab, disk| {
        lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 20, 2, 41);
    }),
    (&["dirent-free-in-middle", "unnamed"], |lab, disk| {
        let place = lab.entry(disk, lab.sub, "file");
        lab.put(disk, lab.sub, place.offset + 8, 8, 0);
    }),
    (&["dirent-name", "unnamed"], |lab, disk| {
        lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 22, 2, 0);
    }),
    (&["dirent-name", "unnamed"], |lab, disk| {
        lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 41, 1, u64::from(b'/'));
    }),
    (&["dirent-hash"], |lab, disk| lab.add(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 16, 4, 1)),
    (&["dirent-kind"], |lab, disk| lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 24, 2, 3)),
    (&["dirent-target"], |lab, disk| lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 24, 2, 10)),
    (&["dirent-target"], |lab, disk| lab.add(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset, 8, 1)),
    (&["dirent-leaf"], |lab, disk| {
        // A name of the last slots in the first leaf.
        let (name, place) = lab.entries(disk, lab.leaf).pop().unwrap();
        let mut number = 0;
        let other = loop {
            number += 1;
            let other = format!("{number:0width$}", width = name.len());
            if fs_core::format::dirent::hash(other.as_bytes()) > 0xf000_0000 {
                break other;
            }
        };
        assert_eq!(place.block, lab.leaf);
        lab.rename(disk, lab.leaf, &name, &other);
    }),
    // It becomes a name like any other.
    (&["directory-twice", "dot-missing", "link-count"], |lab, disk| lab.rename(disk, lab.dir, ".", "x")),
    (&["dot-target"], |lab, disk| lab.retarget(disk, lab.dir, ".", lab.root)),
    (&["link-count", "top-parent"], |lab, disk| lab.retarget(disk, lab.root, "..", lab.dir)),
    (&["name-twice"], |lab, disk| {
        lab.rename(disk, lab.root, "big", "dir");
    }),
    (&["entry-dangling", "unnamed"], |lab, disk| {
        lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 8, 8, lab.free);
    }),
    (&["entry-dangling", "unnamed"], |lab, disk| {
        lab.put(disk, lab.sub, lab.entry(disk, lab.sub, "file").offset + 8, 8, u64::MAX);
    }),
    (&["entry-unlinked", "unlinked-has-links"], |lab, disk| lab.set_state(disk, lab.file, BlockState::Unlinked)),
    (&["entry-state", "leaked"], |lab, disk| lab.set_state(disk, lab.empty, BlockState::Used)),
    (&["entry-state"], |lab, disk| lab.set_state(disk, lab.empty, BlockState::Free)),
    (&["link-count"], |lab, disk| lab.put(disk, lab.empty, 52, 4, 2)),
    (&["link-count"], |lab, disk| lab.add(disk, lab.dir, 52, 4, -1)),
    (&["unnamed"], |lab, disk| lab.remove(disk, lab.dir, "empty")),
    (&["directory-twice", "link-count", "unnamed"], |lab, disk| lab.retarget(disk, lab.dir, "empty", lab.sub)),
    (&["link-count", "parent-wrong"], |lab, disk| lab.retarget(disk, lab.sub, "..", lab.root)),
    (&["directory-circle", "unnamed"], |lab, disk| {
        // dir contains sub, and sub now contains dir, instead of a file.
        lab.retarget(disk, lab.sub, "file", lab.dir);
        lab.retarget(disk, lab.dir, "..", lab.sub);
        lab.add(disk, lab.sub, 52, 4, 1);
        lab.remove(disk, lab.root, "dir");
        lab.add(disk, lab.root, 52, 4, -1);
    }),
    (&["directory-depth", "leaked", "link-count", "unnamed"], |lab, disk| lab.put(disk, lab.many, 146, 2, 30)),
];
