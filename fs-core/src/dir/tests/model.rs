//! Random operations, compared with a map.

use std::collections::BTreeMap;

use super::check::check;
use super::double::{Dir, link};
use super::names::Random;
use crate::addr::InodeNo;
use crate::attr::FileKind;
use crate::dir::{Link, is_empty};
use crate::error::FsError;

type Model = BTreeMap<Vec<u8>, Link>;

fn new_model() -> Model {
    let dot = Link { ino: InodeNo::new(Dir::INO).unwrap(), formal: 7, kind: FileKind::Directory };
    let dot_dot = Link { ino: InodeNo::new(Dir::PARENT).unwrap(), formal: 6, kind: FileKind::Directory };
    BTreeMap::from([(b".".to_vec(), dot), (b"..".to_vec(), dot_dot)])
}

fn compare(dir: &Dir, model: &Model) {
    let (names, _) = check(dir);
    let expected: BTreeMap<_, _> = model
        .iter()
        .map(|(name, link)| {
            (name.clone(), (link.ino.get(), link.formal, if link.kind == FileKind::Directory { 4 } else { 8 }))
        })
        .collect();
    assert_eq!(names, expected);
    for (name, link) in model {
        assert_eq!(dir.lookup(name).unwrap(), Some(*link));
    }
}

fn any(random: &mut Random, names: &[Vec<u8>]) -> usize {
    random.below(names.len())
}

/// `steps` operations, of which `growth` of 10 insert.
fn steps(dir: &mut Dir, model: &mut Model, random: &mut Random, names: &mut Vec<Vec<u8>>, steps: usize, growth: usize) {
    for _ in 0..steps {
        let number = random.next() % 1_000_000 + 2000;
        if names.is_empty() || random.below(10) < growth {
            let name = random.name();
            if model.contains_key(&name) {
                continue;
            }
            assert_eq!(dir.lookup(&name).unwrap(), None);
            dir.insert(&name, link(number)).unwrap();
            model.insert(name.clone(), link(number));
            names.push(name);
        } else if random.below(4) == 0 {
            let name = &names[any(random, names)];
            let old = model.insert(name.clone(), link(number));
            assert_eq!(dir.replace(name, link(number)).ok(), old);
            assert_eq!(dir.memory.touched.len(), if dir.dinode.is_hashed() { 2 } else { 1 });
        } else {
            let at = any(random, names);
            let name = names.swap_remove(at);
            assert_eq!(dir.remove(&name).ok(), model.remove(&name));
            assert!(dir.memory.touched.len() <= 2);
            assert!(matches!(dir.remove(&name), Err(FsError::NotFound)));
        }
    }
}

#[test]
fn a_directory_behaves_like_a_map() {
    for block_bytes in [512, 1024, 2048, 4096] {
        let (mut dir, mut model) = (Dir::new(block_bytes), new_model());
        let (mut random, mut names) = (Random(u64::from(block_bytes)), Vec::new());
        compare(&dir, &model);
        assert!(is_empty(&dir.dinode).unwrap());
        for _ in 0..150 {
            steps(&mut dir, &mut model, &mut random, &mut names, 4, 6);
            compare(&dir, &model);
        }
        for growth in [9, 10, 10, 3, 7, 1] {
            steps(&mut dir, &mut model, &mut random, &mut names, 2000, growth);
            compare(&dir, &model);
        }
        for name in names.drain(..) {
            assert!(!is_empty(&dir.dinode).unwrap());
            assert_eq!(dir.remove(&name).ok(), model.remove(&name));
        }
        compare(&dir, &model);
        assert!(is_empty(&dir.dinode).unwrap() && dir.dinode.is_hashed());
    }
}

#[test]
fn many_names_make_a_deep_tree() {
    let (mut dir, mut model) = (Dir::new(512), new_model());
    let (mut random, mut names) = (Random(5), Vec::new());
    steps(&mut dir, &mut model, &mut random, &mut names, 40_000, 10);
    compare(&dir, &model);
    assert!(dir.dinode.depth >= 14 && dir.dinode.height >= 2);
    steps(&mut dir, &mut model, &mut random, &mut names, 20_000, 2);
    compare(&dir, &model);
}

#[test]
fn dot_dot_can_change_its_target() {
    for names in [0, 300] {
        let mut dir = Dir::new(4096);
        for number in 0..names {
            dir.insert(format!("name {number}").as_bytes(), link(3000 + number)).unwrap();
        }
        assert_eq!(dir.replace(b"..", link(4001)).unwrap().ino.get(), Dir::PARENT);
        assert_eq!(dir.lookup(b"..").unwrap(), Some(link(4001)));
        assert!(matches!(dir.replace(b"none", link(4001)), Err(FsError::NotFound)));
        check(&dir);
    }
}

#[test]
fn impossible_names_are_refused() {
    let mut dir = Dir::new(512);
    assert!(matches!(dir.insert(&[b'x'; 256], link(2)), Err(FsError::NameTooLong)));
    for name in [&b""[..], b"a/b", b"a\0"] {
        assert!(matches!(dir.insert(name, link(2)), Err(FsError::Invalid(_))));
    }
    dir.insert(&[b'x'; 255], link(2)).unwrap();
    check(&dir);
}
