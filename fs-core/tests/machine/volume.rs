//! New volumes, small ones.

use block::device::{BlockDevice, Durability, IoBuf};
use fs_core::addr::BlockAddr;
use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;
use fs_core::format::log::{self, NewHeader, StatfsDelta, flags};
use fs_core::format::meta::{self, BlockKind};

use super::disk::{Disk, Image};
use crate::mkfs_core::attr::Timestamp as MkfsTimestamp;
use crate::mkfs_core::format::block_size::BlockSize as MkfsBlockSize;

const MIB: u64 = 1 << 20;
/// The smallest journal that there is, and as much again.
const SIZE_BYTES: u64 = 20 * MIB;

/// A volume of the crate mkfs with one journal, on a disk full of what nobody wrote. Its log goes on `before_end` blocks
/// before the end of the journal, of which only the first `journal_blocks` are used.
pub(crate) async fn make(block_bytes: u32, seed: u64, before_end: u64, journal_blocks: Option<u32>) -> Image {
    let disk = Disk::plain(Image::new(SIZE_BYTES));
    let options = mkfs::options::Options {
        block_size: MkfsBlockSize::new(block_bytes).unwrap(),
        journals: Some(1),
        journal_bytes: Some(8 * MIB),
        ..Default::default()
    };
    let plan = mkfs::plan::Plan::new(SIZE_BYTES, &disk.geometry(), &options).unwrap();
    let identity = mkfs::options::Identity {
        uuid: uuid::Uuid::from_u64_pair(seed, seed),
        created: MkfsTimestamp { sec: 1_600_000_000, nsec: 0 },
        seed,
    };
    mkfs::format(&disk, &plan, &identity, false, &|_| ()).await.unwrap();
    rotate(&disk, BlockSize::new(block_bytes).unwrap(), before_end, journal_blocks).await;
    disk.image()
}

/// A volume of mkfs.gfs2, which has no checksums.
pub(crate) fn make_by_gfs2(block_bytes: u32) -> Image {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len(SIZE_BYTES).unwrap();
    let made = std::process::Command::new("mkfs.gfs2")
        .args(["-O", "-q", "-K", "-p", "lock_nolock", "-j", "1", "-J", "8", "-b", &block_bytes.to_string()])
        .arg(&path)
        .output()
        .expect("mkfs.gfs2 (package gfs2-utils) is needed");
    assert!(made.status.success(), "{made:?}");
    let mut image = Image::new(SIZE_BYTES);
    image.write(0, &std::fs::read(&path).unwrap());
    image
}

/// Numbers the headers of a new journal so that its log has come around to a place before its end.
async fn rotate(disk: &Disk, size: BlockSize, before_end: u64, journal_blocks: Option<u32>) {
    let image = disk.image();
    let mut journal = Vec::new();
    let mut block = vec![0; size.bytes()];
    for addr in 0..image.size_bytes() >> size.shift() {
        image.read(addr << size.shift(), &mut block);
        if meta::header(&block).is_some_and(|header| header.kind.get() == BlockKind::LOG_HEADER.0) {
            journal.push(BlockAddr(addr));
        }
    }
    journal.truncate(journal_blocks.map_or(usize::MAX, |blocks| blocks as usize));
    let blocks = journal.len() as u64;
    let head = blocks - 1 - before_end % blocks;
    for (position, addr) in (0..).zip(&journal) {
        let header = NewHeader {
            jid: 0,
            sequence: if position <= head { 2 * blocks + position } else { blocks + position },
            flags: flags::UNMOUNT,
            tail: 0,
            blkno: position as u32,
            addr: addr.0,
            time: Timestamp { sec: 1, nsec: 0 },
            jinode: 0,
            statfs_addr: 0,
            quota_addr: 0,
            local: StatfsDelta::default(),
        };
        let mut block = IoBuf::zeroed(size.bytes());
        log::write_header(&mut block, &header);
        disk.write(addr.0 << size.shift(), block, Durability::Cached).await.unwrap();
    }
}

/// What `fsck.gfs2 -n` says of an image that it does not like; `None` if it does.
pub(crate) fn fsck(image: &Image) -> Option<String> {
    let memory = std::path::Path::new("/dev/shm");
    let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let path = dir.path().join("image");
    image.save(&path);
    let out = std::process::Command::new("fsck.gfs2").arg("-n").arg(&path).output().unwrap();
    let clean = out.status.success() && out.stderr.is_empty();
    let text = [out.stdout, out.stderr].concat();
    (!clean).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// The referee is installed.
pub(crate) fn has_fsck() -> bool {
    std::process::Command::new("fsck.gfs2").arg("-V").output().is_ok()
}
