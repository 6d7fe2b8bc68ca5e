//! Ranges of files that get places on the disk, become zeroes, or become holes: content against a model, in all block
//! sizes, on a disk full of old data; and what is refused.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{
    ForkDisk, Maker, ROOT, Rng, assert_sound, checker, mount, new_volume, pattern, read_whole, run, write_all,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{Allocation, Caller, SeekTarget, SetAttr};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::Fs;

const USER: Caller = Caller { uid: 1000, gid: 1000, umask: 0 };
const ALLOCATE: Allocation = Allocation::Allocate { keep_size: false };
const KEEP: Allocation = Allocation::Allocate { keep_size: true };
const ZERO: Allocation = Allocation::Zero { keep_size: false };
const ZERO_KEEP: Allocation = Allocation::Zero { keep_size: true };

fn always() -> bool {
    true
}

async fn fallocate(fs: &Fs, ino: InodeNo, offset: u64, len: u64, how: Allocation) -> Result<(), FsError> {
    fs.fallocate(ino, offset, len, how, ROOT, &always).await
}

async fn new_file(fs: &Fs, name: &str) -> InodeNo {
    fs.mknod(fs.root(), name.as_bytes(), 0o100_644, (0, 0), ROOT).await.unwrap().ino
}

/// A volume whose free blocks hold what somebody has deleted.
async fn used_volume(maker: Maker, bytes: u32) -> Arc<ForkDisk> {
    let disk = Arc::new(new_volume(maker, BlockSize::new(bytes).unwrap()).await);
    let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
    let ino = new_file(&fs, "old").await;
    let mut offset = 0;
    while fs.write(ino, offset, vec![0xAA; 1 << 20], Default::default(), ROOT).await.is_ok_and(|done| done > 0) {
        offset += 1 << 20;
    }
    fs.sync().await.unwrap();
    fs.unlink(fs.root(), b"old").await.unwrap();
    fs.forget(ino, 1);
    fs.unmount().await.unwrap();
    disk
}

async fn close(fs: Arc<Fs>, disk: &Arc<ForkDisk>, story: &str) {
    fs.unmount().await.unwrap();
    drop(fs);
    let errors = checker::errors(disk.clone()).await;
    assert!(errors.is_empty(), "{story}: {errors:#?}");
    assert_sound(disk, story);
}

/// A tree with many holes takes more steps than it has blocks.
#[test]
fn a_file_of_few_blocks_far_apart_is_filled() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::new(512).unwrap()).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let ino = new_file(&fs, "sparse").await;
        // The number of blocks below one pointer of the dinode.
        let span = 61 * 61;
        for number in [1, 3, 5] {
            write_all(&fs, ino, (span * number + 30 * 61 + 30) * 512, b"x").await.unwrap();
        }
        fallocate(&fs, ino, 0, 7 * span * 512, ALLOCATE).await.unwrap();
        assert!(fs.withdrawn().is_none());
        assert_eq!(fs.seek(ino, 0, SeekTarget::Hole).await.unwrap(), 7 * span * 512);
        close(fs, &disk, "few blocks").await;
    });
}

