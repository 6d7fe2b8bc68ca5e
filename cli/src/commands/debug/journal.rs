//! `debug journal`: what a journal holds, and what of it would be replayed.

use std::io::Write;
use std::ops::Range;

use block::device::IoBuf;
use fs_core::addr::BlockAddr;
use fs_core::attr::Timestamp;
use fs_core::blocks::Blocks;
use fs_core::error::{CorruptKind, FsError};
use fs_core::format::log::{self, DESCRIPTOR_BYTES, DescriptorKind, LogHeader, RawLogDescriptor, RawLogHeader, flags};
use fs_core::format::meta;
use fs_core::journal::extents::JournalMap;
use fs_core::journal::head;
use fs_core::journal::owner::Owner;
use zerocopy::FromBytes;

use super::View;
use super::time;
use super::tree::extents;
use crate::output::{Explained, Printer, human_bytes};

/// Most blocks that are read at once.
const BLOCKS_AT_ONCE: u32 = 256;
/// Most runs of a journal: one for each block of the largest there is.
const EXTENTS_MAX: usize = 1 << 21;

/// Most journals that a volume has, whatever its directory of journals counts.
const JOURNALS_MAX: u64 = 1000;

/// Names of the flags of a log header.
const FLAGS: [(u32, &str); 6] = [
    (flags::UNMOUNT, "unmount"),
    (flags::FLUSH_NORMAL, "normal"),
    (flags::FLUSH_SYNC, "sync"),
    (flags::FLUSH_SHUTDOWN, "shutdown"),
    (flags::RECOVERY, "recovery"),
    (flags::USERSPACE, "userspace"),
];

impl<W: Write> View<'_, W> {
    pub(super) async fn journal(&mut self, jid: u64) -> anyhow::Result<()> {
        let (map, extents) = self.journal_map(jid).await?;
        let blocks = &self.volume.blocks;
        self.out.field("journal", jid)?;
        self.out.field("inode", map.inode().get())?;
        let bytes = u64::from(map.blocks()) << blocks.block_size().shift();
        self.out.field("blocks", Explained(map.blocks(), human_bytes(bytes)))?;
        self.out.field("extents", extents)?;

        let head = head::find(blocks.device(), &map).await?.header;
        self.out.field("state", if head.is_clean() { "clean" } else { "dirty" })?;
        self.out.section("head")?;
        self.out.field("position", head.blkno)?;
        let addr = map.addr(head.blkno).unwrap_or_default();
        self.out.field("block", addr.0)?;
        header_fields(self.out, &blocks.raw(addr).await?)?;
        self.out.end()?;
        let length = if head.tail < map.blocks() { map.distance(head.tail, head.blkno) } else { 0 };
        self.out.field("blocks_from_tail", length)?;

        // Nothing of a clean journal is replayed: its log is history.
        if head.is_clean() && !self.verbose {
            return Ok(());
        }
        let mut walk = Walk { view: self, map: &map, window: 0..0, buffer: IoBuf::zeroed(0) };
        if let Err(problem) = walk.flushes(&head).await? {
            self.volume.blocks.note(problem);
        }
        Ok(())
    }
}

impl<W: Write> View<'_, W> {
    /// Where the blocks of journal `jid` are, and in how many runs.
    pub(super) async fn journal_map(&self, jid: u64) -> anyhow::Result<(JournalMap, usize)> {
        let ino = self.volume.journal_inode(jid).await?;
        let (dinode, image) = self.volume.dinode(ino).await?;
        let blocks = &self.volume.blocks;
        let places = extents(blocks, &dinode, image, EXTENTS_MAX).await?;
        let map = JournalMap::new(u32::try_from(jid)?, ino, blocks.block_size(), &places)?;
        Ok((map, places.len()))
    }

    /// The journal that the block `addr` of the device is part of, and its place there.
    pub(super) async fn journal_position(&self, addr: BlockAddr) -> Option<(u64, u32)> {
        for jid in 0..u64::from(self.volume.journals().await.ok()?).min(JOURNALS_MAX) {
            // A journal that cannot be read does not hide those behind it.
            let Ok((map, _)) = self.journal_map(jid).await else { continue };
            if map.contains(addr) {
                let position = (0..map.blocks()).find(|position| map.addr(*position) == Some(addr))?;
                return Some((jid, position));
            }
        }
        None
    }
}

