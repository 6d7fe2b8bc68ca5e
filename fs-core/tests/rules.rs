//! Volumes on which one rule is broken, on purpose and at a known place: the error names the rule, and nobody waits for
//! ever.

// A test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use block::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture};
use common::{ForkDisk, Maker, ROOT, Step, mount, new_volume, pattern, run, write_all};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::RenameMode;
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::block_size::BlockSize;
use fs_core::format::meta;
use fs_core::fs::Fs;

const CACHE_BYTES: u64 = 8 << 20;

fn size() -> BlockSize {
    BlockSize::new(4096).unwrap()
}

/// Changes a metadata block, and makes its checksum true again.
fn damage(disk: &ForkDisk, addr: BlockAddr, change: impl FnOnce(&mut [u8])) {
    let mut block = disk.block(addr.0, size());
    let header = meta::header(&block).unwrap();
    let (jid, version) = (header.jid.get(), header.version.get());
    change(&mut block);
    meta::seal(addr, &mut block, jid, version);
    disk.poke(addr.0 << size().shift(), &block);
}

fn put(block: &mut [u8], at: usize, value: u64) {
    block[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

/// Where in a directory that has its entries in its dinode the entry of `name` starts.
fn entry_of(block: &[u8], name: &[u8]) -> usize {
    let at = block.windows(name.len()).rposition(|part| part == name).unwrap();
    at - 40
}

async fn file(fs: &Fs, dir: InodeNo, name: &[u8]) -> InodeNo {
    fs.mknod(dir, name, 0o100_644, (0, 0), ROOT).await.unwrap().ino
}

#[test]
fn an_inode_that_cannot_have_more_blocks_gets_none() {
    run(async {
        let whole = u64::from(size().bytes_u32());
        // What is there, and what is written then: into a stuffed file, behind the end, on another level.
        for (len, offset) in [(10, whole), (5000, 5 * whole), (5000, 4 << 30)] {
            let disk = Arc::new(new_volume(Maker::Lunfs, size()).await);
            let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
            let ino = file(&fs, fs.root(), b"file").await;
            write_all(&fs, ino, 0, &pattern(1, len)).await.unwrap();
            fs.unmount().await.unwrap();
            damage(&disk, ino.addr(), |block| put(block, 64, u64::MAX));
            let fs = mount(disk, CACHE_BYTES, false).await.unwrap();
            let error = write_all(&fs, ino, offset, b"more").await.unwrap_err();
            let FsError::Corrupt { addr, kind: CorruptKind::DinodeBlocks { blocks: u64::MAX } } = error else {
                panic!("{error:?}")
            };
            assert_eq!(addr, ino.addr());
        }
    });
}

/// A disk that lets others run before it answers.
struct Slow(ForkDisk);

impl BlockDevice for Slow {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.read(offset_bytes, buf).await
        })
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        self.0.write(offset_bytes, data, durability)
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.0.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.0.discard(offset_bytes, len_bytes)
    }
}

/// `/P/D`, where names in `D` lead up: `up` is a directory and `liar` a file, both of them `P`.
async fn circle() -> (ForkDisk, InodeNo, InodeNo) {
    let disk = Arc::new(new_volume(Maker::Lunfs, size()).await);
    let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
    let parent = fs.mkdir(fs.root(), b"P", 0o755, ROOT).await.unwrap().ino;
    let dir = fs.mkdir(parent, b"D", 0o755, ROOT).await.unwrap().ino;
    fs.mkdir(dir, b"up", 0o755, ROOT).await.unwrap();
    file(&fs, dir, b"liar").await;
    fs.unmount().await.unwrap();
    let formal = disk.block(parent.get(), size())[24..32].to_vec();
    damage(&disk, dir.addr(), |block| {
        for name in [&b"up"[..], b"liar"] {
            let at = entry_of(block, name);
            block[at..at + 8].copy_from_slice(&formal);
            put(block, at + 8, parent.get());
        }
    });
    (disk.fork(), parent, dir)
}

#[test]
fn names_that_lead_up_make_nobody_wait_for_ever() {
    run(async {
        let (disk, parent, dir) = circle().await;
        for operation in 0..6 {
            let _step = Step::new(format!("operation {operation} in a directory that names its parent"));
            let fs = mount(Arc::new(Slow(disk.fork())), CACHE_BYTES, false).await.unwrap();
            // The parent is in memory, so that the second one has it locked while the first one reads.
            fs.getattr(parent).await.unwrap();
            let first = async {
                match operation {
                    0 => fs.readdirplus(dir, 0, &mut |_, _| true).await.err(),
                    1 => fs.rmdir(dir, b"up").await.err(),
                    2 => fs.unlink(dir, b"liar").await.err(),
                    3 => fs.rename(dir, b"up", dir, b"other", RenameMode::Replace).await.err(),
                    4 => fs.rename(dir, b"up", dir, b"liar", RenameMode::Exchange).await.err(),
                    _ => fs.link(parent, dir, b"linked").await.err(),
                }
            };
            let (first, second) = futures_util::future::join(first, fs.rmdir(parent, b"D")).await;
            println!("{operation}: {first:?}, {second:?}");
            let second = second.unwrap_err();
            assert!(matches!(second, FsError::NotEmpty | FsError::Withdrawn | FsError::Corrupt { .. }), "{second}");
            // A wrong type is seen, and directories get no second name. The others may find nothing wrong, once they are
            // alone: only the lookups of a whole way would.
            assert!(first.is_some() || !matches!(operation, 2 | 5), "operation {operation} was done");
        }
    });
}
