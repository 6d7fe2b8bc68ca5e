//! Quotas: what users and groups have is what a recount finds, whatever happened; limits hold exactly; what other nodes
//! left behind is gathered; what the kernel wrote is read.
//!
//! `LUNFS_QUOTA_SEED` repeats one random run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod common;

use std::sync::Arc;

use common::checker::errors_with_quotas;
use common::{
    ForkDisk, Maker, ROOT, Rng, Step, TickingEnv, assert_sound, fixture, new_volume, new_volume_of, new_volume_with,
    run,
};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, RenameMode, SetAttr, SetXattr, WriteFlags};
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::format::meta;
use fs_core::fs::{Fs, MountOptions};
use fs_core::quota::{Kind, Mode, Quota, QuotaId, SetQuota};

const CACHE_BYTES: u64 = 8 << 20;
const SIZES: [u32; 4] = [512, 1024, 2048, 4096];

async fn mount(disk: &Arc<ForkDisk>, quota: Mode, read_only: bool) -> Arc<Fs> {
    let device: Arc<dyn block::device::BlockDevice> = disk.clone();
    let options = MountOptions { cache_bytes: CACHE_BYTES, quota, read_only, ..MountOptions::default() };
    Fs::mount(device, options, Arc::new(TickingEnv::default())).await.unwrap()
}

fn caller(uid: u32, gid: u32) -> Caller {
    Caller { uid, gid, umask: 0 }
}

async fn limit(fs: &Fs, id: QuotaId, blocks: u64) {
    let change = SetQuota { limit_blocks: Some(blocks), ..SetQuota::default() };
    assert_eq!(fs.set_quota(id, &change).await.unwrap().limit_blocks, blocks);
}

async fn used(fs: &Fs, id: QuotaId) -> u64 {
    fs.quota(id).await.unwrap().used_blocks
}

async fn all(fs: &Fs, kind: Kind) -> Vec<Quota> {
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(quota) = fs.quota_next(QuotaId { kind, id: from }).await.unwrap() {
        assert!(quota.id.kind == kind && quota.id.id >= from);
        found.push(quota);
        match quota.id.id.checked_add(1) {
            Some(next) => from = next,
            None => break,
        }
    }
    found
}

/// Everything is in order on a volume that is not mounted.
async fn assert_counted(disk: &Arc<ForkDisk>, story: &str) {
    let errors = errors_with_quotas(disk.clone()).await;
    assert!(errors.is_empty(), "{story}: {errors:#?}");
    assert_sound(disk, story);
}

