//! Extended attributes against a model in memory: many names and sizes, in every block size, set, replaced, removed,
//! listed, through remounts, power cuts and a full volume. `fsck.gfs2` judges what is left.
//!
//! `LUNFS_XATTR_SEED` repeats one run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture};
use common::{ForkDisk, Maker, ROOT, Rng, Step, fsck_objects, mount, new_volume, pattern, run, write_all};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, SetAttr, SetXattr, Setgid, XattrMode};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};
use parking_lot::Mutex;

const CACHE_BYTES: u64 = 8 << 20;
const NAMESPACES: [&str; 3] = ["user", "security", "trusted"];

type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// Inodes with what they are supposed to have.
type Model = BTreeMap<Vec<u8>, Attributes>;

async fn names(fs: &Fs, ino: InodeNo, caller: Caller) -> Vec<Vec<u8>> {
    let list = fs.listxattr(ino, caller).await.unwrap();
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

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

fn assert_sound(disk: &ForkDisk, story: &str) {
    if let Some(complaint) = fsck_objects(disk) {
        panic!("{story}:\n{complaint}");
    }
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

/// Remembers the disk as it was after each write, and lets others run at each request.
struct Recorder {
    disk: ForkDisk,
    states: Mutex<Vec<ForkDisk>>,
}

impl BlockDevice for Recorder {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
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

            let recorder = Arc::new(Recorder { disk: disk.fork(), states: Mutex::default() });
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

/// A list with these entries: tag, permissions, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entry = |(tag, permissions, id): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2_u32.to_le_bytes().to_vec()].into_iter().chain(entries.iter().map(entry)).flatten().collect()
}

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";
const NONE: u32 = u32::MAX;
const USER: Caller = Caller { uid: 1000, gid: 1000, umask: 0o022 };

#[test]
fn lists_and_modes_follow_each_other() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let (root, how) = (fs.root(), SetXattr::default());
        let file = fs.mknod(root, b"file", 0o102_755, (0, 0), ROOT).await.unwrap().ino;
        let permissions = async |ino| fs.getattr(ino).await.unwrap().permissions;

        let named = list(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (16, 5, NONE), (32, 0, NONE)]);
        fs.setxattr(file, ACCESS, &named, &how, ROOT).await.unwrap();
        assert_eq!(permissions(file).await, 0o2650);
        assert_eq!(fs.getxattr(file, ACCESS).await.unwrap(), named);
        let chmod = SetAttr { permissions: Some(0o741), ..SetAttr::default() };
        fs.setattr(file, &chmod, ROOT).await.unwrap();
        let followed = list(&[(1, 7, NONE), (2, 7, 1000), (4, 4, NONE), (16, 4, NONE), (32, 1, NONE)]);
        assert_eq!(fs.getxattr(file, ACCESS).await.unwrap(), followed);

        // What nine bits can say is not stored.
        let plain = list(&[(1, 6, NONE), (4, 4, NONE), (32, 0, NONE)]);
        fs.setxattr(file, ACCESS, &plain, &how, ROOT).await.unwrap();
        assert_eq!(permissions(file).await, 0o640);
        assert!(matches!(fs.getxattr(file, ACCESS).await, Err(FsError::NoAttribute)));
        assert_eq!(fs.getattr(file).await.unwrap().sectors, 8);
        fs.removexattr(file, ACCESS).await.unwrap();

        // Setgid goes where the kernel or the groups say so.
        for (setgid, caller, kept) in [
            (Setgid::Keep, USER, true),
            (Setgid::Clear, ROOT, false),
            (Setgid::KeepIfMember(vec![5]), ROOT, true),
            (Setgid::KeepIfMember(vec![5]), USER, false),
            (Setgid::KeepIfMember(vec![5, 0]), USER, true),
            (Setgid::KeepIfMember(vec![]), Caller { gid: 0, ..USER }, true),
        ] {
            let chmod = SetAttr { permissions: Some(0o2755), ..SetAttr::default() };
            fs.setattr(file, &chmod, ROOT).await.unwrap();
            let how = SetXattr { setgid: setgid.clone(), ..SetXattr::default() };
            fs.setxattr(file, ACCESS, &named, &how, caller).await.unwrap();
            assert_eq!(permissions(file).await & 0o2000 != 0, kept, "{setgid:?} {caller:?}");
        }

        let error =
            async |ino, name, value: &[u8]| fs.setxattr(ino, name, value, &how, ROOT).await.unwrap_err().errno();
        assert_eq!(error(file, DEFAULT, &named).await, 13, "EACCES: not a directory");
        assert_eq!(error(file, ACCESS, &named[..7]).await, 22, "EINVAL");
        let many: Vec<_> = (0..296).map(|id| (2, 7, id)).collect();
        let many = [&[(1, 7, NONE)], &many[..], &[(4, 7, NONE), (16, 7, NONE), (32, 7, NONE)]].concat();
        fs.setxattr(file, ACCESS, &list(&many), &how, ROOT).await.unwrap();
        let more = [&many[..1], &[(2, 7, 5000)], &many[1..]].concat();
        assert_eq!(error(file, ACCESS, &list(&more)).await, 7, "E2BIG");
        fs.unmount().await.unwrap();
        assert_sound(&disk, "lists");
    });
}