/// One random change of a file and of its model.
async fn change(fs: &Fs, ino: InodeNo, content: &mut Vec<u8>, rng: &mut Rng, block: u64) {
    let limit = 200 * block;
    let mut offset = rng.below(limit);
    let len_max = *rng.pick(&[20, block, 5 * block, 90 * block]);
    let mut len = 1 + rng.below(len_max);
    if rng.one_in(3) {
        offset -= offset % block;
        len = len.next_multiple_of(block);
    }
    let (start, end) = (offset as usize, (offset + len) as usize);
    let grow = |content: &mut Vec<u8>| content.resize(content.len().max(end), 0);
    let zero = |content: &mut Vec<u8>| {
        let stop = end.min(content.len());
        if start < stop {
            content[start..stop].fill(0);
        }
    };
    match rng.below(7) {
        0 => {
            grow(content);
            fallocate(fs, ino, offset, len, ALLOCATE).await.unwrap();
        }
        1 => fallocate(fs, ino, offset, len, KEEP).await.unwrap(),
        2 => {
            grow(content);
            zero(content);
            fallocate(fs, ino, offset, len, ZERO).await.unwrap();
        }
        3 => {
            zero(content);
            fallocate(fs, ino, offset, len, ZERO_KEEP).await.unwrap();
        }
        4 => {
            zero(content);
            fallocate(fs, ino, offset, len, Allocation::Punch).await.unwrap();
        }
        5 => {
            content.resize(start, 0);
            fs.setattr(ino, &SetAttr { size_bytes: Some(offset), ..SetAttr::default() }, ROOT).await.unwrap();
        }
        _ => {
            grow(content);
            let data = pattern(rng.next(), len as usize);
            content[start..end].copy_from_slice(&data);
            write_all(fs, ino, offset, &data).await.unwrap();
        }
    }
}

#[test]
fn content_is_what_the_calls_say_in_all_block_sizes() {
    let seed = std::env::var("LUNFS_SEED").map_or(1, |text| text.parse().unwrap());
    for (round, (maker, bytes)) in
        [(Maker::Lunfs, 512), (Maker::Lunfs, 1024), (Maker::Gfs2, 2048), (Maker::Lunfs, 4096), (Maker::Gfs2, 4096)]
            .into_iter()
            .enumerate()
    {
        let story = format!("LUNFS_SEED={seed}: {maker:?} {bytes}");
        run(async {
            let disk = used_volume(maker, bytes).await;
            let mut rng = Rng(seed * 1000 + round as u64);
            let mut fs = mount(disk.clone(), 1 << 20, false).await.unwrap();
            let names = ["a", "b", "c"];
            let mut inos = Vec::new();
            for name in names {
                inos.push(new_file(&fs, name).await);
            }
            let mut contents = vec![Vec::new(); names.len()];
            for step in 0..240 {
                let file = rng.below(names.len() as u64) as usize;
                // A quarter of the files stays so small that it has no blocks for a while.
                let block = if file == 0 && step < 120 { 1 } else { u64::from(bytes) };
                change(&fs, inos[file], &mut contents[file], &mut rng, block).await;
                if rng.one_in(60) {
                    fs.sync().await.unwrap();
                    close(fs, &disk, &story).await;
                    fs = mount(disk.clone(), 1 << 20, false).await.unwrap();
                    for (ino, name) in inos.iter_mut().zip(names) {
                        *ino = fs.lookup(fs.root(), name.as_bytes()).await.unwrap().ino;
                    }
                }
                let found = read_whole(&fs, inos[file]).await.unwrap();
                if let Some(at) =
                    (0..found.len().max(contents[file].len())).find(|at| found.get(*at) != contents[file].get(*at))
                {
                    panic!(
                        "{story}, step {step}: byte {at} of {} is {:?}, should be {:?}",
                        names[file],
                        found.get(at),
                        contents[file].get(at)
                    );
                }
            }
            close(fs, &disk, &story).await;
        });
    }
}