/// A random change by a random user. Whoever has no room left is refused.
async fn change(fs: &Fs, rng: &mut Rng, names: &mut Vec<Vec<u8>>, block: u64, refused: &mut u64) {
    let who = caller(rng.below(6) as u32 * 700, rng.below(4) as u32 * 333);
    let is_new = names.is_empty() || rng.one_in(4);
    let name = if is_new { format!("n{}", rng.next()).into_bytes() } else { rng.pick(names).clone() };
    let inode = match fs.lookup(fs.root(), &name).await {
        Ok(attr) => Some(attr.ino),
        Err(FsError::NotFound) => None,
        Err(error) => panic!("{error}"),
    };
    let result = match (inode, rng.below(9)) {
        (None, 0..3) => fs.mkdir(fs.root(), &name, 0o755, who).await.map(|attr| fs.forget(attr.ino, 1)),
        (None, 3) => fs.symlink(fs.root(), &name, b"target", who).await.map(|attr| fs.forget(attr.ino, 1)),
        (None, _) => fs.mknod(fs.root(), &name, 0o100_644, (0, 0), who).await.map(|attr| fs.forget(attr.ino, 1)),
        (Some(ino), 0..3) => {
            let len = 1 + rng.below(40 * block);
            fs.write(ino, rng.below(300 * block), vec![1; len as usize], WriteFlags::default(), who).await.map(drop)
        }
        (Some(ino), 3) => {
            let value = vec![7; rng.below(5 * block.min(3000)) as usize];
            let name = format!("user.{}", rng.below(5));
            fs.setxattr(ino, name.as_bytes(), &value, &SetXattr::default(), who).await
        }
        (Some(ino), 4) => {
            let size_bytes = Some(rng.below(200 * block));
            fs.setattr(ino, &SetAttr { size_bytes, ..SetAttr::default() }, who).await.map(drop)
        }
        (Some(ino), 5) => {
            let (uid, gid) = (Some(rng.below(6) as u32 * 700), Some(rng.below(4) as u32 * 333));
            fs.setattr(ino, &SetAttr { uid, gid, ..SetAttr::default() }, ROOT).await.map(drop)
        }
        (Some(_), 6) => {
            let to = rng.pick(names).clone();
            fs.rename(fs.root(), &name, fs.root(), &to, RenameMode::Replace, who).await
        }
        (Some(ino), 7) => {
            let to = format!("l{}", rng.next()).into_bytes();
            let linked = fs.link(ino, fs.root(), &to, who).await.map(|attr| fs.forget(attr.ino, 1));
            names.push(to);
            linked
        }
        (Some(_), _) => match fs.unlink(fs.root(), &name).await {
            Err(FsError::IsDirectory) => fs.rmdir(fs.root(), &name).await,
            result => result,
        },
    };
    if let Some(ino) = inode {
        fs.forget(ino, 1);
    } else {
        names.push(name);
    }
    match result {
        Err(FsError::QuotaExceeded { id }) => {
            let quota = fs.quota(id).await.unwrap();
            assert!(quota.limit_blocks > 0);
            *refused += 1;
        }
        // A directory or a link has no content, and is not replaced by a file.
        Ok(())
        | Err(
            FsError::IsDirectory
            | FsError::NotDirectory
            | FsError::NotPermitted(_)
            | FsError::NotFound
            | FsError::NotEmpty
            | FsError::Invalid(_),
        ) => {}
        Err(error) => panic!("{error:?}"),
    }
}

/// Returns how often somebody came to a limit.
async fn random_run(maker: Maker, size: BlockSize, seed: u64) -> u64 {
    let story = format!("{maker:?} blocks of {} seed {seed}", size.bytes());
    let _step = Step::new(story.clone());
    let (mut rng, mut names, mut refused) = (Rng(seed), Vec::new(), 0);
    let disk = Arc::new(new_volume(maker, size).await);
    let mut fs = mount(&disk, Mode::On, false).await;
    assert_eq!([used(&fs, QuotaId::user(0)).await, used(&fs, QuotaId::group(0)).await], [1, 1], "the root directory");
    limit(&fs, QuotaId::user(700), 150).await;
    limit(&fs, QuotaId::group(333), 400).await;
    for round in 0..4 {
        for _ in 0..200 {
            change(&fs, &mut rng, &mut names, size.bytes_u64(), &mut refused).await;
            if rng.one_in(50) {
                fs.sync_quotas().await.unwrap();
            }
        }
        if round % 2 == 0 {
            fs.unmount().await.unwrap();
            assert_counted(&disk, &story).await;
            fs = mount(&disk, Mode::On, false).await;
        } else {
            // Killed after a sync: the log is replayed, and what was pending gathered.
            fs.sync().await.unwrap();
            let copy = Arc::new(disk.fork());
            let again = mount(&copy, Mode::Account, false).await;
            again.unmount().await.unwrap();
            assert_counted(&copy, &format!("{story}, replayed")).await;
        }
    }
    fs.unmount().await.unwrap();
    assert_counted(&disk, &story).await;
    refused
}

