//! `debug dir` and `debug path`: names, and the blocks that they stand in.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, bail};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::attr::FileKind;
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::dir;
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::dinode::{self, DIR_DEPTH_MAX, Dinode};
use fs_core::format::dirent::{self, Dirents, LEAF_HEADER_BYTES, Leaf};
use fs_core::format::indirect;
use fs_core::format::meta::{self, BlockKind};

use super::View;
use super::tree::{Found, Tree};
use super::volume::DeviceBlocks;
use crate::output::escape;

/// A block that holds entries.
pub(super) struct Area {
    /// The block.
    pub(super) addr: BlockAddr,
    /// Its header, when it is a leaf; else it is the dinode.
    pub(super) leaf: Option<Leaf>,
    /// The slots of the hash table that lead to it.
    pub(super) slots: Range<usize>,
    image: BlockImage,
}

impl Area {
    /// Its entries.
    pub(super) fn entries(&self) -> Dirents<'_> {
        let first = if self.leaf.is_some() { LEAF_HEADER_BYTES } else { dinode::HEADER_BYTES };
        dirent::entries(self.addr, self.image.get(first..).unwrap_or_default())
    }
}

/// Walks the blocks of a directory that hold entries. Ends on any disk: no leaf is entered twice.
pub(super) struct Areas<'a> {
    blocks: &'a DeviceBlocks,
    dir: &'a Dinode,
    /// The dinode, while it is an area itself and was not returned yet.
    stuffed: Option<BlockImage>,
    /// The hash table.
    slots: Vec<Option<BlockAddr>>,
    /// The next slot to look at, and where to stop.
    slot: Range<usize>,
    /// The next leaf of the chain that is walked.
    next: Option<(BlockAddr, Range<usize>)>,
    entered: HashSet<BlockAddr>,
}

impl<'a> Areas<'a> {
    /// All areas of `dir`, which stands in `image`.
    pub(super) async fn new(blocks: &'a DeviceBlocks, dir: &'a Dinode, image: &BlockImage) -> Result<Self, FsError> {
        let (stuffed, slots) = if dir.is_hashed() {
            (None, table(blocks, dir, image).await?)
        } else {
            (Some(BlockImage::clone(image)), Vec::new())
        };
        let slot = 0..slots.len();
        Ok(Self { blocks, dir, stuffed, slots, slot, next: None, entered: HashSet::new() })
    }

    /// The next area. After an error the walk can go on with what comes behind it.
    pub(super) async fn next(&mut self) -> Result<Option<Area>, FsError> {
        if let Some(image) = self.stuffed.take() {
            return Ok(Some(Area { addr: self.dir.ino.addr(), leaf: None, slots: 0..0, image }));
        }
        let Some((addr, slots)) = self.next.take().map_or_else(|| self.next_in_table(), |next| Ok(Some(next)))? else {
            return Ok(None);
        };
        if !self.entered.insert(addr) {
            return Err(CorruptKind::PointerCircle.at(addr));
        }
        let image = self.blocks.meta(addr, BlockKind::LEAF).await?;
        let leaf = Leaf::parse(addr, &image)?;
        self.next = leaf.next.map(|next| (next, slots.clone()));
        Ok(Some(Area { addr, leaf: Some(leaf), slots, image }))
    }

    /// The leaf behind the next slot, and all slots in a row that lead to it.
    fn next_in_table(&mut self) -> Result<Option<(BlockAddr, Range<usize>)>, FsError> {
        let Some(start) = self.slot.next() else { return Ok(None) };
        let leaf = self.slots.get(start).copied().flatten();
        let same =
            self.slots.get(self.slot.clone()).unwrap_or_default().iter().take_while(|next| **next == leaf).count();
        self.slot.start += same;
        let hole = || CorruptKind::HashTableHole { slot: u32::try_from(start).unwrap_or(u32::MAX) };
        let leaf = leaf.ok_or_else(|| hole().at(self.dir.ino.addr()))?;
        Ok(Some((leaf, start..self.slot.start)))
    }
}

/// The hash table of `dir`: at most 2¹⁷ slots.
async fn table(blocks: &DeviceBlocks, dir: &Dinode, image: &BlockImage) -> Result<Vec<Option<BlockAddr>>, FsError> {
    let len = 1_usize << dir.depth.min(DIR_DEPTH_MAX);
    let pointers = |block: &BlockImage, first: usize| -> Vec<_> {
        (0..indirect::count(block, first)).map(|index| indirect::pointer(block, first, index)).collect()
    };
    if dir.is_stuffed() {
        let mut slots = pointers(image, dinode::HEADER_BYTES);
        slots.truncate(len);
        return Ok(slots);
    }
    let mut slots = Vec::new();
    let mut tree = Tree::new(blocks, dir, BlockImage::clone(image));
    while slots.len() < len
        && let Some(found) = tree.next().await?
    {
        if let Found::Content { addr, .. } = found {
            slots.extend(pointers(&blocks.meta(addr, BlockKind::JOURNALED_DATA).await?, meta::HEADER_BYTES));
        }
    }
    slots.truncate(len);
    Ok(slots)
}

