//! Checks a directory as a checker of the format would, from raw bytes, with no help of the code under test.

use std::collections::{BTreeMap, BTreeSet};

use super::double::Dir;

/// What each name stands for: address, formal number, type.
pub(super) type Names = BTreeMap<Vec<u8>, (u64, u64, u64)>;

fn number(block: &[u8], at: usize, len: usize) -> u64 {
    block[at..at + len].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Collects the names of an area of entries, all of which have a hash in `hashes`.
fn area(area: &[u8], hashes: std::ops::RangeInclusive<u32>, into: &mut Names) -> u64 {
    let (mut at, mut count) = (0, 0);
    while at < area.len() {
        let (formal, addr, hash) = (number(area, at, 8), number(area, at + 8, 8), number(area, at + 16, 4));
        let (rec_len, name_len) = (number(area, at + 20, 2) as usize, number(area, at + 22, 2) as usize);
        assert!(rec_len >= 40 && rec_len % 8 == 0 && at + rec_len <= area.len());
        if formal == 0 || addr == 0 {
            assert_eq!(at, 0, "a free entry in the middle");
        } else {
            assert!((1..=255).contains(&name_len) && (40 + name_len).div_ceil(8) * 8 <= rec_len);
            let name = area[at + 40..at + 40 + name_len].to_vec();
            assert_eq!(u64::from(crc32fast::hash(&name)), hash);
            assert!(hashes.contains(&(hash as u32)), "in the wrong leaf");
            assert!(into.insert(name, (addr, formal, number(area, at + 24, 2))).is_none(), "a name twice");
            count += 1;
        }
        at += rec_len;
    }
    assert_eq!(at, area.len());
    count
}

/// The leaf addresses of the table, and the blocks that hold it.
fn table(dir: &Dir, reached: &mut BTreeSet<u64>) -> Vec<u64> {
    let blocks = &dir.memory.blocks;
    let dinode = &blocks[&Dir::INO];
    let height = number(dinode, 138, 2);
    let len = number(dinode, 56, 8) as usize;
    let mut payload = dinode[232..].to_vec();
    for level in 0..height {
        let mut below = Vec::new();
        let mut at_hole = false;
        for chunk in payload.chunks_exact(8) {
            let addr = number(chunk, 0, 8);
            // Tables have no holes: pointers, then nothing.
            at_hole |= addr == 0;
            assert_eq!(addr == 0, at_hole);
            if addr != 0 {
                assert!(reached.insert(addr), "block {addr} twice");
                let block = &blocks[&addr];
                let (kind, format) = if level + 1 == height { (7, 700) } else { (5, 500) };
                assert_eq!((number(block, 4, 4), number(block, 16, 4)), (kind, format));
                below.extend_from_slice(&block[24..]);
            }
        }
        payload = below;
    }
    assert!(payload[len..].iter().all(|byte| *byte == 0), "bytes behind the table");
    assert!(height == 0 || payload.len() - len < dir.memory.size.payload_bytes(), "more table blocks than needed");
    payload[..len].chunks_exact(8).map(|slot| number(slot, 0, 8)).collect()
}

/// Checks everything; returns the names, and the length of the longest chain.
pub(super) fn check(dir: &Dir) -> (Names, u64) {
    let blocks = &dir.memory.blocks;
    let dinode = &blocks[&Dir::INO];
    let mut names = BTreeMap::new();
    let mut reached = BTreeSet::from([Dir::INO]);
    let mut longest = 0;
    let (flags, payload) = (number(dinode, 128, 4), number(dinode, 132, 4));
    if flags & 2 == 0 {
        area(&dinode[232..], 0..=u32::MAX, &mut names);
        assert_eq!((number(dinode, 56, 8), number(dinode, 138, 2), payload), (dinode.len() as u64 - 232, 0, 1200));
    } else {
        let depth = number(dinode, 146, 2);
        assert!(depth <= 17 && depth >= u64::from(dinode.len().ilog2() - 4));
        assert_eq!((number(dinode, 56, 8), payload), (8 << depth, 0));
        let slots = table(dir, &mut reached);
        let mut slot = 0;
        while slot < slots.len() {
            let lf_depth = number(&blocks[&slots[slot]], 24, 2);
            assert!(lf_depth <= depth);
            let len = 1usize << (depth - lf_depth);
            assert_eq!(slot % len, 0, "not aligned");
            assert!(slots[slot..slot + len].iter().all(|addr| *addr == slots[slot]));
            let hashes = (slot as u64) << (32 - depth)..=((slot + len) as u64) << (32 - depth);
            let hashes = *hashes.start() as u32..=(hashes.end() - 1) as u32;
            let (mut addr, mut distance) = (slots[slot], 0);
            while addr != 0 {
                distance += 1;
                assert!(reached.insert(addr), "leaf {addr} twice");
                let leaf = &blocks[&addr];
                assert_eq!((number(leaf, 4, 4), number(leaf, 16, 4)), (6, 600));
                assert_eq!((number(leaf, 24, 2), number(leaf, 28, 4)), (lf_depth, 1200));
                assert_eq!((number(leaf, 40, 8), number(leaf, 48, 4)), (Dir::INO, distance));
                assert_eq!((number(leaf, 52, 4), number(leaf, 56, 8)), (5, 77), "time");
                assert_eq!(area(&leaf[104..], hashes.clone(), &mut names), number(leaf, 26, 2), "lf_entries");
                addr = number(leaf, 32, 8);
                assert!(addr == 0 || depth == 17 && lf_depth == 17, "a chain too early");
            }
            longest = longest.max(distance);
            slot += len;
        }
    }
    assert_eq!(number(dinode, 148, 4), names.len() as u64, "di_entries");
    assert_eq!(number(dinode, 64, 8), reached.len() as u64, "di_blocks");
    assert_eq!(reached, blocks.keys().copied().collect(), "blocks that nothing points to");
    assert!(blocks.contains_key(&number(dinode, 104, 8)), "goal");
    (names, longest)
}
