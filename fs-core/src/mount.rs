//! Mounting and unmounting: from a device to a [`Volume`], and back to a clean disk.
//!
//! Order: superblock, system files as far as they are needed to find the journals, replay of every dirty journal, and
//! only then everything else, read anew.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use block::device::{BlockDevice, Durability, IoBuf};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use zerocopy::FromBytes;

use crate::addr::{BlockAddr, InodeNo};
use crate::alloc::rgrps::Rgrps;
use crate::alloc::trim::Quiet;
use crate::attr::FileKind;
use crate::blocks::Edit;
use crate::cache::Cache;
use crate::dir::{self, CookieKey};
use crate::disk::Disk;
use crate::env::Env;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::dinode::{self, Dinode};
use crate::format::log::{self, LogHeader, NewHeader, StatfsDelta};
use crate::format::marker::{self, RawMarker};
use crate::format::meta::BlockKind;
use crate::format::rgrp::{RINDEX_ENTRY_BYTES, RawRindexEntry, RgrpPlace};
use crate::format::superblock::{self, Superblock};
use crate::format::system_files::RawStatfs;
use crate::fs::MountOptions;
use crate::gate::Gate;
use crate::glock::Glocks;
use crate::glock::service::LockService;
use crate::inode::map;
use crate::inode::refs::Refs;
use crate::journal::chain::Bounds;
use crate::journal::extents::{Extent, JournalMap};
use crate::journal::head::{self, Head};
use crate::journal::log::{Journal, NodeFiles, Start};
use crate::journal::recover::{Recovery, Replayed};
use crate::quota::{self, Quotas};
use crate::stage::Stage;
use crate::volume::Volume;

/// Blocks of the smallest resource group: a header, and four that it describes.
const RGRP_BLOCKS_MIN: u64 = 5;
/// Journals whose heads are searched at once.
const SEARCHES_MAX: usize = 16;
/// Most journals that a volume can have: names have three digits.
const JOURNALS_MAX: u32 = 1000;

/// Reads and checks the superblock.
///
/// # Errors
/// `Device`, `Corrupt`.
pub async fn read_superblock(device: &dyn BlockDevice) -> Result<Superblock, FsError> {
    if device.geometry().size_bytes < superblock::OFFSET_BYTES + 4096 {
        return Err(FsError::NotMountable("the device is too small to hold a volume".into()));
    }
    let bytes = device.read(superblock::OFFSET_BYTES, IoBuf::zeroed(4096)).await?;
    Superblock::parse(&bytes)
}