#[test]
fn directories_hand_their_default_list_down() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MIN).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let dir = fs.mkdir(fs.root(), b"dir", 0o777, USER).await.unwrap();
        assert_eq!(dir.permissions, 0o755, "without a list, the umask counts");
        let default = list(&[(1, 7, NONE), (2, 7, 1000), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)]);
        fs.setxattr(dir.ino, DEFAULT, &default, &SetXattr::default(), ROOT).await.unwrap();

        let file = fs.mknod(dir.ino, b"file", 0o100_666, (0, 0), USER).await.unwrap();
        assert_eq!(file.permissions, 0o660, "with a list, it does not");
        let access = list(&[(1, 6, NONE), (2, 7, 1000), (4, 5, NONE), (16, 6, NONE), (32, 0, NONE)]);
        assert_eq!(fs.getxattr(file.ino, ACCESS).await.unwrap(), access);
        assert!(matches!(fs.getxattr(file.ino, DEFAULT).await, Err(FsError::NoAttribute)));
        let sub = fs.mkdir(dir.ino, b"sub", 0o777, USER).await.unwrap();
        assert_eq!(sub.permissions, 0o770);
        assert_eq!(fs.getxattr(sub.ino, DEFAULT).await.unwrap(), default);
        assert_eq!(fs.getxattr(sub.ino, ACCESS).await.unwrap(), default);
        let link = fs.symlink(dir.ino, b"link", b"target", USER).await.unwrap();
        assert_eq!(link.permissions, 0o777);
        assert!(fs.listxattr(link.ino, ROOT).await.unwrap().is_empty());
        fs.unmount().await.unwrap();
        assert_sound(&disk, "default lists");

        // Without the option they are not there.
        let options = MountOptions { acl: false, ..MountOptions::default() };
        let fs = Fs::mount(disk.clone(), options, Arc::new(common::TickingEnv::default())).await.unwrap();
        let dir = fs.lookup(fs.root(), b"dir").await.unwrap().ino;
        assert!(fs.listxattr(dir, ROOT).await.unwrap().is_empty());
        assert!(matches!(fs.getxattr(dir, DEFAULT).await, Err(FsError::Unsupported(_))));
        let plain = fs.mknod(dir, b"plain", 0o100_666, (0, 0), USER).await.unwrap();
        assert_eq!(plain.permissions, 0o644);
        fs.unmount().await.unwrap();
        assert_sound(&disk, "noacl");
    });
}

#[test]
fn who_and_what_may_have_attributes() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let (root, how) = (fs.root(), SetXattr::default());
        let file = fs.mknod(root, b"file", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
        let fifo = fs.mknod(root, b"fifo", 0o010_644, (0, 0), ROOT).await.unwrap().ino;
        let link = fs.symlink(root, b"link", b"file", ROOT).await.unwrap().ino;
        let set = async |ino, name: &[u8]| match fs.setxattr(ino, name, b"v", &how, ROOT).await {
            Ok(()) => 0,
            Err(error) => error.errno(),
        };
        let longest = [b"user.".as_slice(), &[b'n'; 255]].concat();
        let cases: [(InodeNo, &[u8], i32); 14] = [
            (file, b"user.a", 0),
            (file, b"trusted.t", 0),
            (file, b"security.s", 0),
            (file, &longest, 0),
            (file, &[&*longest, b"n"].concat(), 34),
            (file, b"user.", 22),
            (file, b"other.a", 95),
            (file, b"system.nfs4_acl", 95),
            (file, b"user", 95),
            (fifo, b"user.a", 1),
            (fifo, b"trusted.t", 0),
            (link, b"user.a", 1),
            (link, ACCESS, 95),
            (link, b"security.s", 0),
        ];
        for (ino, name, errno) in cases {
            assert_eq!(set(ino, name).await, errno, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(fs.setxattr(file, b"user.b", &[0; 65537], &how, ROOT).await.unwrap_err().errno(), 7, "E2BIG");
        assert_eq!(fs.getxattr(link, b"user.a").await.unwrap_err().errno(), 61, "ENODATA");
        assert_eq!(fs.removexattr(file, b"user.b").await.unwrap_err().errno(), 61, "ENODATA");
        let trusted = |names: Vec<Vec<u8>>| names.contains(&b"trusted.t".to_vec());
        assert!(trusted(names(&fs, file, ROOT).await));
        assert!(!trusted(names(&fs, file, USER).await));
        let before = fs.getattr(file).await.unwrap().ctime;
        assert_eq!(set(file, b"user.a").await, 0);
        assert!(fs.getattr(file).await.unwrap().ctime > before);
        fs.unmount().await.unwrap();
        assert_sound(&disk, "kinds of files");
        let fs = mount(disk, CACHE_BYTES, true).await.unwrap();
        let file = fs.lookup(fs.root(), b"file").await.unwrap().ino;
        assert_eq!(fs.setxattr(file, b"user.b", b"", &how, ROOT).await.unwrap_err().errno(), 30, "EROFS");
    });
}