#[test]
fn usage_is_what_a_recount_finds_in_every_block_size() {
    let seed = std::env::var("LUNFS_QUOTA_SEED").ok().map(|text| text.parse().unwrap());
    let mut refused = 0;
    for bytes in SIZES {
        for maker in [Maker::Lunfs, Maker::Gfs2] {
            refused += run(random_run(maker, BlockSize::new(bytes).unwrap(), seed.unwrap_or(u64::from(bytes))));
        }
    }
    assert!(refused > 20 || seed.is_some(), "only {refused} were refused");
}

async fn file_of(fs: &Fs, name: &[u8], who: Caller) -> InodeNo {
    fs.mknod(fs.root(), name, 0o100_600, (0, 0), who).await.unwrap().ino
}

async fn write(fs: &Fs, ino: InodeNo, offset: u64, len: u64, who: Caller) -> Result<u32, FsError> {
    fs.write(ino, offset, vec![3; len as usize], WriteFlags::default(), who).await
}

fn is_refused<T>(result: &Result<T, FsError>) -> bool {
    matches!(result, Err(error @ FsError::QuotaExceeded { .. }) if error.errno() == 122)
}

#[test]
fn a_limit_is_reached_exactly_and_holds_for_every_kind_of_growth() {
    for bytes in SIZES {
        run(async {
            let size = BlockSize::new(bytes).unwrap();
            let (block, user, who) = (size.bytes_u64(), QuotaId::user(7), caller(7, 8));
            let disk = Arc::new(new_volume(Maker::Lunfs, size).await);
            let fs = mount(&disk, Mode::On, false).await;
            let file = file_of(&fs, b"file", who).await;
            let other = file_of(&fs, b"other", caller(9, 9)).await;
            let dir = fs.mkdir(fs.root(), b"dir", 0o777, who).await.unwrap().ino;
            limit(&fs, user, 100).await;
            // What does not fit is cut off at the limit.
            let written = u64::from(write(&fs, file, 0, 4000 * block, who).await.unwrap());
            assert!(written.is_multiple_of(block) && written > 80 * block, "{written}");
            assert_eq!(used(&fs, user).await, 100);
            // Nothing more, of no kind. What stands there can be changed.
            assert!(is_refused(&write(&fs, file, written, 1, who).await));
            assert!(is_refused(&write(&fs, file, 1 << 30, 1, who).await));
            assert_eq!(write(&fs, file, 0, block, who).await.unwrap(), bytes);
            let flags = WriteFlags { append: true, ..WriteFlags::default() };
            assert!(is_refused(&fs.write(file, 0, vec![1], flags, who).await));
            // Of a mapping it is not known who wrote; root is as good as nobody.
            let flags = WriteFlags { from_cache: true, ..WriteFlags::default() };
            assert!(is_refused(&fs.write(file, written, vec![1], flags, ROOT).await));
            assert!(is_refused(&fs.mknod(fs.root(), b"new", 0o100_600, (0, 0), who).await));
            assert!(is_refused(&fs.mkdir(fs.root(), b"new", 0o700, who).await));
            assert!(is_refused(&fs.symlink(fs.root(), b"new", b"target", who).await));
            assert!(is_refused(&fs.setxattr(file, b"user.a", b"1", &SetXattr::default(), who).await));
            let give = SetAttr { uid: Some(7), ..SetAttr::default() };
            assert!(
                is_refused(&fs.setattr(other, &give, ROOT).await),
                "not even root gives files to somebody who is full"
            );
            // A directory of his that others make grow.
            let mut made = 0;
            let refused = loop {
                let name = format!("{made:0>200}").into_bytes();
                match fs.mknod(dir, &name, 0o100_600, (0, 0), caller(9, 9)).await {
                    Ok(_) => made += 1,
                    refused => break refused,
                }
            };
            assert!(is_refused(&refused), "{refused:?}");
            assert!(is_refused(&fs.link(other, dir, "x".repeat(250).as_bytes(), caller(9, 9)).await));
            let (root, long) = (fs.root(), "x".repeat(250));
            let renamed = fs.rename(root, b"other", dir, long.as_bytes(), RenameMode::Replace, caller(9, 9));
            assert!(is_refused(&renamed.await));
            // Growing without a block is nobody's loss.
            let larger = SetAttr { size_bytes: Some(1 << 40), ..SetAttr::default() };
            fs.setattr(file, &larger, who).await.unwrap();
            assert_eq!(used(&fs, user).await, 100, "nothing of what was refused has happened");
            // Root goes on, and it counts.
            write(&fs, file, 200 * block, block, ROOT).await.unwrap();
            assert!(used(&fs, user).await > 100);
            // What is deleted is there again at once, also if the inode waits for its turn.
            fs.unlink(fs.root(), b"file").await.unwrap();
            fs.forget(file, 1);
            let again = fs.mknod(fs.root(), b"again", 0o100_600, (0, 0), who).await.unwrap().ino;
            assert_eq!(u64::from(write(&fs, again, 0, 20 * block, who).await.unwrap()), 20 * block);
            // Limits of groups, and a file that is moved into one.
            limit(&fs, QuotaId::group(50), 5).await;
            let give = SetAttr { gid: Some(50), ..SetAttr::default() };
            assert!(is_refused(&fs.setattr(again, &give, who).await));
            fs.setattr(other, &give, caller(9, 9)).await.unwrap();
            assert_eq!([used(&fs, QuotaId::group(50)).await, used(&fs, QuotaId::user(9)).await], [1, made + 1]);
            for ino in [other, dir, again] {
                fs.forget(ino, u64::MAX);
            }
            fs.unmount().await.unwrap();
            assert_counted(&disk, &format!("blocks of {bytes}")).await;
        });
    }
}