/// The way through a log from its tail to its head.
struct Walk<'a, 'b, W: Write> {
    view: &'a mut View<'b, W>,
    map: &'a JournalMap,
    /// Steps from the tail whose blocks are in `buffer`.
    window: Range<u32>,
    buffer: IoBuf,
}

impl<W: Write> Walk<'_, '_, W> {
    /// Lists the log. The inner error is the place where it does not chain.
    async fn flushes(&mut self, head: &LogHeader) -> anyhow::Result<Result<(), FsError>> {
        let columns = [("position", 9), ("block", 12), ("what", 12), ("blocks", 7), ("target", 12), ("detail", 0)];
        self.view.out.table("log", &columns)?;
        let walked = self.walk(head).await?;
        self.view.out.end()?;
        Ok(walked)
    }

    async fn walk(&mut self, head: &LogHeader) -> anyhow::Result<Result<(), FsError>> {
        let map = self.map;
        let broken = |position: u32| {
            let addr = map.addr(position).unwrap_or_else(|| map.inode().addr());
            CorruptKind::JournalChain { jid: map.jid(), position }.at(addr)
        };
        if head.tail >= map.blocks() {
            return Ok(Err(broken(head.blkno)));
        }
        let length = map.distance(head.tail, head.blkno);
        let mut step = 0;
        while step <= length {
            let position = map.advance(head.tail, step);
            let addr = map.addr(position).unwrap_or_default();
            let block = self.block(head.tail, step, length).await?;
            if let Some(header) = log::parse_header(&block, position) {
                let detail = format!("sequence {}, {}", header.sequence, flag_names(header.flags));
                self.view.out.row(&[&position, &addr.0, &"header", &1, &None::<u64>, &detail])?;
                step += 1;
                continue;
            }
            let descriptor =
                log::parse_descriptor(&block).filter(|(_, blocks, _)| (1..=length - step).contains(blocks));
            let Some((kind, blocks, entries)) = descriptor else { return Ok(Err(broken(position))) };
            let detail = format!("{entries} {}", if kind == DescriptorKind::REVOKE { "revokes" } else { "images" });
            self.view.out.row(&[&position, &addr.0, &kind_name(kind), &blocks, &None::<u64>, &detail])?;
            if self.view.verbose {
                self.entries(head.tail, step, length, (kind, blocks, entries)).await?;
            }
            step += blocks;
        }
        Ok(Ok(()))
    }

    /// Lists what the descriptor at `step` names.
    async fn entries(
        &mut self,
        tail: u32,
        step: u32,
        length: u32,
        (kind, blocks, count): (DescriptorKind, u32, u32),
    ) -> anyhow::Result<()> {
        let count = count as usize;
        let block = self.block(tail, step, length).await?;
        if kind == DescriptorKind::REVOKE {
            let mut targets: Vec<u64> = numbers(&block, DESCRIPTOR_BYTES, 8).take(count).collect();
            for further in step + 1..step.saturating_add(blocks) {
                let block = self.block(tail, further, length).await?;
                targets.extend(numbers(&block, meta::HEADER_BYTES, 8).take(count - targets.len().min(count)));
            }
            for target in targets {
                self.view.out.row(&[&None::<u32>, &None::<u64>, &"revoke", &None::<u32>, &target, &""])?;
            }
            return Ok(());
        }
        let entry_bytes = if kind == DescriptorKind::JDATA { 16 } else { 8 };
        let targets = numbers(&block, DESCRIPTOR_BYTES, entry_bytes).take(count);
        // Where owners would overlap entries there are none: then the log is not one of lunfs.
        let owners = numbers(&block, DESCRIPTOR_BYTES + entry_bytes * count, 8).map(Owner::from_bits);
        let owners = owners.map(Some).chain(std::iter::repeat(None));
        for ((target, owner), image) in targets.zip(owners).zip(step + 1..) {
            let position = self.map.advance(tail, image);
            let addr = self.map.addr(position).unwrap_or_default();
            let owner = owner
                .filter(|owner| *owner != Owner::UNKNOWN)
                .map_or_else(String::new, |owner| format!("owner {owner}"));
            self.view.out.row(&[&position, &addr.0, &"image", &1, &target, &owner])?;
        }
        Ok(())
    }

