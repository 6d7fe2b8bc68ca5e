//! Broken directories: each rule is reported by its name, and nothing panics or hangs.

use super::double::{Dir, link};
use super::names::{Random, colliding};
use crate::dir::Progress;
use crate::error::{CorruptKind, FsError};
use crate::format::dirent;

/// A directory with a table in its dinode.
fn hashed() -> Dir {
    let mut dir = Dir::new(4096);
    for number in 0..100 {
        dir.insert(format!("name {number}").as_bytes(), link(2000)).unwrap();
    }
    assert!(dir.dinode.is_hashed() && dir.dinode.height == 0);
    dir
}

fn chained() -> (Dir, Vec<Vec<u8>>) {
    let mut dir = Dir::new(4096);
    let names: Vec<_> = colliding(0x8000_0001, 0).take(200).collect();
    names.iter().for_each(|name| dir.insert(name, link(2000)).unwrap());
    (dir, names)
}

fn slot_of(dir: &Dir, name: &[u8]) -> usize {
    (dirent::hash(name) >> (32 - dir.dinode.depth)) as usize
}

fn leaf_of(dir: &Dir, name: &[u8]) -> u64 {
    let block = &dir.memory.blocks[&Dir::INO];
    let slot = slot_of(dir, name);
    if dir.dinode.height == 0 {
        return u64::from_be_bytes(block[232 + slot * 8..][..8].try_into().unwrap());
    }
    let per_block = dir.memory.size.payload_bytes() / 8;
    let addr = u64::from_be_bytes(block[232 + slot / per_block * 8..][..8].try_into().unwrap());
    u64::from_be_bytes(dir.memory.blocks[&addr][24 + slot % per_block * 8..][..8].try_into().unwrap())
}

