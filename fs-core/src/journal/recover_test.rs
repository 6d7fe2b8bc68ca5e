//! Logs made by the encoder and replayed, compared with a second implementation of the rule for revokes.

use std::sync::Arc;

use block::device::{Geometry, IoFuture, Operation};
use block::faulty::FaultyDevice;
use proptest::prelude::*;

use super::*;
use crate::error::CorruptKind;
use crate::format::block_size::BlockSize;
use crate::format::meta::BlockKind;
use crate::journal::head;
use crate::journal::owner::{Owner, OwnerKind};
use crate::journal::test_volume::{Flush, JOURNAL_BLOCKS, VOLUME_BLOCKS, Volume};

/// As a mount does it. `None`: the journal was closed properly.
async fn recover(recovery: Recovery<'_>) -> Result<Option<Replayed>, FsError> {
    let head = head::find(recovery.device, recovery.journal).await?;
    if head.header.is_clean() {
        return Ok(None);
    }
    let log = recovery.inspect(head).await?;
    recovery.apply(&log).await.map(Some)
}

fn replayed(outcome: Result<Option<Replayed>, FsError>) -> Replayed {
    match outcome {
        Ok(Some(replayed)) => replayed,
        other => panic!("not replayed: {other:?}"),
    }
}

fn block_sizes() -> impl Iterator<Item = BlockSize> {
    [512, 1024, 2048, 4096].into_iter().filter_map(BlockSize::new)
}

/// Three flushes with everything in them: duplicates, escapes, revokes before, between and behind images.
fn mixture() -> [Flush; 3] {
    [
        Flush { metadata: vec![3, 1, 2], jdata: vec![(10, true), (11, false)], revokes: vec![7] },
        Flush { metadata: vec![2, 7], jdata: vec![(11, true)], revokes: vec![1, 10] },
        Flush { metadata: vec![1, 9], jdata: vec![], revokes: (30..130).chain([3]).collect() },
    ]
}

#[tokio::test]
async fn a_log_is_replayed_wherever_it_wraps() {
    for size in block_sizes() {
        for position in 0..JOURNAL_BLOCKS {
            let mut volume = Volume::new(size, position).await;
            for flush in mixture() {
                assert!(volume.flush(&flush).await);
            }
            let done = replayed(recover(volume.recovery()).await);
            volume.check_replayed().await;
            assert_eq!((done.blocks, done.revoked, done.skipped), (5, 3, 2));
            assert_eq!((done.local.free, done.local.dinodes, done.stamped), (-3, 2, true));

            let head = head::find(&*volume.device, &volume.map).await.unwrap();
            assert!(head.header.is_clean() && head.header.stamped && head.header.local == StatfsDelta::default());
            assert_eq!((head.header.blkno, head.header.sequence), (done.position, done.sequence));
            assert_eq!((done.position, done.sequence), (volume.position, volume.sequence));
            let before = volume.bytes().await;
            assert!(matches!(recover(volume.recovery()).await, Ok(None)));
            assert_eq!(volume.bytes().await, before);
        }
    }
}

#[tokio::test]
async fn an_unfinished_flush_contributes_nothing() {
    let mut volume = Volume::new(BlockSize::MIN, 50).await;
    for flush in mixture() {
        volume.flush(&flush).await;
    }
    let (position, images, revokes) = (volume.position, volume.images.clone(), volume.revokes.clone());
    let torn = Flush { metadata: vec![1, 2, 3, 90], jdata: vec![], revokes: vec![9] };
    assert!(volume.flush(&torn).await);
    // Its header got only half-way.
    let mut half = vec![0x77; 512];
    half[..256].fill(0);
    meta::start(&mut half, BlockKind::LOG_HEADER);
    volume.put(volume.map.advance(volume.position, JOURNAL_BLOCKS - 1), &half).await;
    (volume.images, volume.revokes) = (images, revokes);
    assert_eq!(replayed(recover(volume.recovery()).await).position, position);
    volume.check_replayed().await;
}

#[tokio::test]
async fn replay_that_was_interrupted_anywhere_ends_the_same_when_it_is_repeated() {
    let mut expected = None;
    for fault in 0..40 {
        let mut volume = Volume::new(BlockSize::MIN, 55).await;
        for flush in mixture() {
            volume.flush(&flush).await;
        }
        volume.device.reset_counts();
        if fault > 0 {
            volume.device.fail_from(Operation::Write, fault);
        }
        let first = recover(volume.recovery()).await;
        volume.device.heal();
        if let Err(error) = first {
            assert!(matches!(error, FsError::Device(_)), "{error}");
            replayed(recover(volume.recovery()).await);
        }
        volume.check_replayed().await;
        let bytes = volume.bytes().await;
        assert_eq!(*expected.get_or_insert_with(|| bytes.clone()), bytes, "after fault {fault}");
    }
}

