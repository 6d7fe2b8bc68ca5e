//! A plan becomes bytes on a device.

use block::device::{BlockDevice, DeviceError, Durability, IoBuf};
use fs_core::addr::BlockAddr;
use fs_core::format::log::{self, NewHeader, StatfsDelta};
use fs_core::format::marker::{self, RawMarker};
use fs_core::format::meta::{self, BlockKind};
use fs_core::format::rgrp::BlockState;
use fs_core::format::superblock;
use fs_core::format::system_files::{RawInumRange, RawQuota, RawStatfs};
use zerocopy::IntoBytes;

use crate::error::MkfsError;
use crate::image::{self, Directory, File, PAYLOAD_QUOTA, PAYLOAD_RINDEX, Rgrp, Run};
use crate::options::Identity;
use crate::plan::Plan;
use crate::signature::{self, TAIL_BYTES};
use crate::sink::Sink;
use crate::system::{NodeInodes, Placed, QUOTA_CHANGE_BYTES};
use crate::tree::{Node, Tree};

/// Discards are cut into pieces of this size, in bytes, so that progress can be seen.
const DISCARD_BYTES: u64 = 4 << 30;
/// Zeroes are written in pieces of this size, in bytes.
const ZERO_BYTES: u64 = 1 << 20;
/// Largest sector of a device, in bytes.
const SECTOR_BYTES_MAX: u64 = 4096;
/// The superblock ends before this, in bytes, and so do most that others have.
const SUPERBLOCK_END_BYTES: u64 = 128 << 10;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The device is told that nothing on it is in use.
    Discard,
    /// Journals and resource groups are written.
    Write,
    /// Waiting until everything is durable.
    Flush,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes that are done.
    pub done_bytes: u64,
    /// Bytes to do.
    pub total_bytes: u64,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Bytes written to the device.
    pub written_bytes: u64,
    /// Writes that they took.
    pub writes: u64,
    /// The device was discarded.
    pub discarded: bool,
}