/// Mounts the volume on `device`. The second value is there if a crash may have left inodes without names, which have to
/// be searched for.
///
/// # Errors
/// `NotMountable` with a reason; `Corrupt`, `Device`.
pub async fn mount(
    device: Arc<dyn BlockDevice>,
    options: MountOptions,
    env: Arc<dyn Env>,
    locks: Arc<dyn LockService>,
) -> Result<(Volume, Option<Searched>), FsError> {
    let superblock = read_superblock(&*device).await?;
    if superblock.lock_proto.starts_with("fsck_") {
        return Err(FsError::NotMountable(
            "a repair by fsck.gfs2 is running on it, or was interrupted: run it to its end first".into(),
        ));
    }
    let geometry = device.geometry();
    if geometry.logical_sector_bytes > superblock.block_size.bytes_u32() {
        return Err(FsError::NotMountable(format!(
            "its blocks of {} bytes are smaller than the device's sectors of {} bytes",
            superblock.block_size.bytes(),
            geometry.logical_sector_bytes
        )));
    }
    if geometry.read_only && !options.read_only {
        return Err(FsError::NotMountable("the device is read-only: mount with -o ro".into()));
    }

    // What is read now may be older than what the journals hold, and a block of it may be torn.
    let early = Disk::new(Arc::clone(&device), superblock.block_size);
    let journals = find_journals(&early, &superblock).await?;
    let recovered = recover_journals(&early, &superblock, &journals, &*env, options.read_only).await?;

    let disk = Arc::new(Disk::new(device, superblock.block_size));
    disk.set_checksums(recovered.checksums);
    let cache = Arc::new(Cache::new(Arc::clone(&disk), options.cache_bytes));
    let glocks = Arc::new(Glocks::new(locks));
    let count = u32::try_from(journals.len()).unwrap_or(u32::MAX);
    let files = SystemFiles::find(&cache, &superblock, count, options.quota).await?;
    let places = read_rindex(&cache, &files.rindex, &disk).await?;
    let rgrps = Arc::new(Rgrps::new(
        Arc::clone(&disk),
        Arc::clone(&cache),
        Arc::clone(&glocks),
        places,
        options.cache_bytes / 4,
    ));

    for journal in &journals {
        for run in journal.runs(0, journal.blocks()) {
            rgrps.check_data(run.addr, u64::from(run.count))?;
        }
    }

    let master = read_counts(&cache, files.statfs).await?;
    let mut local = StatfsDelta::default();
    for ino in &files.statfs_changes {
        let change = read_counts(&cache, *ino).await?;
        local.total = local.total.wrapping_add(change.total);
        local.free = local.free.wrapping_add(change.free);
        local.dinodes = local.dinodes.wrapping_add(change.dinodes);
    }
    let mut ends = journals.into_iter().zip(recovered.heads);
    let own_files = (files.statfs_changes.first(), files.quota_changes.first());
    let (Some((own_map, own_head)), (Some(own_change), Some(own_quota))) = (ends.next(), own_files) else {
        return Err(FsError::NotMountable("it has no journal".into()));
    };
    // The log rewrites this block at each flush.
    cache.meta_pinned(own_change.addr(), BlockKind::DINODE).await?;
    let start = Start { head: own_head.position, sequence: own_head.sequence, local };
    let journal = Journal::new(
        Arc::clone(&disk),
        Arc::clone(&cache),
        Arc::clone(&rgrps),
        Arc::clone(&env),
        own_map,
        NodeFiles { statfs_change: *own_change, quota_change: *own_quota },
        start,
    );
    let quota_blocks = if options.quota.accounts() {
        quota::leftover::blocks(&cache, &read_dinode(&cache, *own_quota).await?).await?
    } else {
        Vec::new()
    };
    let quotas = Quotas::new(options.quota, files.quota, *own_quota, quota_blocks, superblock.block_size);
    journal.set_discards(options.discard && disk.device().geometry().discards);
    let volume = Volume {
        disk,
        cache,
        glocks,
        rgrps,
        journal,
        env,
        label: Mutex::new(superblock.lock_table.clone()),
        labelling: tokio::sync::Mutex::new(()),
        trimming: Quiet::default(),
        cookies: CookieKey::new(&superblock.uuid),
        superblock,
        read_only: AtomicBool::new(options.read_only),
        gate: Gate::default(),
        options,
        refs: Refs::default(),
        statfs_file: files.statfs,
        statfs_master: Mutex::new(master),
        quotas,
        deleting: tokio::sync::Mutex::new(()),
    };
    if !volume.options.read_only {
        // fsck.gfs2 sets the master right and leaves what stands in the change files of the nodes.
        let leftover = recovered.foreign && local != StatfsDelta::default();
        settle_counts(&volume, local, &files, recovered.recount || leftover).await?;
    }
    if volume.options.quota.accounts() {
        quota::leftover::settle(&volume, &files.quota_changes).await?;
    }
    // The root directory has to be there, or nothing that follows makes sense.
    let root = volume.dinode(volume.superblock.root).await?;
    if root.kind != FileKind::Directory {
        return Err(CorruptKind::SystemFileShape { name: "root directory" }.at(root.ino.addr()));
    }
    let others = ends.filter(|(_, end)| end.by_recovery).collect();
    Ok((volume, recovered.orphans_likely.then_some(Searched { others })))
}

/// Finds a system file in a system directory.
async fn system_file(cache: &Cache, dir: &Dinode, name: &'static str) -> Result<Dinode, FsError> {
    named_system_file(cache, dir, name.as_bytes(), name).await
}

async fn named_system_file(cache: &Cache, dir: &Dinode, name: &[u8], kind: &'static str) -> Result<Dinode, FsError> {
    let missing = CorruptKind::SystemFileMissing { name: kind }.at(dir.ino.addr());
    let link = dir::lookup(cache, dir, name).await?.ok_or(missing)?;
    read_dinode(cache, link.ino).await
}

async fn read_dinode(cache: &Cache, ino: InodeNo) -> Result<Dinode, FsError> {
    use crate::blocks::Blocks;
    let block = cache.meta(ino.addr(), BlockKind::DINODE).await?;
    Dinode::parse(ino, &block, cache.block_size())
}