#[tokio::test]
async fn a_damaged_log_is_named_and_nothing_is_written() {
    let length = {
        let mut volume = Volume::new(BlockSize::MIN, 50).await;
        for flush in mixture() {
            volume.flush(&flush).await;
        }
        volume.used
    };
    for damaged in 0..length - 1 {
        let mut volume = Volume::new(BlockSize::MIN, 50).await;
        for flush in mixture() {
            volume.flush(&flush).await;
        }
        let position = volume.map.advance(50, damaged);
        volume.put(position, &[0x99; 512]).await;
        let before = volume.bytes().await;
        let is_jdata = volume.images.iter().any(|(at, home, _)| *at == position && (210..=211).contains(&home.0));
        match recover(volume.recovery()).await {
            Err(FsError::Corrupt { addr, kind: CorruptKind::JournalChain { jid: 1, position: named } }) => {
                assert_eq!((named, Some(addr)), (position, volume.map.addr(position)));
                assert_eq!(volume.bytes().await, before);
            }
            // Journaled data may be anything, so damage to it cannot be seen.
            other => assert!(is_jdata, "block {damaged}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_image_must_not_go_onto_the_superblock_out_of_the_volume_or_into_the_journal() {
    for target in [0, 199, VOLUME_BLOCKS, u64::MAX, 100, 153] {
        let mut volume = Volume::new(BlockSize::MIN, 0).await;
        volume.flush(&Flush { metadata: vec![1, 2], ..Flush::default() }).await;
        let mut descriptor = volume.map.read(&*volume.device, 0, 1).await.unwrap();
        descriptor[80..88].copy_from_slice(&target.to_be_bytes());
        volume.put(0, &descriptor).await;
        let before = volume.bytes().await;
        let mut recovery = volume.recovery();
        if (100..199).contains(&target) {
            // Nothing but the journal's own blocks forbids these.
            recovery.bounds.first = BlockAddr(1);
        }
        let error = recover(recovery).await.unwrap_err();
        let FsError::Corrupt { kind: CorruptKind::JournalTarget { jid: 1, target: named }, .. } = error else {
            panic!("{target}: {error}")
        };
        assert_eq!(named.0, target);
        assert_eq!(volume.bytes().await, before);
    }
}

#[tokio::test]
async fn the_owners_are_those_of_what_is_copied() {
    let mut volume = Volume::new(BlockSize::MAX, 60).await;
    for flush in mixture() {
        volume.flush(&flush).await;
    }
    let head = head::find(&*volume.device, &volume.map).await.unwrap();
    let log = volume.recovery().inspect(head).await.unwrap();
    let wanted = volume.expected().into_keys().map(|home| Owner::new(OwnerKind::INODE, home)).collect();
    assert_eq!(*log.owners(), Owners::These(wanted));
}

#[tokio::test]
async fn an_image_with_a_wrong_checksum_is_damage_where_checksums_hold() {
    let mut volume = Volume::new(BlockSize::MIN, 0).await;
    volume.flush(&Flush { metadata: vec![1], ..Flush::default() }).await;
    let mut image = volume.map.read(&*volume.device, 1, 1).await.unwrap();
    meta::seal(BlockAddr(201), &mut image, 1, 9);
    image[400] ^= 1;
    volume.put(1, &image).await;
    let mut recovery = volume.recovery();
    assert!(recover(recovery).await.is_err());
    recovery.checksums_hold = false;
    replayed(recover(recovery).await);
    assert!(!head::find(&*volume.device, &volume.map).await.unwrap().header.stamped);
}

/// The device as a node sees it that must not write.
struct ReadOnlyView(Arc<FaultyDevice>);

impl BlockDevice for ReadOnlyView {
    fn geometry(&self) -> Geometry {
        Geometry { read_only: true, ..self.0.geometry() }
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        self.0.read(offset_bytes, buf)
    }
    fn write(&self, _: u64, _: IoBuf, _: Durability) -> IoFuture<'_, IoBuf> {
        panic!("written")
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        panic!("flushed")
    }
    fn discard(&self, _: u64, _: u64) -> IoFuture<'_, ()> {
        panic!("discarded")
    }
}

#[tokio::test]
async fn a_dirty_journal_of_a_read_only_device_stays_dirty() {
    let mut volume = Volume::new(BlockSize::MIN, 3).await;
    let view = ReadOnlyView(Arc::clone(&volume.device));
    assert!(matches!(recover(Recovery { device: &view, ..volume.recovery() }).await, Ok(None)));
    volume.flush(&mixture()[0]).await;
    let head = head::find(&view, &volume.map).await.unwrap();
    let log = Recovery { device: &view, ..volume.recovery() }.inspect(head).await.unwrap();
    assert_eq!(log.plan().images.len(), 5);
}

#[tokio::test]
async fn a_log_of_bare_headers_is_closed_behind_the_last() {
    let volume = Volume::new(BlockSize::MIN, JOURNAL_BLOCKS - 1).await;
    volume.header(volume.position, volume.position, flags::FLUSH_NORMAL).await;
    let done = replayed(recover(volume.recovery()).await);
    assert_eq!((done.blocks, done.position, done.sequence), (0, 0, volume.sequence + 1));
}

#[tokio::test]
async fn a_header_of_an_earlier_turn_inside_the_log_is_damage() {
    let mut volume = Volume::new(BlockSize::MIN, 10).await;
    for flush in mixture() {
        volume.flush(&flush).await;
    }
    let second = volume.starts[1] - 1;
    volume.sequence = 3;
    volume.header(second, second, flags::FLUSH_NORMAL).await;
    // The search would already end there, so the walk is tried by itself.
    let head =
        Head::parse(&volume.map.read(&*volume.device, volume.position - 1, 1).await.unwrap(), volume.position - 1);
    let mut chain = Chain::new(&volume.map, head.unwrap(), volume.recovery().bounds, false).unwrap();
    let log = volume.map.read(&*volume.device, 10, chain.length()).await.unwrap();
    let error = log.chunks_exact(512).find_map(|block| chain.push(block, &mut vec![]).err());
    // The first header may have any number; the one behind it has to follow.
    let third = volume.starts[2] - 1;
    assert!(matches!(
        error,
        Some(FsError::Corrupt { kind: CorruptKind::JournalChain { position, .. }, .. }) if position == third
    ));
}

/// Operations run on many threads.
#[test]
fn recovery_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    run(async {
        let volume = Volume::new(BlockSize::MIN, 0).await;
        is_send(&recover(volume.recovery()));
    });
}