#[test]
fn what_is_allocated_takes_space_and_what_is_punched_gives_it_back() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let ino = new_file(&fs, "file").await;
        let sectors = async || fs.getattr(ino).await.unwrap().sectors;
        let size = async || fs.getattr(ino).await.unwrap().size_bytes;

        // In the dinode there is room already.
        fallocate(&fs, ino, 0, 3000, ALLOCATE).await.unwrap();
        assert_eq!((size().await, sectors().await), (3000, 8));
        fallocate(&fs, ino, 512 << 10, 1 << 20, KEEP).await.unwrap();
        assert_eq!(size().await, 3000);
        // The dinode, the block that its content moved to, and the range.
        assert_eq!(sectors().await, 8 * (1 + 1 + 256));
        // Beyond the end is no data.
        assert_eq!(fs.seek(ino, 0, SeekTarget::Hole).await.unwrap(), 3000);
        fallocate(&fs, ino, 0, 2 << 20, ALLOCATE).await.unwrap();
        assert_eq!((size().await, sectors().await), (2 << 20, 8 * (1 + 2 + 512)), "two arrays of pointers");
        assert_eq!(fs.seek(ino, 0, SeekTarget::Hole).await.unwrap(), 2 << 20);

        fallocate(&fs, ino, 4095, 8194, Allocation::Punch).await.unwrap();
        assert_eq!((size().await, sectors().await), (2 << 20, 8 * (1 + 2 + 510)));
        assert_eq!(fs.seek(ino, 0, SeekTarget::Hole).await.unwrap(), 4096);
        assert_eq!(fs.seek(ino, 4096, SeekTarget::Data).await.unwrap(), 3 * 4096);
        // With everything in them, the arrays go as well.
        fallocate(&fs, ino, 0, i64::MAX.unsigned_abs(), Allocation::Punch).await.unwrap();
        assert_eq!((size().await, sectors().await), (2 << 20, 8));

        // Old content is never seen, also where only a part of a block is written afterwards.
        fallocate(&fs, ino, 0, 40_000, ALLOCATE).await.unwrap();
        write_all(&fs, ino, 5000, b"x").await.unwrap();
        let content = read_whole(&fs, ino).await.unwrap();
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == if at == 5000 { b'x' } else { 0 }));
        close(fs, &disk, "space").await;
    });
}

#[test]
fn a_huge_range_is_punched_in_little_time_and_memory() {
    run(async {
        for bytes in [512, 4096] {
            let size = BlockSize::new(bytes).unwrap();
            let disk = Arc::new(new_volume(Maker::Lunfs, size).await);
            let fs = mount(disk.clone(), 1 << 20, false).await.unwrap();
            let ino = new_file(&fs, "file").await;
            let before = fs.statfs().await.unwrap().blocks_free;
            // Data at both ends, and islands between.
            let islands: Vec<u64> =
                (0..100).map(|number| number << 30).chain([1 << 45, (1 << 45) + 1_000_000]).collect();
            for at in &islands {
                write_all(&fs, ino, *at, &pattern(*at, 3000)).await.unwrap();
            }
            write_all(&fs, ino, 5 << 20, &pattern(5, 3 << 20)).await.unwrap();
            let steps = AtomicU64::new(0);
            let count = || {
                steps.fetch_add(1, Ordering::Relaxed);
                true
            };
            fs.fallocate(ino, 1000, 100 << 30, Allocation::Punch, ROOT, &count).await.unwrap();
            assert!(steps.load(Ordering::Relaxed) < 200, "{steps:?} steps");
            let found = fs.read(ino, 0, 4096).await.unwrap();
            assert_eq!(found[..1000], pattern(0, 1000));
            assert!(found[1000..].iter().all(|byte| *byte == 0));
            let next = fs.seek(ino, 8192, SeekTarget::Data).await.unwrap();
            assert_eq!(next, (1 << 45) / size.bytes_u64() * size.bytes_u64());
            fallocate(&fs, ino, 0, 1 << 46, Allocation::Punch).await.unwrap();
            assert!(matches!(fs.seek(ino, 0, SeekTarget::Data).await, Err(FsError::NoSuchRange)));
            assert_eq!(fs.getattr(ino).await.unwrap().sectors, size.bytes_u64() / 512);
            fs.sync().await.unwrap();
            assert_eq!(fs.statfs().await.unwrap().blocks_free, before);
            close(fs, &disk, "a huge range").await;
        }
    });
}

