//! Extended attributes against a model in memory: many names and sizes, in every block size, set, replaced, removed,
//! listed, through remounts, power cuts and a full volume. `fsck.gfs2` judges what is left.
//!
//! `LUNFS_XATTR_SEED` repeats one run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture};
use common::{
    ACCESS, DEFAULT, ForkDisk, Maker, ROOT, Rng, Step, assert_sound, mount, names, new_volume, pattern, run, write_all,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{SetXattr, Setgid, XattrMode};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::Fs;
use parking_lot::Mutex;

const CACHE_BYTES: u64 = 8 << 20;
const NAMESPACES: [&str; 3] = ["user", "security", "trusted"];

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Inodes with what they are supposed to have.
type Model = BTreeMap<Vec<u8>, Attributes>;

async fn found(fs: &Fs, ino: InodeNo) -> Attributes {
    let mut found = Attributes::new();
    for name in names(fs, ino, ROOT).await {
        let value = fs.getxattr(ino, &name).await.unwrap();
        assert!(found.insert(name, value).is_none(), "a name twice");
    }
    found
}

async fn check(fs: &Fs, model: &Model) {
    for (name, attributes) in model {
        let ino = fs.lookup(fs.root(), name).await.unwrap().ino;
        let found = found(fs, ino).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), attributes.keys().collect::<Vec<_>>());
        assert!(found == *attributes, "values of {}", String::from_utf8_lossy(name));
        fs.forget(ino, 1);
    }
}

fn some_name(rng: &mut Rng) -> Vec<u8> {
    let number = rng.below(40);
    let long = if number.is_multiple_of(5) { "x".repeat(180) } else { String::new() };
    format!("{}.{number}{long}", rng.pick(&NAMESPACES)).into_bytes()
}

fn some_value(rng: &mut Rng, size: BlockSize) -> Vec<u8> {
    let block = size.bytes_u64();
    let len = match rng.below(10) {
        0 => 0,
        1 => 65536,
        2 => block - 24 - 16 - 40 + rng.below(80),
        3 => (block - 24) * (1 + rng.below(5)) + rng.below(3) - 1,
        4 => rng.below(9000),
        _ => rng.below(120),
    };
    pattern(rng.next(), len as usize)
}

