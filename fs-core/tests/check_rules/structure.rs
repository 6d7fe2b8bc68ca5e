//! Superblock, marker, resource index, resource groups.

use fs_core::format::marker::{self, RawMarker};
use zerocopy::IntoBytes;

use super::Case;
use crate::lab::PAYLOAD;

/// Block of the superblock.
const SUPERBLOCK: u64 = 64;

pub(crate) const CASES: &[Case] = &[
    (&["bad-magic"], |lab, disk| lab.put(disk, SUPERBLOCK, 0, 4, 1)),
    (&["wrong-kind"], |lab, disk| lab.put(disk, SUPERBLOCK, 4, 4, 2)),
    (&["fs-format"], |lab, disk| lab.put(disk, SUPERBLOCK, 24, 4, 1803)),
    (&["multihost-format"], |lab, disk| lab.put(disk, SUPERBLOCK, 28, 4, 1901)),
    (&["block-size"], |lab, disk| lab.put(disk, SUPERBLOCK, 36, 4, 1000)),
    (&["null-inode"], |lab, disk| lab.put(disk, SUPERBLOCK, 56, 8, 0)),
    (&["repair-interrupted"], |lab, disk| lab.put(disk, SUPERBLOCK, 96, 4, u64::from(u32::from_be_bytes(*b"fsck")))),
    (&["marker-invalid"], |_, disk| disk.poke(marker::OFFSET_BYTES, &marker::MAGIC)),
    (&["cluster-area-overlap"], |lab, disk| {
        let mut uuid = [0; 16];
        disk.peek((SUPERBLOCK << lab.size.shift()) + 256, &mut uuid);
        disk.poke(marker::OFFSET_BYTES, RawMarker::new(uuid, Some((128 << 10, 1 << 20))).as_bytes());
    }),
    (&["rgrp-free-count"], |lab, disk| lab.put_rgrp(disk, 28, 4, 1)),
    (&["rgrp-dinode-count"], |lab, disk| lab.put_rgrp(disk, 32, 4, 3)),
    (&["rgrp-counts"], |lab, disk| lab.put_rgrp(disk, 28, 4, 1 << 31)),
    (&["rgrp-crc"], |lab, disk| lab.put(disk, lab.places[0].addr.0, 64, 4, 77)),
    (&["rgrp-copy"], |lab, disk| lab.put_rgrp(disk, 56, 4, 12)),
    (&["rgrp-copy"], |lab, disk| lab.put_rgrp(disk, 24, 4, 1 << 31)),
    (&["rgrp-skip"], |lab, disk| lab.put_rgrp(disk, 36, 4, 5)),
    // Of what is in the group, nothing is known any more.
    (&["bad-magic"], |lab, disk| lab.put(disk, lab.places[0].addr.0, 0, 4, 1)),
    (&["wrong-kind"], |lab, disk| lab.put(disk, lab.places[0].addr.0 + 1, 4, 4, 9)),
    // The last group is made 8 blocks smaller, and a header stands in the first of them.
    (&["rgrp-unlisted"], |lab, disk| {
        let place = lab.places.last().unwrap();
        let (rindex, at) = (lab.system["rindex"], PAYLOAD + 96 * (lab.places.len() - 1));
        lab.add(disk, rindex, at + 24, 4, -8);
        lab.add(disk, rindex, at + 28, 4, -2);
        lab.add(disk, place.addr.0, 28, 4, -8);
        for (offset, len) in [(48, 8), (56, 4), (60, 4), (64, 4)] {
            lab.put(disk, place.addr.0, offset, len, 0);
        }
        for offset in [0, 8] {
            lab.add(disk, lab.system["statfs"], PAYLOAD + offset, 8, -8);
        }
        let header = disk.block(lab.places[0].addr.0, lab.size);
        disk.poke((place.end().0 - 8) << lab.size.shift(), &header);
        lab.put(disk, place.end().0 - 8, 48, 8, place.end().0);
        lab.put(disk, place.end().0 - 8, 64, 4, 1);
    }),
    (&["rindex-size"], |lab, disk| lab.add(disk, lab.system["rindex"], 56, 8, -1)),
    (&["rindex-geometry"], |lab, disk| lab.add(disk, lab.system["rindex"], PAYLOAD + 8, 4, 1)),
    (&["rindex-order"], |lab, disk| {
        let entry = |number: usize| PAYLOAD + 96 * number;
        for at in (0..96).step_by(8) {
            let value = lab.get(disk, lab.system["rindex"], entry(0) + at, 8);
            lab.put(disk, lab.system["rindex"], entry(1) + at, 8, value);
        }
    }),
    (&["beyond-device"], |lab, disk| {
        let at = PAYLOAD + 96 * (lab.places.len() - 1);
        for field in [at, at + 16] {
            lab.add(disk, lab.system["rindex"], field, 8, 1 << 20);
        }
    }),
    (&["generation-ahead"], |lab, disk| lab.put(disk, lab.empty, 120, 8, 1 << 40)),
];