fn kind<T: std::fmt::Debug>(result: Result<T, FsError>) -> CorruptKind {
    match result {
        Err(FsError::Corrupt { kind, .. }) => kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hole_in_the_table_is_found() {
    let mut dir = hashed();
    let slot = slot_of(&dir, b"name 5");
    dir.poke(Dir::INO, 232 + slot * 8, &[0; 8]);
    let hole = CorruptKind::HashTableHole { slot: slot as u32 };
    assert_eq!(kind(dir.lookup(b"name 5")), hole);
    assert_eq!(kind(dir.remove(b"name 5")), hole);
    assert_eq!(kind(dir.insert(b"name 5", link(2))), hole);
}

#[test]
fn a_leaf_that_contradicts_its_table_is_found() {
    let mut dir = hashed();
    let leaf = leaf_of(&dir, b"name 5");
    dir.poke(leaf, 24, &[0, 9]);
    assert_eq!(kind(dir.lookup(b"name 5")), CorruptKind::LeafDepth { depth: 9 });
    let mut dir = hashed();
    dir.poke(leaf, 27, &[77]);
    let absent = (0..).map(|number| format!("absent {number}")).find(|name| leaf_of(&dir, name.as_bytes()) == leaf);
    let absent = absent.unwrap().into_bytes();
    assert_eq!(kind(dir.lookup(&absent)), CorruptKind::LeafEntries { entries: 77 });
    assert_eq!(kind(dir.read(0, 200)), CorruptKind::LeafEntries { entries: 77 });
    dir.poke(leaf, 26, &[0, 0]);
    assert_eq!(kind(dir.remove(b"name 5")), CorruptKind::LeafEntries { entries: 0 });
    let mut dir = hashed();
    dir.poke(leaf, 32, &leaf.to_be_bytes());
    assert!(matches!(kind(dir.lookup(&absent)), CorruptKind::LeafChain { .. }));
}

#[test]
fn an_entry_in_the_wrong_leaf_is_found_before_it_is_moved() {
    let mut dir = hashed();
    let (from, slot) = (leaf_of(&dir, b"name 5"), slot_of(&dir, b"name 5"));
    let other = (0..256).find(|slot| dir.memory.blocks[&Dir::INO][239 + slot * 8] != from as u8).unwrap();
    dir.poke(Dir::INO, 232 + other * 8, &from.to_be_bytes());
    assert!(slot != other);
    assert!(matches!(kind(dir.read(0, 200)), CorruptKind::DirentLeaf { .. }));

    let mut dir = hashed();
    dir.poke(Dir::INO, 232 + (slot ^ 1) * 8, &(Dir::INO + 77).to_be_bytes());
    let mut names =
        (0..).map(|number| format!("more {number}").into_bytes()).filter(|name| leaf_of(&hashed(), name) == from);
    let error = loop {
        let name = names.next().unwrap();
        if slot_of(&dir, &name) != slot ^ 1
            && let Err(error) = dir.insert(&name, link(2000))
        {
            break error;
        }
    };
    assert!(
        matches!(kind::<()>(Err(error)), CorruptKind::HashTableRange { slot: found } if found as usize == slot ^ 1)
    );
}

#[test]
fn a_chain_that_is_a_circle_ends() {
    let (mut dir, names) = chained();
    let mut leaf = leaf_of(&dir, &names[0]);
    let first = leaf;
    loop {
        let next = u64::from_be_bytes(dir.memory.blocks[&leaf][32..40].try_into().unwrap());
        if next == 0 {
            break;
        }
        leaf = next;
    }
    assert!(leaf != first);
    dir.poke(leaf, 32, &first.to_be_bytes());
    let absent = colliding(0x8000_0001, 9_000_000).next().unwrap();
    assert_eq!(kind(dir.lookup(&absent)), CorruptKind::PointerCircle);
    assert_eq!(kind(dir.read(0, 500)), CorruptKind::PointerCircle);
    let long = [&absent[..], &[b'x'; 200]].concat();
    assert!(dir.insert(&long, link(2)).is_ok(), "another hash");
}

#[test]
fn a_linear_directory_that_miscounts_is_found() {
    let mut dir = Dir::new(1024);
    dir.dinode.entries = 3;
    let miscount = CorruptKind::DirectoryEntries { entries: 3 };
    assert_eq!(kind(dir.lookup(b"x")), miscount);
    dir.poke(Dir::INO, 148, &3u32.to_be_bytes());
    assert_eq!(kind(dir.insert(b"x", link(2))), miscount);
    dir.dinode.entries = 1;
    assert_eq!(kind(crate::dir::is_empty(&dir.dinode)), CorruptKind::DirectoryEntries { entries: 1 });
}

#[test]
fn random_damage_never_panics_or_hangs() {
    let mut random = Random(11);
    let mut tree = Dir::new(512);
    (0..60).for_each(|number| tree.insert(format!("name {number}").as_bytes(), link(2000)).unwrap());
    let sound = [Dir::new(512), hashed(), tree, chained().0];
    for round in 0..1000 {
        let mut dir = sound[round % sound.len()].clone();
        let blocks: Vec<u64> = dir.memory.blocks.keys().copied().collect();
        for _ in 0..1 + random.below(4) {
            let addr = blocks[random.below(blocks.len())];
            let offset = random.below(dir.memory.size.bytes());
            let addrs = random.below(3) == 0;
            let bytes = if addrs {
                blocks[random.below(blocks.len())].to_be_bytes().to_vec()
            } else {
                vec![random.next() as u8]
            };
            let at = if addrs { offset & !7 } else { offset };
            dir.poke(addr, at, &bytes);
        }
        let _ = dir.lookup(b"absent");
        let _ = dir.read(0, 1000);
        for number in 0..40 {
            let _ = dir.remove(format!("name {number}").as_bytes());
            let _ = dir.insert(format!("other {number}").as_bytes(), link(2000));
            let _ = dir.lookup(format!("other {number}").as_bytes());
        }
        let mut from = 0;
        for _ in 0..1000 {
            match dir.free_leaves(from, 10) {
                Ok(Progress::More(next)) => from = next,
                _ => break,
            }
        }
    }
}