#[test]
fn truncation_upwards_is_refused_where_it_takes_a_block() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(&disk, Mode::On, false).await;
        let (who, size_bytes) = (caller(7, 8), Some(1 << 20));
        let file = file_of(&fs, b"file", who).await;
        write(&fs, file, 0, 100, who).await.unwrap();
        limit(&fs, QuotaId::group(8), 1).await;
        let larger = SetAttr { size_bytes, ..SetAttr::default() };
        assert!(is_refused(&fs.setattr(file, &larger, who).await));
        assert_eq!(fs.getattr(file).await.unwrap().size_bytes, 100);
        limit(&fs, QuotaId::group(8), 2).await;
        assert_eq!(fs.setattr(file, &larger, who).await.unwrap().size_bytes, 1 << 20);
        fs.unmount().await.unwrap();
        assert_counted(&disk, "truncation").await;
    });
}

#[test]
fn accounting_counts_and_refuses_nothing_and_off_does_neither() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let who = caller(7, 8);
        let fs = mount(&disk, Mode::Account, false).await;
        limit(&fs, QuotaId::user(7), 3).await;
        let file = file_of(&fs, b"file", who).await;
        write(&fs, file, 0, 4096 * 10, who).await.unwrap();
        assert_eq!(used(&fs, QuotaId::user(7)).await, 11);
        fs.unmount().await.unwrap();
        assert_counted(&disk, "accounting").await;
        let fs = mount(&disk, Mode::Off, false).await;
        write(&fs, file, 4096 * 10, 4096, who).await.unwrap();
        // Limits can be looked at and set all the same.
        limit(&fs, QuotaId::user(7), 4).await;
        assert_eq!(used(&fs, QuotaId::user(7)).await, 11);
        fs.unmount().await.unwrap();
        let errors = errors_with_quotas(disk.clone()).await;
        assert!(errors.len() == 2 && errors.iter().all(|error| error.starts_with("quota-usage")), "{errors:?}");
        // Whoever has counted again can set it right.
        let fs = mount(&disk, Mode::On, false).await;
        for id in [QuotaId::user(7), QuotaId::group(8)] {
            let change = SetQuota { used_blocks: Some(12), ..SetQuota::default() };
            assert_eq!(fs.set_quota(id, &change).await.unwrap().used_blocks, 12);
        }
        assert!(is_refused(&write(&fs, file, 4096 * 11, 1, who).await));
        fs.unmount().await.unwrap();
        assert_counted(&disk, "set right").await;
    });
}

