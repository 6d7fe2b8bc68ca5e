//! Listing while names come and go.

use std::collections::{BTreeMap, BTreeSet};

use super::double::{Dir, link};
use super::names::{Random, colliding};

fn name(random: &mut Random, some: &[Vec<u8>]) -> Vec<u8> {
    if random.below(3) == 0 { some[random.below(some.len())].clone() } else { random.name() }
}

#[test]
fn each_name_is_listed_exactly_once_while_others_come_and_go() {
    for (round, block_bytes) in [512, 512, 512, 1024, 2048, 4096].into_iter().enumerate() {
        let mut dir = Dir::new(block_bytes);
        let mut random = Random(round as u64 + 99);
        let colliding: Vec<_> = colliding(random.next() as u32, 0).take(300).collect();
        let mut names = BTreeSet::new();
        // Rounds of one to a thousand names; directories that get their table while they are listed among them.
        for _ in 0..[1, 5, 1000, 30, 200, 40][round] {
            let name = name(&mut random, &colliding);
            if names.insert(name.clone()) {
                dir.insert(&name, link(2000)).unwrap();
            }
        }
        let mut always = names.clone();
        let mut listed: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut after = 0;
        loop {
            let count_max = 1 + random.below(20);
            let some = dir.read(after, count_max).unwrap();
            assert!(some.len() <= count_max);
            let Some(last) = some.last() else { break };
            assert!(some.is_sorted_by(|a, b| a.cookie < b.cookie) && some[0].cookie > after);
            after = last.cookie;
            for entry in some {
                assert!(listed.insert(entry.name, entry.cookie).is_none(), "listed twice");
            }
            for _ in 0..random.below(30) {
                let name = name(&mut random, &colliding);
                if names.insert(name.clone()) {
                    dir.insert(&name, link(3000)).unwrap();
                } else if random.below(2) == 0 {
                    dir.remove(&name).unwrap();
                    names.remove(&name);
                    always.remove(&name);
                }
            }
        }
        always.extend([b".".to_vec(), b"..".to_vec()]);
        assert!(always.iter().all(|name| listed.contains_key(name)));
        assert_eq!((listed[&b"."[..]], listed[&b".."[..]]), (1, 2));
        // Cookies are those of a listing in one go, from anywhere.
        for entry in dir.read(0, usize::MAX).unwrap() {
            assert!(listed.get(&entry.name).is_none_or(|cookie| *cookie == entry.cookie));
            let next = dir.read(entry.cookie - 1, 1).unwrap();
            assert_eq!(next, [entry]);
        }
        assert!(dir.read(u64::MAX, 5).unwrap().is_empty() && dir.read(0, 0).unwrap().is_empty());
    }
}

#[test]
fn names_that_share_both_hashes_are_told_apart() {
    // 2¹⁷ names of one hash: some pairs of them share the 30 bits of the second one too.
    let mut dir = Dir::new(4096);
    let mut seen: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let hash = 0x1234_5678;
    let mut pair = None;
    for name in colliding(hash, 0).take(1 << 17) {
        let cookie = dir.key.base(hash, &name);
        if let Some(other) = seen.insert(cookie, name.clone()) {
            pair = Some((cookie, [other, name]));
            break;
        }
    }
    let (cookie, mut names) = pair.expect("no names that share both hashes");
    names.iter().for_each(|name| dir.insert(name, link(2000)).unwrap());
    names.sort();
    for (after, count_max, expected) in [
        (2, 1, &names[..1]),
        (2, 2, &names[..]),
        (cookie - 1, 9, &names[..]),
        (cookie, 1, &names[1..]),
        (cookie, 9, &names[1..]),
        (cookie + 1, 9, &[]),
    ] {
        let found = dir.read(after, count_max).unwrap();
        assert_eq!(found.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>(), expected);
    }
}