/// The journals, by number.
async fn find_journals(disk: &Disk, superblock: &Superblock) -> Result<Vec<JournalMap>, FsError> {
    let cache = Cache::new(Arc::new(disk.again()), 4 << 20);
    let master = read_dinode(&cache, superblock.master).await?;
    let jindex = system_file(&cache, &master, "jindex").await?;
    let mut journals = Vec::new();
    for jid in 0..JOURNALS_MAX {
        let name = format!("journal{jid}");
        let Some(link) = dir::lookup(&cache, &jindex, name.as_bytes()).await? else { break };
        let dinode = read_dinode(&cache, link.ino).await?;
        let blocks = dinode.size / cache_block_bytes(superblock.block_size);
        if dinode.size > 1 << 30 {
            return Err(CorruptKind::JournalShape { jid }.at(link.ino.addr()));
        }
        let extents = map::extents(&cache, &dinode, 0, blocks).await?;
        if extents.iter().any(|extent| extent.addr.is_none()) {
            return Err(CorruptKind::JournalShape { jid }.at(link.ino.addr()));
        }
        let extents: Vec<Extent> = extents
            .into_iter()
            .filter_map(|extent| Some(Extent { position: extent.first, addr: extent.addr?, count: extent.count }))
            .collect();
        for extent in &extents {
            disk.check_pointer(extent.addr)?;
            disk.check_pointer(BlockAddr(extent.addr.0 + extent.count.saturating_sub(1)))?;
        }
        journals.push(JournalMap::new(jid, link.ino, superblock.block_size, &extents)?);
    }
    if journals.is_empty() {
        return Err(CorruptKind::SystemFileMissing { name: "journal0" }.at(jindex.ino.addr()));
    }
    Ok(journals)
}

const fn cache_block_bytes(block_size: BlockSize) -> u64 {
    block_size.bytes_u64()
}

/// What replay left.
struct Recovered {
    /// Where each journal goes on.
    heads: Vec<LogEnd>,
    /// Block checksums can be believed.
    checksums: bool,
    /// Some journal was replayed, now or before this mount, so inodes without names may have been left. A journal that
    /// replay has closed says nothing about whether who replayed it came to free them.
    orphans_likely: bool,
    /// The counters in the statfs files are not to be trusted.
    recount: bool,
    /// Another implementation has closed a journal.
    foreign: bool,
}

/// The last header of a clean journal.
#[derive(Clone, Copy)]
struct LogEnd {
    position: u32,
    sequence: u64,
    /// Recovery has closed the journal, and nobody has used it since.
    by_recovery: bool,
}

/// What remains to be said once the volume has been searched for inodes without names.
pub struct Searched {
    /// Journals of other nodes that recovery has closed.
    others: Vec<(JournalMap, LogEnd)>,
}

impl Searched {
    /// Closes these journals like a node that unmounts: as long as the last header says that recovery has closed them,
    /// every mount searches again. Whatever the search has freed is durable before.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn settle(self, volume: &Volume) -> Result<(), FsError> {
        volume.journal.sync().await?;
        volume.journal.write_clean_header();
        for (journal, end) in self.others {
            let position = journal.advance(end.position, 1);
            let addr = journal.addr(position).ok_or(FsError::Bug("log position outside the journal"))?;
            let header = NewHeader {
                jid: 0,
                sequence: end.sequence.wrapping_add(1),
                flags: log::flags::UNMOUNT,
                tail: 0,
                blkno: position,
                addr: addr.0,
                time: volume.env.now(),
                jinode: journal.inode().get(),
                statfs_addr: 0,
                quota_addr: 0,
                local: StatfsDelta::default(),
            };
            let mut block = IoBuf::zeroed(volume.block_size().bytes());
            let write = if volume.disk.checksums() { log::write_header } else { log::write_header_unstamped };
            write(&mut block, &header);
            volume.disk.write(addr, block, Durability::Durable).await?;
        }
        Ok(())
    }
}