/// Makes the volume that `plan` describes. Everything on the device is lost.
///
/// # Errors
/// `DeviceTooSmall`, `Device`. After an error of the device there is no volume on it.
pub async fn format(
    device: &dyn BlockDevice,
    plan: &Plan,
    identity: &Identity,
    discard: bool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, MkfsError> {
    let geometry = device.geometry();
    if geometry.size_bytes < plan.size_bytes {
        return Err(MkfsError::DeviceTooSmall { device_bytes: geometry.size_bytes, plan_bytes: plan.size_bytes });
    }
    let failed = |doing| move |source: DeviceError| MkfsError::Device { doing, source };
    let foreign = signature::find(device).await.map_err(failed("looking for what is on the device"))?;
    // The old superblock goes first, so that a format that is cut off leaves nothing that looks like a volume.
    let start_bytes = plan.first_rgrp().0 * plan.block_size.bytes_u64();
    let discards = discard && geometry.discards;
    let first_bytes = if discards { start_bytes.min(SUPERBLOCK_END_BYTES) } else { start_bytes };
    wipe(device, 0, first_bytes).await.map_err(failed("clearing the start of the device"))?;
    if !foreign.is_empty() && plan.size_bytes == geometry.size_bytes {
        // Other programs would go on taking the device for what its last sectors say.
        let tail = geometry.size_bytes.saturating_sub(TAIL_BYTES);
        let tail = (tail - tail % SECTOR_BYTES_MAX).max(start_bytes);
        wipe(device, tail, geometry.size_bytes).await.map_err(failed("clearing the end of the device"))?;
    }
    if discards {
        discard_all(device, plan.size_bytes, progress).await.map_err(failed("discarding the device"))?;
        wipe(device, 0, start_bytes).await.map_err(failed("clearing the start of the device"))?;
    }

    let mut writer = Writer {
        plan,
        identity,
        sink: Sink::new(device, plan.block_size),
        block: vec![0; plan.block_size.bytes()],
        total_bytes: plan.written_bytes(),
        progress,
    };
    writer.rgrps().await.map_err(failed("writing journals and resource groups"))?;
    progress(Progress { stage: Stage::Flush, done_bytes: 0, total_bytes: 0 });
    writer.sink.finish().await.map_err(failed("making everything durable"))?;
    let heads = write_head(device, plan, identity).await.map_err(failed("writing the superblock"))?;
    let cleared = if discards { first_bytes + start_bytes } else { start_bytes };
    Ok(Report {
        written_bytes: writer.sink.written_bytes() + heads + cleared,
        writes: writer.sink.writes(),
        discarded: discards,
    })
}

/// Writes zeroes and makes them durable.
async fn wipe(device: &dyn BlockDevice, first: u64, end: u64) -> Result<(), DeviceError> {
    let mut offset = first;
    while offset < end {
        let len = ZERO_BYTES.min(end - offset);
        device.write(offset, IoBuf::zeroed(usize::try_from(len).unwrap_or(0)), Durability::Cached).await?;
        offset += len;
    }
    device.flush().await
}

async fn discard_all(
    device: &dyn BlockDevice,
    size_bytes: u64,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), DeviceError> {
    let mut offset = 0;
    while offset < size_bytes {
        let len = DISCARD_BYTES.min(size_bytes - offset);
        let sector = u64::from(device.geometry().logical_sector_bytes);
        device.discard(offset, len - len % sector).await?;
        offset += len;
        progress(Progress { stage: Stage::Discard, done_bytes: offset, total_bytes: size_bytes });
    }
    Ok(())
}

/// Writes marker and superblock, when everything that they vouch for is durable.
async fn write_head(device: &dyn BlockDevice, plan: &Plan, identity: &Identity) -> Result<u64, DeviceError> {
    let marker_at = marker::OFFSET_BYTES;
    let superblock_at = superblock::OFFSET_BYTES;
    let end = superblock_at + plan.block_size.bytes_u64();
    let mut head = IoBuf::zeroed(usize::try_from(end - marker_at).unwrap_or(0));
    let marker = RawMarker::new(*identity.uuid.as_bytes(), plan.area.map(|area| area.range()));
    let _ = marker.write_to_prefix(&mut head);
    if let Some(block) = head.get_mut(usize::try_from(superblock_at - marker_at).unwrap_or(0)..) {
        let _ = image::superblock(plan, identity).write_to_prefix(block);
    }
    let len = head.len() as u64;
    device.write(marker_at, head, Durability::Cached).await?;
    device.flush().await?;
    Ok(len)
}

impl Plan {
    /// Bytes that resource groups and files take.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let used = self.rgrps.data_blocks() - self.free_blocks();
        (used + self.rgrps.header_blocks()) * self.block_size.bytes_u64()
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    identity: &'a Identity,
    sink: Sink<'a>,
    /// The block in hand.
    block: Vec<u8>,
    total_bytes: u64,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Writer<'_> {
    /// All resource groups in the order of their addresses, each with what is in it.
    async fn rgrps(&mut self) -> Result<(), DeviceError> {
        let plan = self.plan;
        let mut header = Vec::new();
        let mut places = plan.rgrps.iter().peekable();
        let mut number = 0;
        while let Some(place) = places.next() {
            let runs = self.runs(number);
            let skip = places.peek().map_or(0, |next| next.addr.0 - place.addr.0);
            Rgrp { place, runs: &runs, skip }.write_to(&mut header, plan.block_size);
            self.sink.push(place.addr, &header).await?;
            if let Some(node) = usize::try_from(number).ok().and_then(|number| plan.nodes.get(number)) {
                self.node_files(u32::try_from(number).unwrap_or(0), node).await?;
            } else if number == u64::from(plan.journals) {
                self.shared_files().await?;
            }
            self.report();
            number += 1;
        }
        Ok(())
    }

    fn report(&self) {
        let done_bytes = self.sink.written_bytes();
        (self.progress)(Progress { stage: Stage::Write, done_bytes, total_bytes: self.total_bytes });
    }

    /// What is in use in the resource group with this number.
    fn runs(&self, number: u64) -> Vec<Run> {
        let plan = self.plan;
        let dinode = Run { state: BlockState::Dinode, blocks: 1 };
        let file = |blocks: u64| [dinode, Run { state: BlockState::Used, blocks: blocks - 1 }];
        match number.cmp(&u64::from(plan.journals)) {
            std::cmp::Ordering::Less => {
                let (journal, quota) = (plan.node_files.journal.blocks(), plan.node_files.quota_change.blocks());
                [&file(journal)[..], &file(1), &file(1), &file(quota)].concat()
            }
            std::cmp::Ordering::Equal => {
                let files = &plan.shared_files;
                let (jindex, per_node) = (files.jindex.blocks(), files.per_node.blocks());
                let all = [files.master.blocks(), jindex, per_node, 1, 1, files.rindex.blocks(), 1, 1];
                all.into_iter().flat_map(file).collect()
            }
            std::cmp::Ordering::Greater => Vec::new(),
        }
    }

    /// The dinode of `file` and what stands behind it; `data` fills a block of zeroes with content.
    async fn file(
        &mut self,
        file: File<'_>,
        mut data: impl FnMut(u64, BlockAddr, &mut [u8]),
    ) -> Result<(), DeviceError> {
        let ino = file.placed.ino;
        self.block.fill(0);
        file.write_dinode(&mut self.block, self.identity.created);
        self.sink.push(ino.addr(), &self.block).await?;
        for (addr, node) in (ino.get() + 1..).map(BlockAddr).zip(file.tree.nodes(self.plan.block_size)) {
            self.block.fill(0);
            match node {
                Node::Indirect { child_first, children } => {
                    image::write_indirect(&mut self.block, addr, ino, child_first, children);
                }
                Node::Data(index) => data(index, addr, &mut self.block),
            }
            self.sink.push(addr, &self.block).await?;
            if addr.0.is_multiple_of(4096) {
                self.report();
            }
        }
        Ok(())
    }

    /// A system file that is in its dinode.
    async fn stuffed(&mut self, placed: Placed, content: &[u8], payload_format: u32) -> Result<(), DeviceError> {
        let tree = Tree::new(0, self.plan.block_size);
        let size = content.len() as u64;
        let file = File { placed, tree: &tree, size, journaled: true, payload_format, stuffed: content };
        self.file(file, |_, _, _| {}).await
    }

    async fn node_files(&mut self, jid: u32, node: &NodeInodes) -> Result<(), DeviceError> {
        let plan = self.plan;
        let journal = File {
            placed: node.journal,
            tree: &plan.node_files.journal,
            size: plan.journal_bytes(),
            journaled: false,
            payload_format: 0,
            stuffed: &[],
        };
        let mut header = NewHeader {
            jid,
            sequence: 0,
            flags: log::flags::UNMOUNT | log::flags::USERSPACE,
            tail: 0,
            blkno: 0,
            addr: 0,
            time: self.identity.created,
            jinode: node.journal.ino.get(),
            statfs_addr: 0,
            quota_addr: 0,
            local: StatfsDelta::default(),
        };
        // The sequence starts anywhere and wraps: the head, the last block before the wrap, is at a random place, so
        // that journals that are made again and again do not wear out one place of the medium.
        let first_sequence = self.identity.random(jid) % plan.journal_blocks;
        self.file(journal, |index, addr, block| {
            header.sequence = (first_sequence + index) % plan.journal_blocks;
            header.blkno = u32::try_from(index).unwrap_or(u32::MAX);
            header.tail = header.blkno;
            header.addr = addr.0;
            log::write_header(block, &header);
        })
        .await?;
        let range = RawInumRange { start: 0.into(), length: 0.into() };
        self.stuffed(node.inum_range, range.as_bytes(), 0).await?;
        self.stuffed(node.statfs_change, RawStatfs::new(StatfsDelta::default()).as_bytes(), 0).await?;
        let quota_change = File {
            placed: node.quota_change,
            tree: &plan.node_files.quota_change,
            size: QUOTA_CHANGE_BYTES,
            journaled: false,
            payload_format: 0,
            stuffed: &[],
        };
        self.file(quota_change, |_, addr, block| {
            meta::start(block, BlockKind::QUOTA_CHANGE);
            image::seal(addr, block);
        })
        .await
    }

    async fn directory(&mut self, directory: Directory<'_>) -> Result<(), DeviceError> {
        let blocks = directory.blocks(self.plan.block_size, self.identity.created);
        for (addr, block) in (directory.placed.ino.get()..).zip(blocks.chunks_exact(self.plan.block_size.bytes())) {
            self.sink.push(BlockAddr(addr), block).await?;
        }
        Ok(())
    }

    async fn shared_files(&mut self) -> Result<(), DeviceError> {
        let plan = self.plan;
        let (files, at) = (&plan.shared_files, &plan.shared);
        for (placed, shape, entries, permissions) in [
            (at.master, &files.master, at.master_entries(), 0o755),
            (at.jindex, &files.jindex, at.jindex_entries(&plan.nodes), 0o700),
            (at.per_node, &files.per_node, at.per_node_entries(&plan.nodes), 0o700),
        ] {
            self.directory(Directory { placed, shape, entries: &entries, permissions, system: true }).await?;
        }
        self.stuffed(at.inum, &at.next_formal.to_be_bytes(), 0).await?;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let counters = StatfsDelta {
            total: signed(plan.rgrps.data_blocks()),
            free: signed(plan.free_blocks()),
            dinodes: signed(plan.dinodes()),
        };
        self.stuffed(at.statfs, RawStatfs::new(counters).as_bytes(), 0).await?;
        self.rindex().await?;
        let quota = RawQuota { limit: 0.into(), warn: 0.into(), value: 1.into(), reserved: [0; 64] };
        self.stuffed(at.quota, [quota, quota].as_bytes(), PAYLOAD_QUOTA).await?;
        let root = crate::directory::Shape { hashed: None };
        self.directory(Directory {
            placed: at.root,
            shape: &root,
            entries: &at.root_entries(),
            permissions: 0o755,
            system: false,
        })
        .await
    }

    async fn rindex(&mut self) -> Result<(), DeviceError> {
        let plan = self.plan;
        let mut places = plan.rgrps.iter();
        // Entries cross the ends of blocks: what did not fit into one starts the next.
        let mut bytes: Vec<u8> = Vec::new();
        let mut next = move |wanted: usize| {
            while bytes.len() < wanted {
                let Some(place) = places.next() else { break };
                bytes.extend_from_slice(place.to_raw().as_bytes());
            }
            let rest = bytes.split_off(wanted.min(bytes.len()));
            std::mem::replace(&mut bytes, rest)
        };
        let tree = &plan.shared_files.rindex;
        let stuffed = if tree.height() == 0 { next(plan.block_size.stuffed_bytes_max()) } else { Vec::new() };
        let file = File {
            placed: plan.shared.rindex,
            tree,
            size: plan.rgrps.count() * fs_core::format::rgrp::RINDEX_ENTRY_BYTES as u64,
            journaled: true,
            payload_format: PAYLOAD_RINDEX,
            stuffed: &stuffed,
        };
        self.file(file, |_, _, block| {
            let part = next(block.len());
            if let Some(to) = block.get_mut(..part.len()) {
                to.copy_from_slice(&part);
            }
        })
        .await
    }
}