#[test]
fn what_does_not_fit_is_refused_at_once_and_what_fits_is_there_for_good() {
    run(async {
        let disk = used_volume(Maker::Lunfs, 4096).await;
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let ino = new_file(&fs, "file").await;
        write_all(&fs, ino, 0, b"content").await.unwrap();
        let free = fs.statfs().await.unwrap().blocks_free;
        for (offset, len) in
            [(0, 100 << 30), (1 << 40, 1 << 30), (0, i64::MAX as u64), (free * 4096, 4096 * (free + 1))]
        {
            for how in [ALLOCATE, KEEP, ZERO] {
                let refused = fallocate(&fs, ino, offset, len, how).await;
                assert!(matches!(refused, Err(FsError::NoSpace)), "{offset} {len} {how:?}: {refused:?}");
            }
        }
        assert_eq!(fs.statfs().await.unwrap().blocks_free, free);
        assert_eq!(read_whole(&fs, ino).await.unwrap(), b"content");
        assert!(matches!(fallocate(&fs, ino, 0, 0, ALLOCATE).await, Err(FsError::Invalid(_))));
        assert!(matches!(fallocate(&fs, ino, u64::MAX, 2, ALLOCATE).await, Err(FsError::TooLarge)));
        assert!(matches!(fallocate(&fs, ino, 1, i64::MAX as u64, ALLOCATE).await, Err(FsError::TooLarge)));
        assert!(matches!(fallocate(&fs, fs.root(), 0, 1, ALLOCATE).await, Err(FsError::IsDirectory)));

        // All but a little; then another file takes the rest, and every byte can be written all the same.
        let len = (free - 40) * 4096 / 100 * 99;
        fallocate(&fs, ino, 0, len, KEEP).await.unwrap();
        let other = new_file(&fs, "other").await;
        let mut offset = 0;
        while let Ok(done) = fs.write(other, offset, vec![1; 1 << 16], Default::default(), ROOT).await {
            offset += u64::from(done);
        }
        for at in (0..len).step_by(1 << 20) {
            let data = pattern(at, (len - at).min(1 << 20) as usize);
            write_all(&fs, ino, at, &data).await.unwrap();
        }
        close(fs, &disk, "a full volume").await;
    });
}

#[test]
fn an_interruption_ends_it_and_leaves_a_sound_file() {
    run(async {
        let disk = used_volume(Maker::Lunfs, 4096).await;
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let ino = new_file(&fs, "file").await;
        write_all(&fs, ino, 0, b"content").await.unwrap();
        let left = AtomicU64::new(2);
        let go_on = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let ended = fs.fallocate(ino, 0, 12 << 20, ALLOCATE, ROOT, &go_on).await;
        assert!(matches!(ended, Err(FsError::Interrupted)), "{ended:?}");
        assert_eq!(read_whole(&fs, ino).await.unwrap(), b"content", "the size is the old one until all is done");
        assert!(fs.getattr(ino).await.unwrap().sectors > 8 << 10, "what has been done stays");
        // Its blocks lie beyond the end, and go with a truncation to the size that it has.
        fs.setattr(ino, &SetAttr { size_bytes: Some(7), ..SetAttr::default() }, ROOT).await.unwrap();
        // The dinode, a block of data, and an array of pointers.
        assert_eq!(fs.getattr(ino).await.unwrap().sectors, 24);
        close(fs, &disk, "interrupted").await;
    });
}

#[test]
fn setuid_goes_and_times_move_with_every_mode() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), 8 << 20, false).await.unwrap();
        let ino = new_file(&fs, "file").await;
        write_all(&fs, ino, 0, &pattern(1, 20_000)).await.unwrap();
        for how in [ALLOCATE, KEEP, ZERO, ZERO_KEEP, Allocation::Punch] {
            let permissions = SetAttr { permissions: Some(0o6755), ..SetAttr::default() };
            let before = fs.setattr(ino, &permissions, ROOT).await.unwrap();
            fs.fallocate(ino, 0, 30_000, how, ROOT, &always).await.unwrap();
            assert_eq!(fs.getattr(ino).await.unwrap().permissions, 0o6755, "root keeps them");
            fs.fallocate(ino, 0, 30_000, how, USER, &always).await.unwrap();
            let after = fs.getattr(ino).await.unwrap();
            assert_eq!(after.permissions, 0o755, "{how:?}");
            assert!(after.mtime > before.mtime && after.ctime > before.ctime, "{how:?}");
        }
        close(fs, &disk, "attributes").await;
    });
}