    /// The block `step` blocks behind the tail, of a log of `length` blocks and its head.
    async fn block(&mut self, tail: u32, step: u32, length: u32) -> anyhow::Result<Vec<u8>> {
        if !self.window.contains(&step) {
            let count = BLOCKS_AT_ONCE.min(length.saturating_add(1).saturating_sub(step));
            let device = self.view.volume.blocks.device();
            self.buffer = self.map.read(device, self.map.advance(tail, step), count).await?;
            self.window = step..step + count;
        }
        let bytes = self.map.block_size().bytes();
        let from = (step - self.window.start) as usize * bytes;
        Ok(self.buffer.get(from..from + bytes).unwrap_or_default().to_vec())
    }
}

/// The numbers from byte `first` of `block` on, one at the start of each entry of `entry_bytes`.
fn numbers(block: &[u8], first: usize, entry_bytes: usize) -> impl Iterator<Item = u64> + '_ {
    let entries = block.get(first..).unwrap_or_default().chunks_exact(entry_bytes);
    entries.filter_map(|entry| entry.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)))
}

/// The fields of a log header, true or not.
pub(super) fn header_fields(out: &mut Printer<impl Write>, image: &[u8]) -> std::io::Result<()> {
    let Ok((raw, _)) = RawLogHeader::ref_from_prefix(image) else { return Ok(()) };
    out.field("sequence", raw.sequence.get())?;
    out.field("flags", Explained(format!("{:#x}", raw.flags.get()), flag_names(raw.flags.get())))?;
    out.field("tail", raw.tail.get())?;
    out.field("own_position", raw.blkno.get())?;
    out.field("valid", log::parse_header(image, raw.blkno.get()).is_some())?;
    out.field("written_by", if log::stamp(image).is_some() { "lunfs" } else { "another implementation" })?;
    out.field("time", time::date(Timestamp { sec: raw.sec.get(), nsec: raw.nsec.get() }))?;
    out.field("statfs_change", raw.statfs_addr.get())?;
    out.field("local_total", raw.local_total.get())?;
    out.field("local_free", raw.local_free.get())?;
    out.field("local_dinodes", raw.local_dinodes.get())
}

/// The fields of a log descriptor, true or not, and what it names.
pub(super) fn descriptor_fields(out: &mut Printer<impl Write>, image: &[u8]) -> std::io::Result<()> {
    let Ok((raw, _)) = RawLogDescriptor::ref_from_prefix(image) else { return Ok(()) };
    let kind = DescriptorKind(raw.kind.get());
    out.field("descriptor", Explained(kind.0, kind_name(kind).to_owned()))?;
    out.field("length", raw.length.get())?;
    out.field("entries_counted", raw.data1.get())?;
    let entry_bytes = if kind == DescriptorKind::JDATA { 16 } else { 8 };
    out.table("entries", &[("block", 0)])?;
    for number in numbers(image, DESCRIPTOR_BYTES, entry_bytes).take(raw.data1.get() as usize) {
        out.row(&[&number])?;
    }
    out.end()
}

fn flag_names(bits: u32) -> String {
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

fn kind_name(kind: DescriptorKind) -> &'static str {
    match kind {
        DescriptorKind::METADATA => "metadata",
        DescriptorKind::JDATA => "jdata",
        DescriptorKind::REVOKE => "revokes",
        _ => "unknown",
    }
}