/// Replays every dirty journal, also for a mount that is `read_only`: what is in place is not the truth.
async fn recover_journals(
    disk: &Disk,
    superblock: &Superblock,
    journals: &[JournalMap],
    env: &dyn Env,
    read_only: bool,
) -> Result<Recovered, FsError> {
    let device = &**disk.device();
    let searches: Vec<_> = journals.iter().map(|journal| head::find(device, journal).boxed()).collect();
    let heads: Vec<Head> = futures_util::stream::iter(searches).buffered(SEARCHES_MAX).try_collect().await?;
    let marker = read_marker(device, superblock).await?;
    let marked = marker.is_some();
    // Another implementation that wrote here kept the checksum fields, but not their truth.
    let checksums = marked && heads.iter().all(|head| head.header.stamped);
    let writable = !device.geometry().read_only;
    if marked && !checksums {
        tracing::warn!("another implementation has written to the volume: its block checksums are not used any more");
        if writable && !read_only {
            remove_marker(device).await?;
        }
    }
    let mut recovered =
        Recovered { heads: Vec::new(), checksums, orphans_likely: false, recount: false, foreign: false };
    for (journal, head) in journals.iter().zip(heads) {
        if head.header.is_clean() {
            let by_recovery = head.header.flags & log::flags::RECOVERY != 0;
            recovered.foreign |= !head.header.stamped;
            let LogHeader { blkno: position, sequence, .. } = head.header;
            recovered.heads.push(LogEnd { position, sequence, by_recovery });
            recovered.orphans_likely |= by_recovery;
            continue;
        }
        if !writable {
            return Err(FsError::NotMountable(format!(
                "journal {} has to be replayed, which a read-only device does not allow",
                journal.jid()
            )));
        }
        let recovery = Recovery {
            device,
            journal,
            bounds: Bounds {
                first: first_logged(marker.as_ref(), superblock.block_size),
                end: BlockAddr(disk.block_count()),
            },
            checksums_hold: checksums,
            writer_jid: 0,
            now: env.now(),
        };
        let log = recovery.inspect(head).await?;
        let replayed = recovery.apply(&log).await?;
        tracing::info!(
            "journal {} replayed: {} blocks, {} images void",
            journal.jid(),
            replayed.blocks,
            replayed.revoked
        );
        recovered.orphans_likely = true;
        recovered.recount |= !replayed.stamped;
        let Replayed { position, sequence, .. } = replayed;
        recovered.heads.push(LogEnd { position, sequence, by_recovery: true });
    }
    Ok(recovered)
}

async fn read_marker(device: &dyn BlockDevice, superblock: &Superblock) -> Result<Option<RawMarker>, FsError> {
    let bytes = device.read(marker::OFFSET_BYTES, IoBuf::zeroed(marker::SIZE_BYTES)).await?;
    Ok(RawMarker::parse(&bytes, superblock.uuid))
}

/// The first block that an image in a log may go to: behind the superblock, and behind the gap if the volume has one.
fn first_logged(marker: Option<&RawMarker>, size: BlockSize) -> BlockAddr {
    let gap_end = marker.map_or(0, |marker| marker.area_offset_bytes.get().saturating_add(marker.area_len_bytes.get()));
    BlockAddr((Superblock::addr(size).0 + 1).max(gap_end >> size.shift()))
}

async fn remove_marker(device: &dyn BlockDevice) -> Result<(), FsError> {
    device.write(marker::OFFSET_BYTES, IoBuf::zeroed(marker::SIZE_BYTES), Durability::Durable).await?;
    Ok(())
}

/// System files that a mount works with.
struct SystemFiles {
    rindex: Dinode,
    statfs: InodeNo,
    /// Of every journal.
    statfs_changes: Vec<InodeNo>,
    /// `None` where it is missing, which only those miss who count.
    quota: Option<InodeNo>,
    /// Of every journal; the node's own first. Of the others only where quotas are counted.
    quota_changes: Vec<InodeNo>,
}

impl SystemFiles {
    async fn find(cache: &Cache, superblock: &Superblock, journals: u32, quota: quota::Mode) -> Result<Self, FsError> {
        let master = read_dinode(cache, superblock.master).await?;
        let per_node = system_file(cache, &master, "per_node").await?;
        let mut statfs_changes = Vec::new();
        for jid in 0..journals {
            let name = format!("statfs_change{jid}");
            statfs_changes.push(named_system_file(cache, &per_node, name.as_bytes(), "statfs_change").await?.ino);
        }
        let mut quota_changes = Vec::new();
        for jid in 0..if quota.accounts() { journals } else { 1 } {
            let name = format!("quota_change{jid}");
            quota_changes.push(named_system_file(cache, &per_node, name.as_bytes(), "quota_change").await?.ino);
        }
        // What is counted may not include the quota file: it would change its own records whenever it grows.
        let serves = |dinode: &Dinode| {
            dinode.kind == FileKind::Regular && (!quota.accounts() || dinode.flags & dinode::flags::SYSTEM != 0)
        };
        let quota = match system_file(cache, &master, "quota").await {
            Ok(dinode) if serves(&dinode) => Some(dinode.ino),
            Ok(_) | Err(FsError::Corrupt { .. }) if !quota.accounts() => None,
            Ok(dinode) => return Err(CorruptKind::SystemFileShape { name: "quota" }.at(dinode.ino.addr())),
            Err(error) => return Err(error),
        };
        Ok(Self {
            rindex: system_file(cache, &master, "rindex").await?,
            statfs: system_file(cache, &master, "statfs").await?.ino,
            statfs_changes,
            quota,
            quota_changes,
        })
    }
}