/// One change of one inode, to the model as well if it succeeds.
async fn step(fs: &Fs, model: &mut Model, rng: &mut Rng, size: BlockSize, full: bool) -> u64 {
    let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
    let file = rng.pick(&keys).clone();
    let ino = fs.lookup(fs.root(), &file).await.unwrap().ino;
    let attributes = model.get_mut(&file).unwrap();
    let name = some_name(rng);
    let mut refused = 0;
    if rng.one_in(4) {
        match fs.removexattr(ino, &name).await {
            Ok(()) => assert!(attributes.remove(&name).is_some()),
            Err(FsError::NoAttribute) => assert!(!attributes.contains_key(&name)),
            Err(error) => panic!("{error:?}"),
        }
    } else {
        let value = some_value(rng, size);
        let mode = *rng.pick(&[XattrMode::Any, XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
        let how = SetXattr { mode, setgid: Setgid::Keep };
        let exists = attributes.contains_key(&name);
        match fs.setxattr(ino, &name, &value, &how, ROOT).await {
            Ok(()) => {
                assert!(mode == XattrMode::Any || exists == (mode == XattrMode::Replace));
                attributes.insert(name, value);
            }
            Err(FsError::Exists) => assert!(mode == XattrMode::Create && exists),
            Err(FsError::NoAttribute) => assert!(mode == XattrMode::Replace && !exists),
            Err(FsError::OutOfRange(_)) => assert!(size == BlockSize::MIN && value.len() > 20_000),
            Err(FsError::NoSpace) => {
                assert!(full, "there is room");
                refused += 1;
                let before = attributes.get(&name).cloned();
                assert_eq!(fs.getxattr(ino, &name).await.ok(), before, "nothing has happened");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    fs.forget(ino, 1);
    refused
}

async fn make_files(fs: &Fs, model: &mut Model) {
    for index in 0..4 {
        let name = format!("file{index}").into_bytes();
        let attr = fs.mknod(fs.root(), &name, 0o100_644, (0, 0), ROOT).await.unwrap();
        if index > 1 {
            write_all(fs, attr.ino, 0, &pattern(index, 10_000)).await.unwrap();
        }
        fs.forget(attr.ino, 1);
        model.insert(name, Attributes::new());
    }
    fs.forget(fs.mkdir(fs.root(), b"dir", 0o755, ROOT).await.unwrap().ino, 1);
    model.insert(b"dir".to_vec(), Attributes::new());
}

/// Free blocks, once everything that waits to be freed is.
async fn free_blocks(fs: &Fs) -> u64 {
    fs.sync().await.unwrap();
    fs.statfs().await.unwrap().blocks_free
}

async fn random_run(maker: Maker, size: BlockSize, seed: u64) {
    let story = format!("{maker:?} blocks of {} seed {seed}", size.bytes());
    let _step = Step::new(story.clone());
    let mut rng = Rng(seed);
    let disk = Arc::new(new_volume(maker, size).await);
    let mut model = Model::new();
    let mut fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
    let free_before = free_blocks(&fs).await;
    make_files(&fs, &mut model).await;
    for round in 0..4 {
        for _ in 0..120 {
            step(&fs, &mut model, &mut rng, size, false).await;
        }
        check(&fs, &model).await;
        if round % 2 == 0 {
            fs.unmount().await.unwrap();
            assert_sound(&disk, &story);
            fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        } else {
            // Killed after a sync: the log is replayed.
            fs.sync().await.unwrap();
            let copy = Arc::new(disk.fork());
            let again = mount(copy.clone(), CACHE_BYTES, false).await.unwrap();
            check(&again, &model).await;
            again.unmount().await.unwrap();
            assert_sound(&copy, &format!("{story}, replayed"));
        }
    }
    // What is unlinked gives everything back, also what goes with attributes one by one.
    for name in names(&fs, fs.lookup(fs.root(), b"file0").await.unwrap().ino, ROOT).await {
        let ino = fs.lookup(fs.root(), b"file0").await.unwrap().ino;
        fs.removexattr(ino, &name).await.unwrap();
        fs.forget(ino, 1);
    }
    let file0 = fs.lookup(fs.root(), b"file0").await.unwrap();
    assert_eq!(file0.sectors, size.bytes_u64() / 512, "an inode without attributes has its own block only");
    fs.forget(file0.ino, 3);
    fs.rmdir(fs.root(), b"dir").await.unwrap();
    for index in 0..4 {
        fs.unlink(fs.root(), format!("file{index}").as_bytes()).await.unwrap();
    }
    fs.unmount().await.unwrap();
    assert_sound(&disk, &format!("{story}, emptied"));
    let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
    assert!(free_blocks(&fs).await + 2 >= free_before, "{story}: blocks are lost");
    fs.unmount().await.unwrap();
}

#[test]
fn attributes_are_what_the_model_says_in_every_block_size() {
    let seed = std::env::var("LUNFS_XATTR_SEED").ok().map(|text| text.parse().unwrap());
    for bytes in [512, 1024, 2048, 4096] {
        for maker in [Maker::Lunfs, Maker::Gfs2] {
            run(random_run(maker, BlockSize::new(bytes).unwrap(), seed.unwrap_or(u64::from(bytes))));
        }
    }
}

/// Fills the volume, so that every few sets fail for lack of space, and each that does has done nothing.
#[test]
fn a_full_volume_refuses_and_changes_nothing() {
    for bytes in [512, 4096] {
        let size = BlockSize::new(bytes).unwrap();
        run(async {
            let _step = Step::new(format!("a full volume with blocks of {bytes}"));
            let (mut rng, mut model) = (Rng(u64::from(bytes)), Model::new());
            let disk = Arc::new(new_volume(Maker::Lunfs, size).await);
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            make_files(&fs, &mut model).await;
            let filler = fs.mknod(fs.root(), b"filler", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
            let mut end = 0;
            // All but about 60 blocks.
            while fs.statfs().await.unwrap().blocks_free > 60 {
                let left = (fs.statfs().await.unwrap().blocks_free - 50) / 2;
                let data = vec![1; (left.clamp(1, 200) * size.bytes_u64()) as usize];
                write_all(&fs, filler, end, &data).await.unwrap();
                end += data.len() as u64;
            }
            let mut refused = 0;
            for _ in 0..400 {
                refused += step(&fs, &mut model, &mut rng, size, true).await;
            }
            assert!(refused > 10, "only {refused} were refused");
            check(&fs, &model).await;
            fs.forget(filler, 1);
            fs.unmount().await.unwrap();
            assert_sound(&disk, &format!("full volume, {bytes}"));
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            check(&fs, &model).await;
            fs.unmount().await.unwrap();
        });
    }
}

/// As many attributes as the list of blocks can hold, and their removal, by name and with the inode, in a log of the
/// smallest size.
#[test]
fn the_list_of_blocks_fills_up_and_goes_away() {
    run(async {
        let _step = Step::new("the largest set of attributes".into());
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MIN).await);
        let mut free_before = None;
        for by_name in [true, false] {
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let free = free_blocks(&fs).await;
            assert_eq!(*free_before.get_or_insert(free), free, "blocks are lost");
            let ino = fs.mknod(fs.root(), b"file", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
            // One to a block, each with 40 blocks of its own.
            let name = |index: usize| format!("user.{index:0>100}").into_bytes();
            let mut set = 0;
            while let Ok(()) = fs.setxattr(ino, &name(set), &vec![3; 40 * 488], &SetXattr::default(), ROOT).await {
                set += 1;
            }
            assert_eq!(set, 61, "as many as an indirect block of 512 bytes lists");
            assert_eq!(names(&fs, ino, ROOT).await.len(), set);
            if by_name {
                for index in (0..set).step_by(2).chain((1..set).step_by(2)) {
                    fs.removexattr(ino, &name(index)).await.unwrap();
                }
                assert_eq!(fs.getattr(ino).await.unwrap().sectors, 1);
            }
            fs.unlink(fs.root(), b"file").await.unwrap();
            fs.forget(ino, 1);
            fs.unmount().await.unwrap();
            assert_sound(&disk, "after the largest set of attributes");
        }
    });
}

/// Remembers the disk as it was after each write, counts reads, and lets others run at each of them.
struct Recorder {
    disk: ForkDisk,
    states: Mutex<Vec<ForkDisk>>,
    reads: AtomicU64,
}

impl BlockDevice for Recorder {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            self.disk.read(offset_bytes, buf).await
        })
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            let written = self.disk.write(offset_bytes, data, durability).await?;
            self.states.lock().push(self.disk.fork());
            Ok(written)
        })
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.disk.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.disk.discard(offset_bytes, len_bytes)
    }
}

