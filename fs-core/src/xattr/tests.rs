//! Records of one block: against a model, and broken in every way that has a name.

use std::collections::BTreeMap;

use super::area;
use crate::addr::BlockAddr;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::meta::{self, BlockKind};
use crate::format::xattr::{self, NewRecord, Record, Shape};
use crate::format::xattr::{Namespace, records, records_to_free};

const ADDR: BlockAddr = BlockAddr(77);

fn empty(size: BlockSize) -> Vec<u8> {
    let mut block = vec![0; size.bytes()];
    meta::start(&mut block, BlockKind::XATTR);
    area::clear(&mut block);
    block
}

fn parse(block: &[u8]) -> Vec<Record> {
    records(ADDR, block, 1802).unwrap()
}

/// Adds an attribute if there is room; what is longer than a record gets made-up blocks.
fn add(block: &mut [u8], size: BlockSize, namespace: Namespace, name: &[u8], value: &[u8]) -> bool {
    let shape = Shape::of(size, name.len(), value.len()).unwrap();
    let blocks: Vec<BlockAddr> = (0..shape.blocks as u64).map(|index| BlockAddr(1000 + index)).collect();
    let found = parse(block);
    let Some(index) = area::find_room(&found, shape.record_bytes) else { return false };
    area::insert(&found, index, block, &NewRecord { namespace, name, value, blocks: &blocks });
    true
}

fn random(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap() % below
}

#[test]
fn records_split_and_merge_as_a_model_does() {
    for bytes in [512, 1024, 2048, 4096] {
        let size = BlockSize::new(bytes).unwrap();
        let (mut block, mut model) = (empty(size), BTreeMap::<(Namespace, Vec<u8>), Vec<u8>>::new());
        let (mut seed, mut full) = (u64::from(bytes), 0);
        for step in 0..4000 {
            let namespace = Namespace::ALL[random(&mut seed, 4)];
            let name = vec![b'a' + u8::try_from(random(&mut seed, 26)).unwrap(); 1 + random(&mut seed, 20)];
            let key = (namespace, name.clone());
            let found = parse(&block);
            let old = found.iter().position(|r| r.namespace == Some(namespace) && r.name(&block) == name);
            assert_eq!(old.is_some(), model.contains_key(&key), "step {step}");
            if let Some(index) = old {
                area::remove(&found, index, &mut block);
                model.remove(&key);
            } else {
                let limit = if random(&mut seed, 9) == 0 { 9000 } else { 60 };
                let value = vec![7; random(&mut seed, limit)];
                if add(&mut block, size, namespace, &name, &value) {
                    model.insert(key, value);
                } else {
                    full += 1;
                }
            }
            let now: BTreeMap<_, _> = parse(&block)
                .iter()
                .filter_map(|r| Some(((r.namespace?, r.name(&block).to_vec()), r.value_bytes)))
                .collect();
            assert_eq!(now, model.iter().map(|(key, value)| (key.clone(), value.len())).collect(), "step {step}");
        }
        assert!(full > 0, "the block was never full");
        // What is left goes, and all room comes back as one piece.
        while let Some(index) = parse(&block).iter().position(|record| record.namespace.is_some()) {
            area::remove(&parse(&block), index, &mut block);
        }
        let left = parse(&block);
        assert!(area::is_empty(&left, &block));
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].len, size.payload_bytes());
    }
}

#[test]
fn values_move_out_of_their_record_where_the_kernels_do() {
    let (small, large) = (BlockSize::MIN, BlockSize::MAX);
    assert_eq!(Shape::of(large, 1, 4055), Some(Shape { record_bytes: 4072, blocks: 0 }));
    assert_eq!(Shape::of(large, 1, 4056), Some(Shape { record_bytes: 32, blocks: 1 }));
    assert_eq!(Shape::of(large, 255, 65536), Some(Shape { record_bytes: 16 + 256 + 17 * 8, blocks: 17 }));
    assert_eq!(Shape::of(large, 9, 0), Some(Shape { record_bytes: 32, blocks: 0 }));
    assert_eq!(Shape::of(small, 1, 65536), None);
    assert_eq!(Shape::of(small, 8, 58 * 488).map(|shape| shape.blocks), Some(58));
    assert_eq!(Shape::of(small, 8, 58 * 488 + 1), None);
    for bytes in [1024, 2048, 4096] {
        assert!(Shape::of(BlockSize::new(bytes).unwrap(), 255, 65536).is_some(), "{bytes}");
    }
}

