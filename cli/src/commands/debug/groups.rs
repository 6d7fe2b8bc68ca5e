//! The system files that say what a volume consists of: the resource index, and the list of journals.

use anyhow::{Context, bail};
use fs_core::addr::{BlockAddr, InodeNo};
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::dir;
use fs_core::error::CorruptKind;
use fs_core::format::dinode::Dinode;
use fs_core::format::rgrp::{BlockState, RINDEX_ENTRY_BYTES, RawRindexEntry, RgrpPlace};
use zerocopy::FromBytes;

use super::tree::content;
use super::volume::Volume;

/// Most bytes of a resource index that are read: a million resource groups.
const RINDEX_BYTES_MAX: usize = 96 << 20;

/// Where the resource groups are, in the order of the index.
pub(super) struct Groups(pub(super) Vec<RgrpPlace>);

impl Groups {
    /// The group that `block` belongs to, as header, bitmap or described by it, with its place in the index.
    pub(super) fn find(&self, block: BlockAddr) -> Option<(usize, &RgrpPlace)> {
        self.0.iter().enumerate().find(|(_, place)| (place.addr..place.end()).contains(&block))
    }

    /// Group `n`.
    pub(super) fn get(&self, n: u64) -> anyhow::Result<&RgrpPlace> {
        let place = usize::try_from(n).ok().and_then(|n| self.0.get(n));
        place
            .with_context(|| format!("there is no resource group {n}: the volume has {}, counted from 0", self.0.len()))
    }
}

impl Volume {
    /// The inode of a system file in the directory `dir`.
    async fn system_file(&self, dir: InodeNo, name: &str) -> anyhow::Result<Option<InodeNo>> {
        let (dinode, _) = self.dinode(dir).await?;
        let found = dir::lookup(&self.blocks, &dinode, name.as_bytes()).await;
        found.map(|link| link.map(|link| link.ino)).with_context(|| format!("looking for the system file {name}"))
    }

    /// The inode of a file of the master directory.
    pub(super) async fn master_file(&self, name: &'static str) -> anyhow::Result<(Dinode, BlockImage)> {
        let master = self.superblock.master;
        match self.system_file(master, name).await? {
            Some(ino) => self.dinode(ino).await.with_context(|| format!("system file {name}")),
            None => Err(CorruptKind::SystemFileMissing { name }.at(master.addr()).into()),
        }
    }

    /// Reads the resource index. Notes entries that make no sense, and leaves them out.
    pub(super) async fn groups(&self) -> anyhow::Result<Groups> {
        let (dinode, image) = self.master_file("rindex").await?;
        let block = dinode.ino.addr();
        let bytes = content(&self.blocks, &dinode, &image, RINDEX_BYTES_MAX).await.context("reading the rindex")?;
        let (entries, rest) = bytes.as_chunks::<RINDEX_ENTRY_BYTES>();
        if !rest.is_empty() || entries.is_empty() || dinode.size != bytes.len() as u64 {
            self.blocks.note(CorruptKind::RindexSize { size: dinode.size }.at(block));
        }
        let mut places: Vec<RgrpPlace> = Vec::new();
        for entry in entries {
            let Ok(raw) = RawRindexEntry::ref_from_bytes(entry) else { continue };
            match RgrpPlace::parse(block, raw, self.superblock.block_size) {
                Ok(place) => {
                    let overlaps = places.last().is_some_and(|last| last.end() > place.addr);
                    if overlaps || place.end().0 > self.blocks.count() {
                        self.blocks.note(CorruptKind::RindexOrder { rgrp: place.addr }.at(block));
                    }
                    places.push(place);
                }
                Err(problem) => self.blocks.note(problem),
            }
        }
        Ok(Groups(places))
    }

    /// The state of `block` in the bitmap; `None` when no bitmap describes it.
    pub(super) async fn state(&self, place: &RgrpPlace, block: BlockAddr) -> anyhow::Result<Option<BlockState>> {
        let Some(index) = place.index_of(block) else { return Ok(None) };
        let position = place.bit_position(index, self.superblock.block_size);
        let addr = BlockAddr(place.addr.0 + u64::from(position.header_block));
        let image = self.blocks.raw(addr).await?;
        let byte = image.get(position.byte).copied().unwrap_or(0);
        Ok(Some(BlockState::from_bits(byte >> position.shift)))
    }

    /// The inode of journal `jid`.
    pub(super) async fn journal_inode(&self, jid: u64) -> anyhow::Result<InodeNo> {
        let (jindex, _) = self.master_file("jindex").await?;
        match self.system_file(jindex.ino, &format!("journal{jid}")).await? {
            Some(ino) => Ok(ino),
            None => bail!("there is no journal {jid}: the volume has {}, counted from 0", self.journals().await?),
        }
    }

    /// How many journals there are.
    pub(super) async fn journals(&self) -> anyhow::Result<u32> {
        let (jindex, _) = self.master_file("jindex").await?;
        // Besides them there are only the two names that every directory has.
        Ok(jindex.entries.saturating_sub(2))
    }

    /// The block size, in bytes.
    pub(super) fn block_bytes(&self) -> u64 {
        self.blocks.block_size().bytes_u64()
    }
}