impl<W: Write> View<'_, W> {
    pub(super) async fn path(&mut self, path: &OsStr) -> anyhow::Result<()> {
        let mut ino = self.volume.superblock.root;
        let mut walked = Vec::new();
        for name in path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let (dinode, _) = self.volume.dinode(ino).await?;
            let parent = || format!("/{}", escape(&walked));
            match dinode.kind {
                FileKind::Directory => {}
                FileKind::Symlink => {
                    bail!("{} is a symbolic link; give the path it leads to (`inode {ino}` shows it)", parent())
                }
                _ => bail!("{} is not a directory (it is inode {ino})", parent()),
            }
            let found = dir::lookup(&self.volume.blocks, &dinode, name).await;
            let found = found.with_context(|| format!("looking for {} in {}", escape(name), parent()))?;
            let Some(found) = found else {
                bail!("{} is not in {} (inode {ino}); `dir {ino}` lists it", escape(name), parent());
            };
            ino = found.ino;
            if !walked.is_empty() {
                walked.push(b'/');
            }
            walked.extend_from_slice(name);
        }
        self.out.field("path", format!("/{}", escape(&walked)))?;
        self.inode(ino).await
    }

    pub(super) async fn directory(&mut self, ino: InodeNo) -> anyhow::Result<()> {
        let (dir, image) = self.volume.dinode(ino).await?;
        if dir.kind != FileKind::Directory {
            bail!("inode {ino} is a {}, not a directory; `inode {ino}` shows it", kind_name(dir.kind));
        }
        self.out.field("inode", ino.get())?;
        self.out.field("entries_counted", dir.entries)?;
        self.out.field("hashed", dir.is_hashed())?;
        if dir.is_hashed() {
            self.out.field("depth", dir.depth)?;
        }
        self.out.table("entries", &ENTRY_COLUMNS)?;
        let (mut found, mut leaves) = (0_u64, 0_u64);
        let blocks = &self.volume.blocks;
        let mut areas = Areas::new(blocks, &dir, &image).await?;
        loop {
            let area = match areas.next().await {
                Ok(Some(area)) => area,
                Ok(None) => break,
                Err(problem) => {
                    blocks.note(problem);
                    continue;
                }
            };
            let in_area = entry_rows(self.out, blocks, area.addr, area.entries())?;
            found += in_area;
            if let Some(leaf) = area.leaf {
                leaves += 1;
                check_leaf(blocks, &dir, &area, leaf, in_area);
            }
        }
        self.out.end()?;
        if dir.is_hashed() {
            self.out.field("leaves", leaves)?;
        }
        if found != u64::from(dir.entries) {
            blocks.note(CorruptKind::DirectoryEntries { entries: dir.entries }.at(ino.addr()));
        }
        Ok(())
    }
}

/// What is shown of an entry.
pub(super) const ENTRY_COLUMNS: [(&str, usize); 6] =
    [("inode", 12), ("formal", 10), ("kind", 12), ("hash", 10), ("block", 12), ("name", 0)];

/// Prints entries, and returns how many are in use. Notes the first one that is broken, behind which nothing is found.
pub(super) fn entry_rows(
    out: &mut crate::output::Printer<impl Write>,
    blocks: &DeviceBlocks,
    addr: BlockAddr,
    entries: Dirents<'_>,
) -> std::io::Result<u64> {
    let mut count = 0;
    for entry in entries {
        match entry {
            Ok(entry) => {
                let Some(target) = entry.target else { continue };
                count += 1;
                let hash = format!("{:08x}", target.hash);
                let kind = kind_name(target.kind);
                out.row(&[&target.ino.get(), &target.formal, &kind, &hash, &addr.0, &escape(target.name)])?;
            }
            Err(problem) => blocks.note(problem),
        }
    }
    Ok(count)
}

/// Notes what of a leaf does not fit its directory.
fn check_leaf(blocks: &DeviceBlocks, dir: &Dinode, area: &Area, leaf: Leaf, found: u64) {
    if u64::from(leaf.entries) != found {
        blocks.note(CorruptKind::LeafEntries { entries: leaf.entries }.at(area.addr));
    }
    let wanted = dir.depth.checked_sub(leaf.depth).map(|bits| 1_usize << bits.min(DIR_DEPTH_MAX));
    if wanted.is_none_or(|wanted| area.slots.len() != wanted || !area.slots.start.is_multiple_of(wanted)) {
        blocks.note(CorruptKind::LeafDepth { depth: leaf.depth }.at(area.addr));
    }
}

/// The word for a file type.
pub(super) const fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Fifo => "pipe",
        FileKind::CharDevice => "char device",
        FileKind::Directory => "directory",
        FileKind::BlockDevice => "block device",
        FileKind::Regular => "file",
        FileKind::Symlink => "symlink",
        FileKind::Socket => "socket",
    }
}