/// A block with three attributes, one of them with blocks of its own: at bytes 24, 56 and 88.
fn sample() -> Vec<u8> {
    let mut block = empty(BlockSize::MIN);
    assert!(add(&mut block, BlockSize::MIN, Namespace::User, b"first", b"a value"));
    assert!(add(&mut block, BlockSize::MIN, Namespace::System, b"second", &[5; 600]));
    assert!(add(&mut block, BlockSize::MIN, Namespace::Trusted, b"third", b""));
    assert_eq!(parse(&block).iter().map(|record| record.offset).collect::<Vec<_>>(), [24, 56, 96]);
    block
}

#[test]
fn every_broken_rule_has_its_name() {
    type Break = fn(&mut [u8]);
    let rules: [(Break, CorruptKind); 14] = [
        (|b| b[24..28].copy_from_slice(&[0; 4]), CorruptKind::XattrChain { offset: 24 }),
        (|b| b[24..28].copy_from_slice(&15_u32.to_be_bytes()), CorruptKind::XattrChain { offset: 24 }),
        (|b| b[96..100].copy_from_slice(&u32::MAX.to_be_bytes()), CorruptKind::XattrChain { offset: 96 }),
        (|b| b[106] = 0, CorruptKind::XattrLast { offset: 96 }),
        (|b| b[34] = 1, CorruptKind::XattrLast { offset: 24 }),
        (|b| b[33] = 5, CorruptKind::XattrNamespace { offset: 24, kind: 5 }),
        (|b| b[32] = 0, CorruptKind::XattrName { offset: 24 }),
        (|b| b[32] = 255, CorruptKind::XattrFit { offset: 24 }),
        (|b| b[28..32].copy_from_slice(&200_u32.to_be_bytes()), CorruptKind::XattrFit { offset: 24 }),
        (|b| b[28..32].copy_from_slice(&65537_u32.to_be_bytes()), CorruptKind::XattrValue { offset: 24 }),
        (|b| b[67] = 200, CorruptKind::XattrFit { offset: 56 }),
        (|b| b[67] = 1, CorruptKind::XattrBlocks { offset: 56 }),
        (|b| b[80..88].copy_from_slice(&[0; 8]), CorruptKind::XattrBlocks { offset: 56 }),
        (|b| b.copy_within(80..88, 88), CorruptKind::XattrBlocks { offset: 56 }),
    ];
    for (number, (damage, rule)) in rules.into_iter().enumerate() {
        let mut block = sample();
        damage(&mut block);
        match records(ADDR, &block, 1802) {
            Err(FsError::Corrupt { addr, kind }) => assert_eq!((addr, kind), (ADDR, rule), "number {number}"),
            other => panic!("number {number}: {other:?}"),
        }
    }
    let Err(FsError::Corrupt { kind, .. }) = records(ADDR, &sample(), 1801) else { panic!("trusted on 1801") };
    assert_eq!(kind, CorruptKind::XattrNamespace { offset: 96, kind: 4 });
}

#[test]
fn no_bytes_make_it_panic_or_go_on_for_ever() {
    let mut seed = 1;
    for _ in 0..20_000 {
        let mut block = sample();
        for _ in 0..=random(&mut seed, 4) {
            let limit = if random(&mut seed, 2) == 0 { 90 } else { 488 };
            let at = 24 + random(&mut seed, limit);
            block[at] = u8::try_from(random(&mut seed, 256)).unwrap();
        }
        if let Ok(found) = records(ADDR, &block, 1802) {
            for record in &found {
                let (_, _, _) = (record.name(&block), record.value(&block), record.blocks(&block));
            }
            if let Some(index) = area::find_room(&found, 24) {
                let new = NewRecord { namespace: Namespace::User, name: b"n", value: b"", blocks: &[] };
                area::insert(&found, index, &mut block, &new);
                assert!(records(ADDR, &block, 1802).is_ok());
            }
        }
    }
}

/// The kernel's driver replaces a value with blocks in two transactions; a crash between them leaves a free record that
/// owns blocks.
#[test]
fn a_free_record_can_still_own_blocks() {
    let mut block = sample();
    let second = parse(&block)[1].clone();
    block[second.offset + 9] = xattr::KIND_FREE;
    let found = parse(&block);
    assert_eq!(found[1].namespace, None);
    assert_eq!(found[1].blocks(&block), second.blocks(&sample()));
    assert!(!second.blocks(&sample()).is_empty());
    assert!(!area::is_empty(&found[1..2], &block));
    assert_eq!(records_to_free(ADDR, &block, 1802).unwrap(), found);
}