/// The resource groups, in order. Read piece by piece up to the first entry that is wrong, so memory goes only to groups
/// for which there is room on the device.
async fn read_rindex(cache: &Cache, rindex: &Dinode, disk: &Disk) -> Result<Vec<RgrpPlace>, FsError> {
    use crate::blocks::Blocks;
    let at = rindex.ino.addr();
    let entry_bytes = RINDEX_ENTRY_BYTES as u64;
    let size_max = disk.block_count() / RGRP_BLOCKS_MIN * entry_bytes;
    let wrong_size = CorruptKind::RindexSize { size: rindex.size }.at(at);
    if rindex.size == 0 || !rindex.size.is_multiple_of(entry_bytes) || rindex.size > size_max {
        return Err(wrong_size);
    }
    let mut places = Vec::new();
    if rindex.is_stuffed() {
        let block = cache.meta(at, BlockKind::DINODE).await?;
        let size = usize::try_from(rindex.size).unwrap_or(usize::MAX);
        let content = block.get(dinode::HEADER_BYTES..).and_then(|content| content.get(..size)).ok_or(wrong_size)?;
        add_places(at, content, disk, &mut places)?;
        return Ok(places);
    }
    let block_bytes = disk.block_size().bytes_u64();
    let (mut number, blocks) = (0, rindex.size.div_ceil(block_bytes));
    // An entry may begin in one block and end in the next.
    let mut piece: Vec<u8> = Vec::new();
    while number < blocks {
        let extent = map::extent_at(cache, rindex, number, blocks).await?;
        let Some(start) = extent.addr else {
            return Err(CorruptKind::SystemFileShape { name: "rindex" }.at(at));
        };
        for step in 0..extent.count {
            piece.extend_from_slice(&cache.data(BlockAddr(start.0.saturating_add(step))).await?);
            let left = rindex.size - (number + step) * block_bytes;
            if left < block_bytes {
                piece.truncate(piece.len() - usize::try_from(block_bytes - left).unwrap_or(0));
            }
            let whole = piece.len() - piece.len() % RINDEX_ENTRY_BYTES;
            add_places(at, piece.get(..whole).unwrap_or_default(), disk, &mut places)?;
            piece.drain(..whole);
        }
        number = extent.first + extent.count;
    }
    Ok(places)
}

/// Adds the groups of some entries of the rindex at `at`, which have to follow those that are known.
fn add_places(at: BlockAddr, entries: &[u8], disk: &Disk, places: &mut Vec<RgrpPlace>) -> Result<(), FsError> {
    for entry in entries.chunks_exact(RINDEX_ENTRY_BYTES) {
        let raw = RawRindexEntry::ref_from_bytes(entry).map_err(|_| CorruptKind::ShortBlock.at(at))?;
        let place = RgrpPlace::parse(at, raw, disk.block_size())?;
        if places.last().is_some_and(|last| place.addr < last.end()) {
            return Err(CorruptKind::RindexOrder { rgrp: place.addr }.at(at));
        }
        if place.end().0 > disk.block_count() {
            let needed = place.end().0.saturating_mul(disk.block_size().bytes_u64());
            return Err(FsError::NotMountable(format!(
                "the device has {} bytes, but the volume on it reaches to byte {needed}: it has been cut short",
                disk.device().geometry().size_bytes
            )));
        }
        places.push(place);
    }
    Ok(())
}

/// Where the counters stand in the dinode of a statfs file.
fn counts_in(block: &[u8]) -> Option<&[u8]> {
    block.get(dinode::HEADER_BYTES..dinode::HEADER_BYTES + size_of::<RawStatfs>())
}

