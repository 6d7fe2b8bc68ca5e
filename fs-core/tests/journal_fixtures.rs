//! Journals that the Linux kernel left dirty, replayed by lunfs on one copy and by `fsck.gfs2` on another.
//!
//! The images are those of `tests/fixtures`, or of the folder `LUNFS_FIXTURES`.

// A test as a whole: what fails may panic.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use block::device::{BlockDevice, IoBuf};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;
use fs_core::format::superblock::{OFFSET_BYTES, Superblock};
use fs_core::journal::chain::Bounds;
use fs_core::journal::extents::{Extent, JournalMap};
use fs_core::journal::head;
use fs_core::journal::owner::Owners;
use fs_core::journal::recover::{Recovery, Replayed};

/// Start of the entries of a directory, or of the pointers of a tree, in a dinode.
const DINODE_PAYLOAD: usize = 232;

fn fixture(name: &str) -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    std::env::var_os("LUNFS_FIXTURES").map_or_else(own, PathBuf::from).join(name)
}

/// Just enough of a reader to find the journals of a volume whose system directories are small.
struct Image {
    device: std::sync::Arc<dyn BlockDevice>,
    size: BlockSize,
}

impl Image {
    async fn block(&self, addr: u64) -> IoBuf {
        self.device.read(addr << self.size.shift(), IoBuf::zeroed(self.size.bytes())).await.unwrap()
    }

    fn number(block: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(*block[at..].first_chunk().unwrap())
    }

    fn short(block: &[u8], at: usize) -> usize {
        usize::from(u16::from_be_bytes(*block[at..].first_chunk().unwrap()))
    }

    async fn lookup(&self, directory: u64, name: &str) -> Option<u64> {
        let block = self.block(directory).await;
        let mut at = DINODE_PAYLOAD;
        while at < block.len() {
            let (addr, length) = (Self::number(&block, at + 8), Self::short(&block, at + 22));
            if addr != 0 && &block[at + 40..at + 40 + length] == name.as_bytes() {
                return Some(addr);
            }
            at += Self::short(&block, at + 20);
        }
        None
    }

    /// The blocks of a file, in order.
    async fn blocks_of(&self, dinode: u64) -> Vec<u64> {
        let block = self.block(dinode).await;
        let count = usize::try_from(Self::number(&block, 56) >> self.size.shift()).unwrap();
        let pointers = |block: &[u8], from: usize| -> Vec<u64> {
            (from..=block.len() - 8).step_by(8).map(|at| Self::number(block, at)).filter(|addr| *addr != 0).collect()
        };
        let mut level = pointers(&block, DINODE_PAYLOAD);
        for _ in 1..Self::short(&block, 138) {
            let mut next = vec![];
            for addr in level {
                next.extend(pointers(&self.block(addr).await, 24));
            }
            level = next;
        }
        assert_eq!(level.len(), count);
        level
    }

    async fn journals(&self) -> Vec<JournalMap> {
        let head = self.device.read(OFFSET_BYTES, IoBuf::zeroed(4096)).await.unwrap();
        let master = Superblock::parse(&head).unwrap().master;
        let index = self.lookup(master.get(), "jindex").await.unwrap();
        let mut journals = vec![];
        for jid in 0.. {
            let Some(dinode) = self.lookup(index, &format!("journal{jid}")).await else { break };
            let extents: Vec<Extent> = (0..)
                .zip(self.blocks_of(dinode).await)
                .map(|(position, addr)| Extent { position, addr: BlockAddr(addr), count: 1 })
                .collect();
            journals.push(JournalMap::new(jid, InodeNo::new(dinode).unwrap(), self.size, &extents).unwrap());
        }
        journals
    }
}

async fn open(path: &Path) -> Image {
    let device = block::open(path, block::OpenOptions::default()).unwrap();
    let head = device.read(OFFSET_BYTES, IoBuf::zeroed(4096)).await.unwrap();
    let size = Superblock::parse(&head).unwrap().block_size;
    Image { device, size }
}