#[test]
fn operations_side_by_side_do_not_get_past_a_limit_together() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    runtime.block_on(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(&disk, Mode::On, false).await;
        limit(&fs, QuotaId::user(7), 200).await;
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                let fs = Arc::clone(&fs);
                tokio::spawn(async move {
                    let mut files = 0;
                    loop {
                        let name = format!("{number} {files}").into_bytes();
                        match fs.mknod(fs.root(), &name, 0o100_600, (0, 0), caller(7, number)).await {
                            Ok(_) => files += 1,
                            Err(error) => break assert!(is_refused(&Err::<(), _>(error))),
                        }
                        fs.sync_quotas().await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(used(&fs, QuotaId::user(7)).await, 200);
        fs.unmount().await.unwrap();
        assert_counted(&disk, "side by side").await;
    });
}

#[test]
fn the_largest_numbers_have_their_place_in_the_quota_file() {
    for bytes in SIZES {
        for maker in [Maker::Lunfs, Maker::Gfs2] {
            run(async {
                let disk = Arc::new(new_volume(maker, BlockSize::new(bytes).unwrap()).await);
                let fs = mount(&disk, Mode::On, false).await;
                let ids = [0, 5, 6, 46, 1000, 65_534, 1 << 20, u32::MAX - 1, u32::MAX];
                for id in ids {
                    limit(&fs, QuotaId::group(id), u64::from(id) + 100).await;
                    file_of(&fs, format!("of {id}").as_bytes(), caller(id, id)).await;
                }
                for _ in 0..2 {
                    let found: Vec<u32> = all(&fs, Kind::User).await.iter().map(|quota| quota.id.id).collect();
                    assert_eq!(found, ids);
                    let found: Vec<u64> = all(&fs, Kind::Group).await.iter().map(|quota| quota.limit_blocks).collect();
                    assert_eq!(found, ids.map(|id| u64::from(id) + 100));
                    fs.sync_quotas().await.unwrap();
                }
                fs.unmount().await.unwrap();
                assert_counted(&disk, &format!("{maker:?}, blocks of {bytes}")).await;
                // Reading the report writes nothing.
                let fs = mount(&disk, Mode::Account, true).await;
                assert_eq!(all(&fs, Kind::User).await.len(), ids.len());
                fs.unmount().await.unwrap();
            });
        }
    }
}

#[test]
fn more_users_than_the_change_file_has_slots_get_in_turn() {
    run(async {
        // 30 slots in each of 2048 blocks; each file takes two.
        let _step = Step::new("many users".to_owned());
        let disk = Arc::new(new_volume_of(96 << 20, BlockSize::MIN, 1).await);
        let fs = mount(&disk, Mode::On, false).await;
        let mut dir = fs.root();
        for number in 0..31_000_u32 {
            if number.is_multiple_of(250) {
                dir = fs.mkdir(fs.root(), format!("d{number}").as_bytes(), 0o755, ROOT).await.unwrap().ino;
            }
            let who = caller(10 + number, 10 + number);
            let attr = fs.mknod(dir, number.to_string().as_bytes(), 0o100_600, (0, 0), who).await.unwrap();
            fs.forget(attr.ino, 1);
        }
        // Nobody has asked for it, but most of it is in the quota file.
        fs.sync().await.unwrap();
        let copy = mount(&Arc::new(disk.fork()), Mode::Off, true).await;
        assert!(all(&copy, Kind::User).await.len() > 10_000);
        fs.unmount().await.unwrap();
        assert_counted(&disk, "many users").await;
    });
}

#[test]
fn a_full_volume_leaves_changes_pending_and_loses_none() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(&disk, Mode::On, false).await;
        let ballast = file_of(&fs, b"ballast", caller(1, 1)).await;
        let small = file_of(&fs, b"small", caller(1, 1)).await;
        fs.sync_quotas().await.unwrap();
        let mut end = 0;
        while let Ok(written) = write(&fs, ballast, end, 1 << 20, caller(1, 1)).await {
            end += u64::from(written);
        }
        assert_eq!(fs.statfs().await.unwrap().blocks_free, 0);
        // Nobody has a block in the quota file there.
        let give = SetAttr { uid: Some(4_000_000_000), gid: Some(3_000_000_000), ..SetAttr::default() };
        fs.setattr(small, &give, ROOT).await.unwrap();
        fs.sync_quotas().await.unwrap();
        assert_eq!(used(&fs, QuotaId::user(4_000_000_000)).await, 1);
        fs.unmount().await.unwrap();
        assert_counted(&disk, "full").await;
        for quota in [Mode::Off, Mode::Account] {
            let fs = mount(&disk, quota, false).await;
            assert_eq!(used(&fs, QuotaId::user(4_000_000_000)).await, u64::from(quota == Mode::Account));
            fs.unmount().await.unwrap();
            assert_counted(&disk, "full, mounted again").await;
        }
        let fs = mount(&disk, Mode::On, false).await;
        fs.unlink(fs.root(), b"ballast").await.unwrap();
        fs.unmount().await.unwrap();
        let fs = mount(&disk, Mode::Off, false).await;
        assert_eq!(used(&fs, QuotaId::group(3_000_000_000)).await, 1, "it is in the quota file now");
        fs.unmount().await.unwrap();
        assert_counted(&disk, "room again").await;
    });
}