/// An inode whose attributes were being freed at a power cut is freed by the next mount, whatever had reached the disk.
#[test]
fn freeing_attributes_goes_on_after_a_power_cut() {
    run(async {
        for bytes in [512, 4096] {
            let size = BlockSize::new(bytes).unwrap();
            let disk = Arc::new(new_volume(Maker::Gfs2, size).await);
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let free_before = free_blocks(&fs).await;
            let ino = fs.mknod(fs.root(), b"file", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
            // More than one transaction frees.
            for index in 0..if bytes == 512 { 50 } else { 150 } {
                let value = pattern(index, if bytes == 512 { 28_000 } else { 65_536 });
                let name = format!("user.{index}").into_bytes();
                fs.setxattr(ino, &name, &value, &SetXattr::default(), ROOT).await.unwrap();
            }
            fs.unlink(fs.root(), b"file").await.unwrap();
            fs.sync().await.unwrap();

            let recorder = Arc::new(Recorder { disk: disk.fork(), states: Mutex::default(), reads: AtomicU64::new(0) });
            let fs = mount(recorder.clone(), CACHE_BYTES, false).await.unwrap();
            let syncs = async {
                while fs.sync().await.is_ok() && fs.statfs().await.unwrap().blocks_free < free_before {
                    tokio::task::yield_now().await;
                }
            };
            let (unmounted, ()) = tokio::join!(fs.unmount(), syncs);
            unmounted.unwrap();
            assert_sound(&recorder.disk, "freed");
            let states = std::mem::take(&mut *recorder.states.lock());
            assert!(states.len() > 12, "only {} writes", states.len());
            for (number, state) in states.into_iter().enumerate() {
                let _step = Step::new(format!("a power cut after write {number}, blocks of {bytes}"));
                let state = Arc::new(state);
                mount(state.clone(), CACHE_BYTES, false).await.unwrap().unmount().await.unwrap();
                let fs = mount(state.clone(), CACHE_BYTES, true).await.unwrap();
                assert_eq!(fs.statfs().await.unwrap().blocks_free, free_before, "write {number}");
                if number % 8 == 0 {
                    assert_sound(&state, &format!("a power cut after write {number}, blocks of {bytes}"));
                }
            }
        }
    });
}

/// The kernel's driver replaces a value that has blocks in two transactions. A crash between them leaves a free record
/// that owns the old blocks: nobody loses them.
#[test]
fn blocks_of_a_value_that_the_kernel_has_half_replaced_are_freed() {
    run(async {
        for by_reuse in [true, false] {
            let size = BlockSize::MAX;
            let disk = Arc::new(new_volume(Maker::Gfs2, size).await);
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let (free_before, how) = (free_blocks(&fs).await, SetXattr::default());
            let ino = fs.mknod(fs.root(), b"file", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
            fs.setxattr(ino, b"user.replaced", &pattern(1, 40_000), &how, ROOT).await.unwrap();
            fs.setxattr(ino, b"user.other", b"value", &how, ROOT).await.unwrap();
            fs.unmount().await.unwrap();
            let is_record_block = |addr: &u64| disk.block(*addr, size)[..8] == [1, 0x16, 0x19, 0x70, 0, 0, 0, 10];
            // The log holds images as well; the last one is in place.
            let addr = (0..disk.blocks(size)).rfind(is_record_block).unwrap();
            let mut block = disk.block(addr, size);
            assert_eq!((block[24 + 9], block[24 + 11]), (1, 10), "a user attribute with ten blocks");
            block[24 + 9] = 0;
            disk.poke(addr << size.shift(), &block);
            assert_sound(&disk, "half replaced");

            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let ino = fs.lookup(fs.root(), b"file").await.unwrap().ino;
            assert_eq!(names(&fs, ino, ROOT).await, [b"user.other"]);
            if by_reuse {
                fs.setxattr(ino, b"user.new", b"", &how, ROOT).await.unwrap();
                assert_eq!(fs.getattr(ino).await.unwrap().sectors, 2 * 8, "the old blocks are free");
            }
            fs.unlink(fs.root(), b"file").await.unwrap();
            fs.forget(ino, 1);
            fs.unmount().await.unwrap();
            assert_sound(&disk, "half replaced, then freed");
            let fs = mount(disk, CACHE_BYTES, true).await.unwrap();
            assert_eq!(fs.statfs().await.unwrap().blocks_free, free_before);
        }
    });
}

/// `ls -l` asks for attributes of every file: one that has none costs no read.
#[test]
fn an_inode_without_attributes_answers_from_memory() {
    run(async {
        let disk = new_volume(Maker::Lunfs, BlockSize::MAX).await;
        let recorder = Arc::new(Recorder { disk, states: Mutex::default(), reads: AtomicU64::new(0) });
        let fs = mount(recorder.clone(), CACHE_BYTES, false).await.unwrap();
        fs.mknod(fs.root(), b"file", 0o100_644, (0, 0), ROOT).await.unwrap();
        fs.unmount().await.unwrap();
        let fs = mount(recorder.clone(), CACHE_BYTES, false).await.unwrap();
        let ino = fs.lookup(fs.root(), b"file").await.unwrap().ino;
        let before = recorder.reads.load(Ordering::Relaxed);
        for name in [&b"security.selinux"[..], b"security.capability", ACCESS, DEFAULT, b"user.a"] {
            assert!(matches!(fs.getxattr(ino, name).await, Err(FsError::NoAttribute)));
        }
        assert!(fs.listxattr(ino, ROOT).await.unwrap().is_empty());
        assert_eq!(recorder.reads.load(Ordering::Relaxed), before);
        fs.unmount().await.unwrap();
    });
}