/// Replays every journal of the image.
async fn replay(image: &Image) -> Vec<Replayed> {
    let mut all = vec![];
    for journal in &image.journals().await {
        let recovery = Recovery {
            device: &*image.device,
            journal,
            bounds: Bounds {
                first: BlockAddr(Superblock::addr(image.size).0 + 1),
                end: BlockAddr(image.device.geometry().size_bytes >> image.size.shift()),
            },
            checksums_hold: false,
            writer_jid: 0,
            now: Timestamp { sec: 1, nsec: 0 },
        };
        let head = head::find(&*image.device, journal).await.unwrap();
        if head.header.is_clean() {
            continue;
        }
        let log = recovery.inspect(head).await.unwrap();
        assert_eq!(*log.owners(), Owners::All, "the kernel names no owners");
        let done = recovery.apply(&log).await.unwrap();
        assert!(!done.stamped);
        assert!(head::find(&*image.device, journal).await.unwrap().header.is_clean());
        all.push(done);
    }
    all
}

fn fsck(path: &Path) -> i32 {
    let done = Command::new("fsck.gfs2").arg("-y").arg(path).output().unwrap();
    done.status.code().unwrap()
}

/// Compares all but the journals.
async fn assert_same(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (open(ours).await, open(theirs).await);
    let journals = ours.journals().await;
    let chunk = 1 << 20;
    let mut differing = vec![];
    for offset in (0..ours.device.geometry().size_bytes).step_by(chunk) {
        let a = ours.device.read(offset, IoBuf::zeroed(chunk)).await.unwrap();
        let b = theirs.device.read(offset, IoBuf::zeroed(chunk)).await.unwrap();
        let blocks = a.chunks_exact(ours.size.bytes()).zip(b.chunks_exact(ours.size.bytes()));
        for (addr, (a, b)) in ((offset >> ours.size.shift())..).map(BlockAddr).zip(blocks) {
            if a != b && !journals.iter().any(|journal| journal.contains(addr)) {
                let bytes: Vec<usize> = (0..a.len()).filter(|at| a[*at] != b[*at]).collect();
                differing.push((addr, bytes.first().copied(), bytes.len()));
            }
        }
    }
    assert!(differing.is_empty(), "block, first byte, bytes: {differing:?}");
}

async fn check(name: &str, journals: usize) {
    let packed = fixture(&format!("{name}.img.zst"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (ours, theirs) = (folder.join(format!("{name}-ours.img")), folder.join(format!("{name}-theirs.img")));
    for target in [&ours, &theirs] {
        let unpacked =
            Command::new("zstd").args(["-d", "--long=27", "-q", "-f"]).arg(&packed).arg("-o").arg(target).status();
        assert!(unpacked.unwrap().success());
        // Packed read-only, unpacked read-only.
        let mut permissions = std::fs::metadata(target).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(target, permissions).unwrap();
    }
    let done = replay(&open(&ours).await).await;
    println!("{name}: {done:?}");
    assert_eq!(done.len(), journals);
    assert!(done.iter().all(|done| done.blocks > 0));

    let results = (fsck(&ours), fsck(&theirs));
    println!("{name}: fsck after our replay {}, instead of it {}", results.0, results.1);
    assert!(results.0 <= 1 && results.1 <= 1, "{results:?}");
    assert_same(&ours, &theirs).await;
    let _ = (std::fs::remove_file(&ours), std::fs::remove_file(&theirs));
}

macro_rules! fixtures {
    ($($test:ident: $name:literal, $journals:literal;)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                check($name, $journals).await;
            }
        )*
    };
}

fixtures! {
    default_mode_is_replayed_as_fsck_does: "crash-1", 1;
    writeback_mode_is_replayed_as_fsck_does: "crash-2", 1;
    journaled_data_is_replayed_as_fsck_does: "crash-3", 1;
    small_blocks_are_replayed_as_fsck_does: "crash-4", 1;
    two_nodes_apart_are_replayed_as_fsck_does: "pair-1", 2;
    two_nodes_in_one_directory_are_replayed_as_fsck_does: "pair-2", 2;
}