/// Blocks of quota change files, those of the first journal first.
fn change_blocks(disk: &ForkDisk, size: BlockSize) -> Vec<u64> {
    let is_change = |addr: &u64| meta::header(&disk.block(*addr, size)).is_some_and(|header| header.kind.get() == 14);
    (0..disk.blocks(size)).filter(is_change).collect()
}

fn put_slot(disk: &ForkDisk, block: u64, index: u64, change: i64, flags: u32, id: u32) {
    let bytes = [change.to_be_bytes().as_slice(), &flags.to_be_bytes(), &id.to_be_bytes()].concat();
    disk.poke(block * 4096 + 24 + index * 16, &bytes);
}

#[test]
fn what_other_nodes_left_in_their_change_files_is_gathered() {
    run(async {
        let disk = Arc::new(new_volume_with(Maker::Gfs2, BlockSize::MAX, 2).await);
        let blocks = change_blocks(&disk, BlockSize::MAX);
        assert_eq!(blocks.len(), 512);
        // Limits do not count for what has been taken.
        let fs = mount(&disk, Mode::On, false).await;
        limit(&fs, QuotaId::user(77), 20).await;
        fs.unmount().await.unwrap();
        put_slot(&disk, blocks[0], 3, 5, 1, 77);
        put_slot(&disk, blocks[0], 4, -2, 0, 77);
        // Twice in one file, which nobody should write.
        put_slot(&disk, blocks[255], 253, 10, 1, 77);
        put_slot(&disk, blocks[256], 0, 100, 1, 77);
        put_slot(&disk, blocks[511], 253, 7, 0, 77);
        let read_only = mount(&Arc::new(disk.fork()), Mode::On, true).await;
        assert_eq!([used(&read_only, QuotaId::user(77)).await, used(&read_only, QuotaId::group(77)).await], [115, 5]);
        assert_eq!(all(&read_only, Kind::User).await.last().unwrap().id, QuotaId::user(77));
        let fs = mount(&disk, Mode::On, false).await;
        assert_eq!([used(&fs, QuotaId::user(77)).await, used(&fs, QuotaId::group(77)).await], [115, 5]);
        fs.unmount().await.unwrap();
        for block in blocks {
            assert!(disk.block(block, BlockSize::MAX)[24..].iter().all(|byte| *byte == 0), "block {block}");
        }
        let fs = mount(&disk, Mode::Off, false).await;
        assert_eq!([used(&fs, QuotaId::user(77)).await, used(&fs, QuotaId::group(77)).await], [115, 5]);
        fs.unmount().await.unwrap();
        assert_sound(&disk, "gathered");
    });
}

