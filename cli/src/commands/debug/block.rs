//! `debug block`: one block as what it is.

use std::io::Write;

use anyhow::bail;
use fs_core::addr::BlockAddr;
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::format::dirent::{self, LEAF_HEADER_BYTES, Leaf, RawLeaf};
use fs_core::format::indirect::{self, FIRST_IN_INDIRECT};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::rgrp::{BlockState, RgrpPlace};
use fs_core::format::superblock::Superblock;
use fs_core::format::system_files::RawQuotaChange;
use fs_core::format::xattr::RawXattrHeader;
use zerocopy::FromBytes;

use super::View;
use super::bitmap::state_name;
use super::{dinode, directory, hex, journal, rgrp, sb};
use crate::output::{Explained, escape};

impl<W: Write> View<'_, W> {
    pub(super) async fn block(&mut self, addr: BlockAddr) -> anyhow::Result<()> {
        let blocks = &self.volume.blocks;
        if addr.0 >= blocks.count() {
            let (count, bytes) = (blocks.count(), self.volume.block_bytes());
            bail!("block {addr} is outside the device, which has {count} blocks of {bytes} bytes");
        }
        let (image, verdict) = blocks.verified(addr).await?;
        self.out.field("block", addr.0)?;
        self.out.field("offset_bytes", addr.0 << blocks.block_size().shift())?;
        let in_journal = self.place(addr).await?;
        let Some(header) = meta::header(&image) else {
            self.out.field("type", "no metadata block")?;
            return Ok(self.out.lines("content", hex::dump(&image))?);
        };
        let kind = BlockKind(header.kind.get());
        self.out.field("type", Explained(kind.0, kind.to_string()))?;
        self.out.field("format", header.format.get())?;
        self.out.field("journal", header.jid.get())?;
        if kind.is_checksummed() {
            self.out.field("version", header.version.get())?;
            let found = match &verdict {
                _ if header.version.get() == 0 => "none",
                Ok(()) => "correct",
                Err(_) => "wrong",
            };
            self.out.field("checksum", Explained(format!("{:#010x}", header.crc32c.get()), found.to_owned()))?;
        }
        if let Err(problem) = verdict {
            self.volume.blocks.note(problem);
        }
        self.decode(addr, kind, &image)?;
        if in_journal {
            // A copy in a log describes the block that it is a copy of: here it breaks no rule.
            self.volume.take_problems();
        }
        if self.verbose {
            self.out.lines("bytes", hex::dump(&image))?;
        }
        Ok(())
    }

    /// Where on the volume the block is; true when it is part of a journal.
    async fn place(&mut self, addr: BlockAddr) -> anyhow::Result<bool> {
        let superblock = Superblock::addr(self.volume.blocks.block_size());
        let groups = match self.volume.groups().await {
            Ok(groups) => groups,
            Err(problem) => {
                self.volume.blocks.note(format!("{problem:#}"));
                return Ok(false);
            }
        };
        let mut state = None;
        match groups.find(addr) {
            None if addr == superblock => self.out.field("place", "superblock")?,
            None if addr < superblock => self.out.field("place", "before the superblock")?,
            None => self.out.field("place", "in no resource group")?,
            Some((n, place)) => {
                self.out.field("place", part_of(place, addr))?;
                self.out.field("resource_group", n)?;
                state = self.volume.state(place, addr).await?;
                self.out.field_if("state", state.map(state_name))?;
            }
        }
        if state != Some(BlockState::Used) {
            return Ok(false);
        }
        let Some((jid, position)) = self.journal_position(addr).await else { return Ok(false) };
        self.out.section("log")?;
        self.out.field("journal", jid)?;
        self.out.field("position", position)?;
        self.out.end()?;
        Ok(true)
    }

    /// What the block says, by its type. Notes what is broken.
    fn decode(&mut self, addr: BlockAddr, kind: BlockKind, image: &BlockImage) -> anyhow::Result<()> {
        match kind {
            BlockKind::SUPERBLOCK => match Superblock::parse(image) {
                Ok(superblock) => sb::fields(self.out, &superblock)?,
                Err(problem) => self.volume.blocks.note(problem),
            },
            BlockKind::RGRP => rgrp::header_fields(self.out, image)?,
            BlockKind::DINODE => self.dinode_block(addr, image)?,
            BlockKind::INDIRECT | BlockKind::JOURNALED_DATA => self.pointers(image)?,
            BlockKind::LEAF => self.leaf(addr, image)?,
            BlockKind::LOG_HEADER => journal::header_fields(self.out, image)?,
            BlockKind::LOG_DESCRIPTOR => journal::descriptor_fields(self.out, image)?,
            BlockKind::XATTR => self.xattrs(addr, image)?,
            BlockKind::QUOTA_CHANGE => self.quota_changes(image)?,
            _ if self.verbose => {}
            _ => self.out.lines("bytes", hex::dump(image))?,
        }
        Ok(())
    }

    fn dinode_block(&mut self, addr: BlockAddr, image: &BlockImage) -> anyhow::Result<()> {
        dinode::fields(self.out, image)?;
        let Some(ino) = fs_core::addr::InodeNo::new(addr.0) else { return Ok(()) };
        if let Err(problem) = fs_core::format::dinode::Dinode::parse(ino, image, self.volume.blocks.block_size()) {
            self.volume.blocks.note(problem);
        }
        Ok(())
    }

    /// Runs of pointers: to blocks in a row, or all to one block, as in hash tables.
    fn pointers(&mut self, image: &BlockImage) -> anyhow::Result<()> {
        self.out.table("pointers", &[("from", 6), ("to", 6), ("block", 14), ("step", 0)])?;
        let at = |index| indirect::pointer(image, FIRST_IN_INDIRECT, index).map_or(0, |addr| addr.0);
        let count = indirect::count(image, FIRST_IN_INDIRECT);
        let mut start = 0;
        while start < count {
            let step = u64::from(start + 1 < count && at(start).checked_add(1) == Some(at(start + 1)));
            let mut end = start + 1;
            while end < count && at(end - 1).checked_add(step) == Some(at(end)) {
                end += 1;
            }
            if at(start) != 0 {
                self.out.row(&[&start, &(end - 1), &at(start), &step])?;
            }
            start = end;
        }
        Ok(self.out.end()?)
    }

    fn leaf(&mut self, addr: BlockAddr, image: &BlockImage) -> anyhow::Result<()> {
        if let Ok((raw, _)) = RawLeaf::ref_from_prefix(image) {
            self.out.field("directory", raw.inode.get())?;
            self.out.field("depth", raw.depth.get())?;
            self.out.field("entries_counted", raw.entries.get())?;
            self.out.field("next", raw.next.get())?;
            self.out.field("distance", raw.distance.get())?;
        }
        let blocks = &self.volume.blocks;
        let leaf = Leaf::parse(addr, image).inspect_err(|problem| blocks.note(problem));
        let entries = dirent::entries(addr, image.get(LEAF_HEADER_BYTES..).unwrap_or_default());
        self.out.table("entries", &directory::ENTRY_COLUMNS)?;
        let found = directory::entry_rows(self.out, blocks, addr, entries)?;
        self.out.end()?;
        if let Ok(leaf) = leaf
            && u64::from(leaf.entries) != found
        {
            let kind = fs_core::error::CorruptKind::LeafEntries { entries: leaf.entries };
            blocks.note(kind.at(addr));
        }
        Ok(())
    }

    fn xattrs(&mut self, addr: BlockAddr, image: &BlockImage) -> anyhow::Result<()> {
        let columns = [("offset", 7), ("namespace", 10), ("value_bytes", 12), ("value_blocks", 13), ("name", 0)];
        self.out.table("attributes", &columns)?;
        let mut offset = meta::HEADER_BYTES;
        while let Some((record, rest)) = image.get(offset..).and_then(|rest| RawXattrHeader::ref_from_prefix(rest).ok())
        {
            let len = usize::try_from(record.rec_len.get()).unwrap_or(usize::MAX);
            if len < size_of::<RawXattrHeader>() || len > image.len() - offset {
                break;
            }
            let namespace = match record.kind {
                0 => "unused",
                1 => "user",
                2 => "system",
                3 => "security",
                4 => "trusted",
                _ => "unknown",
            };
            let name = rest.get(..usize::from(record.name_len)).map_or_else(String::new, escape);
            self.out.row(&[&offset, &namespace, &record.data_len.get(), &record.num_ptrs, &name])?;
            offset += len;
        }
        self.out.end()?;
        if let Err(problem) = fs_core::format::xattr::records(addr, image, self.volume.superblock.fs_format) {
            self.volume.blocks.note(problem);
        }
        Ok(())
    }

    fn quota_changes(&mut self, image: &BlockImage) -> anyhow::Result<()> {
        self.out.table("changes", &[("slot", 6), ("of", 6), ("id", 12), ("blocks", 0)])?;
        let records = image.get(meta::HEADER_BYTES..).unwrap_or_default().chunks_exact(size_of::<RawQuotaChange>());
        for (slot, record) in records.enumerate() {
            let Ok(record) = RawQuotaChange::ref_from_bytes(record) else { continue };
            if record.change.get() != 0 {
                let of = if record.flags.get() & 1 != 0 { "user" } else { "group" };
                self.out.row(&[&slot, &of, &record.id.get(), &record.change.get()])?;
            }
        }
        Ok(self.out.end()?)
    }
}

/// What of the group at `place` the block `addr` is.
fn part_of(place: &RgrpPlace, addr: BlockAddr) -> &'static str {
    if addr == place.addr {
        "header of a resource group"
    } else if addr < place.data0 {
        "bitmap of a resource group"
    } else {
        "described by a bitmap"
    }
}