fn any_flush() -> impl Strategy<Value = Flush> {
    let numbers = || proptest::collection::btree_set(0..12_u64, 0..5);
    let revokes = prop_oneof![4 => numbers(), 1 => proptest::collection::btree_set(0..190_u64, 50..120)];
    (numbers(), proptest::collection::btree_map(12..18_u64, any::<bool>(), 0..4), revokes).prop_map(
        |(metadata, jdata, revokes)| Flush {
            metadata: metadata.into_iter().collect(),
            jdata: jdata.into_iter().collect(),
            revokes: revokes.into_iter().collect(),
        },
    )
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn any_log_is_replayed_by_the_rule(
        shift in 9..=12_u32,
        position in 0..JOURNAL_BLOCKS,
        flushes in proptest::collection::vec(any_flush(), 1..8),
    ) {
        run(async {
            let mut volume = Volume::new(BlockSize::new(1 << shift).unwrap(), position).await;
            for flush in &flushes {
                volume.flush(flush).await;
            }
            replayed(recover(volume.recovery()).await);
            volume.check_replayed().await;
        });
    }

    /// Blocks that look like log blocks, but with any numbers in them.
    #[test]
    fn garbage_neither_panics_nor_loops(
        position in 0..JOURNAL_BLOCKS,
        flushes in proptest::collection::vec(any_flush(), 1..8),
        strokes in proptest::collection::vec((0..JOURNAL_BLOCKS, 0..64_usize, any::<u32>(), 0..9_u32), 1..12),
    ) {
        run(async {
            let mut volume = Volume::new(BlockSize::MIN, position).await;
            for flush in &flushes {
                volume.flush(flush).await;
            }
            for (at, word, value, small) in strokes {
                let mut block = volume.map.read(&*volume.device, at, 1).await.unwrap();
                let value = match small {
                    0 => value,
                    1 => value % 70,
                    2 => 300 + value % 3,
                    // A descriptor or header that is sound but for its numbers.
                    _ => {
                        log::write_descriptor(&mut block, 1, log::DescriptorKind(300 + small % 4), value % 9, value % 8);
                        210 + small
                    }
                };
                block[word * 4..word * 4 + 4].copy_from_slice(&value.to_be_bytes());
                volume.put(at, &block).await;
            }
            let before = volume.bytes().await;
            if recover(volume.recovery()).await.is_err() {
                assert_eq!(volume.bytes().await, before);
            }
        });
    }

    #[test]
    fn a_head_with_any_tail_neither_panics_nor_loops(tail in any::<u32>(), small in 0..70_u32, position in 0..64_u32) {
        run(async {
            for tail in [tail, small] {
                let volume = Volume::new(BlockSize::MIN, position).await;
                volume.header(position, tail, flags::FLUSH_NORMAL).await;
                let _ = recover(volume.recovery()).await;
            }
        });
    }
}