#[test]
fn values_that_make_no_sense_are_limits_of_their_own() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Gfs2, BlockSize::MAX).await);
        let blocks = change_blocks(&disk, BlockSize::MAX);
        put_slot(&disk, blocks[0], 0, i64::MIN, 1, 5);
        put_slot(&disk, blocks[0], 1, i64::MAX, 0, 5);
        put_slot(&disk, blocks[0], 2, i64::MAX, 0xffff_fffe, 6);
        put_slot(&disk, blocks[1], 2, i64::MAX, 0xffff_fffe, 6);
        let fs = mount(&disk, Mode::On, false).await;
        assert_eq!(used(&fs, QuotaId::user(5)).await, 0);
        assert_eq!(used(&fs, QuotaId::group(6)).await, i64::MAX as u64);
        let file = file_of(&fs, b"file", caller(5, 6)).await;
        assert!(is_refused(&{
            limit(&fs, QuotaId::group(6), 10).await;
            write(&fs, file, 0, 10_000, caller(5, 6)).await
        }));
        let too_much = SetQuota { limit_blocks: Some(u64::MAX), ..SetQuota::default() };
        assert!(matches!(fs.set_quota(QuotaId::user(1), &too_much).await, Err(FsError::OutOfRange(_))));
        fs.unmount().await.unwrap();
    });
}

#[test]
fn damaged_quota_files_are_met_without_a_panic_or_a_hang() {
    run(async {
        let base = new_volume(Maker::Gfs2, BlockSize::MAX).await;
        let disk = Arc::new(base.fork());
        let fs = mount(&disk, Mode::On, false).await;
        for id in [3, 5000, 4_000_000_000] {
            limit(&fs, QuotaId::user(id), 1000).await;
            file_of(&fs, format!("of {id}").as_bytes(), caller(id, id)).await;
        }
        fs.unmount().await.unwrap();
        // The quota file with all its blocks, the change file, and what names them: everything that is not in the root.
        let kinds = [4, 5, 14];
        let blocks: Vec<u64> = (0..disk.blocks(BlockSize::MAX))
            .filter(|addr| {
                let block = disk.block(*addr, BlockSize::MAX);
                meta::header(&block).is_some_and(|header| kinds.contains(&header.kind.get()))
            })
            .collect();
        let (mut failed, mut fine) = (0, 0);
        for seed in 0..400 {
            let _step = Step::new(format!("damaged quotas, seed {seed}"));
            let mut rng = Rng(seed);
            let copy = Arc::new(disk.fork());
            for _ in 0..1 + rng.below(3) {
                let addr = *rng.pick(&blocks);
                let most = if rng.one_in(3) { 4072 } else { 400 };
                let offset = 24 + rng.below(most) / 8 * 8;
                let values = [0, 1, addr, addr + 1, u64::MAX, 1 << 63, 1 << 40, 8, rng.next()];
                let value = *rng.pick(&values);
                copy.poke(addr * 4096 + offset, &value.to_be_bytes());
            }
            let device: Arc<dyn block::device::BlockDevice> = copy.clone();
            let options = MountOptions { cache_bytes: CACHE_BYTES, quota: Mode::On, ..MountOptions::default() };
            let Ok(fs) = Fs::mount(device, options, Arc::new(TickingEnv::default())).await else {
                failed += 1;
                continue;
            };
            let result = async {
                let mut from = QuotaId::user(0);
                while let Some(quota) = fs.quota_next(from).await? {
                    from = QuotaId::user(quota.id.id.saturating_add(1));
                    if quota.id.id == u32::MAX {
                        break;
                    }
                }
                fs.set_quota(QuotaId::group(5000), &SetQuota { warn_blocks: Some(5), ..SetQuota::default() }).await?;
                let who = caller(5000, 3);
                fs.mknod(fs.root(), b"new", 0o100_600, (0, 0), who).await?;
                fs.sync_quotas().await?;
                fs.unmount().await
            };
            match result.await {
                Ok(()) => fine += 1,
                Err(_) => failed += 1,
            }
            errors_with_quotas(copy).await;
        }
        assert!(failed > 20 && fine > 20, "{failed} failed, {fine} did not");
    });
}

