//! Names made to share hashes: the deepest table, chains, the greatest change; and freeing all that.

use std::collections::BTreeSet;

use super::check::check;
use super::double::{Dir, link};
use super::names::{colliding, longest};
use crate::dir::Progress;
use crate::format::dirent::space_for;

/// Inserts that many names of one hash.
fn chained(dir: &mut Dir, hash: u32, count: usize) -> BTreeSet<Vec<u8>> {
    let names: BTreeSet<_> = colliding(hash, 0).take(count).collect();
    for (number, name) in (2000..).zip(&names) {
        dir.insert(name, link(number)).unwrap();
    }
    names
}

#[test]
fn the_greatest_change_is_a_linear_directory_that_turns_into_a_chain() {
    // Block size, and blocks of a table of depth 17: the last level of its tree, and above.
    for (block_bytes, table, above) in [(512, 2149, 37), (1024, 1049, 9), (2048, 519, 3), (4096, 258, 0)] {
        let mut dir = Dir::new(block_bytes);
        let mut room = dir.memory.size.stuffed_bytes_max() - 2 * 48;
        for name in colliding(0x8765_4321, 0) {
            let Some(left) = room.checked_sub(space_for(name.len())) else { break };
            room = left;
            dir.insert(&name, link(2000)).unwrap();
        }
        assert!(!dir.dinode.is_hashed());
        dir.insert(&longest(0x8765_4321), link(2000)).unwrap();
        assert_eq!((dir.dinode.depth, check(&dir).1), (17, 2));
        // The dinode; the first leaf, one for each of 17 splits, the second of the chain.
        assert_eq!(dir.memory.touched.len(), 1 + table + above + 19);
    }
}

#[test]
fn names_of_one_hash_reach_the_deepest_table_and_chain() {
    // Block size, names, height of the tree.
    for (block_bytes, count, height) in [(512, 100, 3), (1024, 100, 2), (2048, 150, 2), (4096, 300, 1)] {
        for hash in [0, u32::MAX, 0x8000_0000] {
            let mut dir = Dir::new(block_bytes);
            let names = chained(&mut dir, hash, count);
            let (on_disk, longest) = check(&dir);
            assert_eq!((dir.dinode.depth, dir.dinode.height), (17, height));
            assert!(longest > 3 && on_disk.len() == names.len() + 2);
            for (number, name) in (2000..).zip(&names) {
                assert_eq!(dir.lookup(name).unwrap(), Some(link(number)));
            }
            assert!(colliding(hash, 5_000_000).take(5).all(|name| dir.lookup(&name).unwrap().is_none()));

            // All listed, whatever the size of the calls, though they are in one chain.
            let mut listed = BTreeSet::new();
            let mut after = 0;
            loop {
                let some = dir.read(after, 7).unwrap();
                let Some(last) = some.last() else { break };
                after = last.cookie;
                assert!(some.into_iter().all(|entry| listed.insert(entry.name)), "twice");
            }
            assert_eq!(listed, on_disk.into_keys().collect());

            for name in names.iter().step_by(2) {
                dir.remove(name).unwrap();
            }
            check(&dir);
            for name in names.iter().step_by(2) {
                dir.insert(name, link(5000)).unwrap();
            }
            assert_eq!(check(&dir).1, longest, "room in a chain is used again");
        }
    }
}

#[test]
fn leaves_are_freed_in_bounded_steps() {
    for (block_bytes, remember) in [(512, true), (512, false), (4096, true), (4096, false)] {
        for blocks_max in [0, 5, 64, 10_000] {
            let mut dir = Dir::new(block_bytes);
            let names = chained(&mut dir, 0x4711_0815, 400);
            for number in 0..200 {
                dir.insert(format!("name {number}").as_bytes(), link(2000 + number)).unwrap();
            }
            for name in &names {
                dir.remove(name).unwrap();
            }
            let (mut from, mut rounds) = (0, 0);
            while let Progress::More(next) = dir.free_leaves(from, blocks_max).unwrap() {
                assert!(next >= from || !remember);
                from = if remember { next } else { 0 };
                // The dinode, and the blocks that were asked for.
                assert!(dir.memory.touched.len() <= blocks_max.max(3) + 1);
                rounds += 1;
                assert!(rounds < 10_000, "no progress");
                assert_eq!(dir.dinode.blocks, dir.memory.blocks.len() as u64);
            }
            assert_eq!(dir.dinode.blocks, dir.memory.blocks.len() as u64);
            let leaves = dir.memory.blocks.values().filter(|block| block[7] == 6).count();
            assert_eq!(leaves, 0);
            assert_eq!(dir.free_leaves(0, 3).unwrap(), Progress::Done);
        }
    }
    assert_eq!(Dir::new(512).free_leaves(0, 3).unwrap(), Progress::Done);
}