async fn read_counts(cache: &Cache, ino: InodeNo) -> Result<StatfsDelta, FsError> {
    use crate::blocks::Blocks;
    let dinode = read_dinode(cache, ino).await?;
    let wrong = CorruptKind::SystemFileShape { name: "statfs" }.at(ino.addr());
    if !dinode.is_stuffed() || dinode.size < size_of::<RawStatfs>() as u64 {
        return Err(wrong);
    }
    let block = cache.meta(ino.addr(), BlockKind::DINODE).await?;
    let raw = counts_in(&block).and_then(|bytes| RawStatfs::read_from_bytes(bytes).ok()).ok_or(wrong)?;
    Ok(raw.get())
}

async fn put_counts(stage: &mut Stage<'_>, ino: InodeNo, counts: StatfsDelta) -> Result<(), FsError> {
    use zerocopy::IntoBytes;
    stage.set_owner(ino);
    let block = stage.edit(ino.addr(), BlockKind::DINODE).await?;
    if let Some(to) = block.get_mut(dinode::HEADER_BYTES..dinode::HEADER_BYTES + size_of::<RawStatfs>()) {
        to.copy_from_slice(RawStatfs::new(counts).as_bytes());
    }
    Ok(())
}

/// Brings the statfs file up to date after others have left counters behind.
async fn settle_counts(volume: &Volume, local: StatfsDelta, files: &SystemFiles, recount: bool) -> Result<(), FsError> {
    if !recount && local == StatfsDelta::default() {
        return Ok(());
    }
    let truth = if recount {
        let survey = volume.rgrps.survey().await?;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        StatfsDelta {
            total: number(volume.rgrps.blocks_total()),
            free: number(survey.free),
            dinodes: number(survey.dinodes),
        }
    } else {
        volume.counts()
    };
    let mut stage = Stage::new(volume, volume.statfs_file);
    // The node's own file is written with every flush.
    for ino in files.statfs_changes.iter().skip(1) {
        put_counts(&mut stage, *ino, StatfsDelta::default()).await?;
    }
    write_master(volume, stage, truth, local).await
}

/// Writes `truth` into the statfs file, and takes `local` out of this node's own counters, in one transaction.
async fn write_master(
    volume: &Volume,
    mut stage: Stage<'_>,
    truth: StatfsDelta,
    local: StatfsDelta,
) -> Result<(), FsError> {
    put_counts(&mut stage, volume.statfs_file, truth).await?;
    let local = if mistake!(StatfsAddedTwice) { StatfsDelta::default() } else { local };
    stage.add_counts(StatfsDelta {
        total: local.total.wrapping_neg(),
        free: local.free.wrapping_neg(),
        dinodes: local.dinodes.wrapping_neg(),
    });
    stage.commit().await?;
    *volume.statfs_master.lock() = truth;
    Ok(())
}

/// Leaves a clean volume behind. No operation runs any more.
///
/// # Errors
/// Device errors, `Corrupt`, `Withdrawn`: the journal stays dirty then.
pub async fn unmount(volume: &Volume) -> Result<(), FsError> {
    volume.disk.health.check()?;
    if volume.options.read_only {
        return Ok(());
    }
    volume.refs.drop_all();
    settle(volume).await
}

/// Everything on disk and the journal clean. No operation runs meanwhile.
///
/// # Errors
/// Device errors, `Corrupt`, `Withdrawn`: the journal stays dirty then.
pub async fn settle(volume: &Volume) -> Result<(), FsError> {
    while volume.reclaim().await? {}
    // What has been made read-only meanwhile is settled already.
    if !volume.is_read_only() {
        quota::sync(volume).await?;
    }
    let local = volume.journal.local();
    if local != StatfsDelta::default() {
        let truth = volume.counts();
        write_master(volume, Stage::new(volume, volume.statfs_file), truth, local).await?;
    }
    volume.journal.close().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_log_changes_the_gap() {
        let size = BlockSize::MAX;
        let gap = RawMarker::new([7; 16], Some((128 << 10, (1 << 20) - (128 << 10))));
        assert_eq!(first_logged(Some(&gap), size), BlockAddr(256));
        for marker in [None, Some(&RawMarker::new([7; 16], None))] {
            assert_eq!(first_logged(marker, size), BlockAddr(17));
        }
    }
}