/// Nobody may be charged for the quota file: what it grows by would have to be written into it.
#[test]
fn a_quota_file_that_belongs_to_somebody_is_damage_for_those_who_count() {
    const SYSTEM: u32 = 0x200;
    run(async {
        let disk = Arc::new(new_volume(Maker::Gfs2, BlockSize::MAX).await);
        let file = (17..disk.blocks(BlockSize::MAX)).find(|addr| {
            let block = disk.block(*addr, BlockSize::MAX);
            let number = |at: usize| u64::from_be_bytes(*block[at..].first_chunk().unwrap());
            // A dinode with the records of user and group 0.
            meta::header(&block).is_some_and(|header| header.kind.get() == 4) && number(56) == 176 && number(64) == 1
        });
        let at = file.unwrap() * 4096 + 128;
        let mut flags = [0; 4];
        disk.peek(at, &mut flags);
        let flags = u32::from_be_bytes(flags);
        assert_ne!(flags & SYSTEM, 0);
        disk.poke(at, &(flags & !SYSTEM).to_be_bytes());
        let options = |quota| MountOptions { cache_bytes: CACHE_BYTES, quota, ..MountOptions::default() };
        let device: Arc<dyn block::device::BlockDevice> = disk.clone();
        let refused = Fs::mount(device, options(Mode::On), Arc::new(TickingEnv::default())).await;
        let Err(FsError::Corrupt { kind, .. }) = refused else { panic!("it is mounted, and counts") };
        assert_eq!(kind, CorruptKind::SystemFileShape { name: "quota" });
        mount(&disk, Mode::Off, false).await.unmount().await.unwrap();
    });
}

/// A number behind `key` in a line of a fixture.
fn number(line: &str, key: &str) -> u64 {
    let rest = line.split_once(&format!("\"{key}\": ")).unwrap().1;
    rest.split([',', '}']).next().unwrap().parse().unwrap()
}

#[test]
fn quotas_of_the_kernel_are_read() {
    for bytes in [512, 1024, 4096] {
        run(async {
            let name = format!("features-{bytes}");
            let own = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
            let folder = std::env::var_os("LUNFS_FIXTURES").map_or_else(own, Into::into);
            let text = std::fs::read_to_string(folder.join(format!("{name}.quota"))).unwrap();
            let mut wanted: Vec<(QuotaId, u64, u64, u64)> = text
                .lines()
                .map(|line| {
                    let id = number(line, "id") as u32;
                    let id = if line.contains("\"user\"") { QuotaId::user(id) } else { QuotaId::group(id) };
                    (id, number(line, "limit"), number(line, "warn"), number(line, "value"))
                })
                .collect();
            wanted.sort_unstable();
            assert!(wanted.len() > 10);
            let disk = Arc::new(fixture(&name));
            for (quota, read_only) in [(Mode::Off, true), (Mode::On, true), (Mode::On, false)] {
                let fs = mount(&disk, quota, read_only).await;
                let mut found = all(&fs, Kind::User).await;
                found.extend(all(&fs, Kind::Group).await);
                let found: Vec<_> = found
                    .iter()
                    .filter(|quota| quota.id.id != 0)
                    .map(|quota| (quota.id, quota.limit_blocks, quota.warn_blocks, quota.used_blocks))
                    .collect();
                assert_eq!(found, wanted, "{name}");
                fs.unmount().await.unwrap();
            }
            assert_sound(&disk, &name);
        });
    }
}
