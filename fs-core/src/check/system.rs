//! Rules of the system files: which there are, their sizes and flags, and what is in the small ones.

use std::collections::{BTreeMap, BTreeSet};

use zerocopy::FromBytes;

use super::Checker;
use super::directory;
use super::read::{BATCH_BLOCKS, Image};
use super::rule::{Finding, Rule};
use super::usage;
use super::walk::Walk;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::error::CorruptKind;
use crate::format::dinode::{self, Dinode, flags};
use crate::format::log::StatfsDelta;
use crate::format::meta::BlockKind;
use crate::format::system_files::{QUOTA_CHANGE_BYTES, QUOTA_CHANGE_BYTES_MAX, RawInumRange, RawQuota, RawStatfs};
use crate::inode::map;
use crate::quota::{QuotaId, leftover};

/// Most entries of a system directory that are looked at: three files for each of 1000 journals, and a few more.
const ENTRIES_MAX: usize = 4096;
/// Most journals that a volume can have: names have three digits.
const JOURNALS_MAX: u32 = 1000;

/// Entries of a system directory.
type Entries = BTreeMap<Vec<u8>, InodeNo>;

/// The system files, as far as they were found.
pub(super) struct System {
    master: Entries,
    jindex: Entries,
    per_node: Entries,
    /// Inodes of the journals, by number.
    pub(super) journals: Vec<InodeNo>,
}

/// Reads the dinode `ino`; `None` when it is not one that can be followed. Its findings are made with all others.
pub(super) async fn inode(checker: &Checker<'_>, ino: InodeNo) -> Option<(Dinode, Image)> {
    let image = checker.reader.one(ino.addr()).await?;
    let dinode = Dinode::decode(ino, &image).ok()?;
    (dinode.height <= checker.reader.size().height_max()).then_some((dinode, image))
}

async fn entries(checker: &Checker<'_>, ino: Option<InodeNo>) -> Entries {
    let mut found = Entries::new();
    let Some(ino) = ino else { return found };
    let Some((dinode, image)) = inode(checker, ino).await else { return found };
    if dinode.kind != FileKind::Directory || dinode.depth > dinode::DIR_DEPTH_MAX {
        return found;
    }
    let mut walk = Walk::new(checker, &dinode, &image, true);
    let mut visit = |entry: &super::entries::Entry<'_>| {
        if let Some(ino) = InodeNo::new(entry.target).filter(|_| found.len() < ENTRIES_MAX) {
            found.insert(entry.name.to_vec(), ino);
        }
    };
    directory::check(&mut walk, &mut visit).await;
    found
}

impl System {
    /// Looks for the system files. What cannot be found is left out here, and reported by [`Self::check`].
    pub(super) async fn find(checker: &Checker<'_>) -> Self {
        let master = entries(checker, Some(checker.superblock.master)).await;
        let jindex = entries(checker, master.get(&b"jindex"[..]).copied()).await;
        let per_node = entries(checker, master.get(&b"per_node"[..]).copied()).await;
        let names = (0..JOURNALS_MAX).map(|jid| format!("journal{jid}").into_bytes());
        let journals = names.map_while(|name| jindex.get(&name).copied()).collect();
        Self { master, jindex, per_node, journals }
    }

    /// The resource index.
    pub(super) fn rindex(&self) -> Option<InodeNo> {
        self.master.get(&b"rindex"[..]).copied()
    }

    /// Checks everything but the journals' content. `counts` is what the bitmaps say, if all could be read.
    pub(super) async fn check(&self, checker: &Checker<'_>, counts: Option<StatfsDelta>) {
        self.top(checker).await;
        self.journal_names(checker);
        self.per_node_count(checker);
        self.flags(checker).await;
        for jid in 0..self.journals.len() {
            self.inum_range(checker, jid).await;
            self.quota_change(checker, jid).await;
        }
        self.quota(checker).await;
        self.statfs(checker, counts).await;
    }

    /// A file of `directory`; a finding when it is not there.
    async fn file(
        &self,
        checker: &Checker<'_>,
        directory: &Entries,
        file: &str,
        name: &'static str,
    ) -> Option<(Dinode, Image)> {
        let found = match directory.get(file.as_bytes()) {
            Some(ino) => inode(checker, *ino).await,
            None => {
                checker.tally.at(checker.superblock.master.addr(), CorruptKind::SystemFileMissing { name });
                return None;
            }
        };
        found.filter(|(dinode, _)| dinode.kind == FileKind::Regular)
    }

    /// The directories at the top are directories; the others are there.
    async fn top(&self, checker: &Checker<'_>) {
        let directory = |name: &'static [u8]| self.master.get(name).copied();
        let all = [
            ("master directory", Some(checker.superblock.master)),
            ("root directory", Some(checker.superblock.root)),
            ("jindex", directory(b"jindex")),
            ("per_node", directory(b"per_node")),
        ];
        for (name, ino) in all {
            let Some(ino) = ino else {
                checker.tally.at(checker.superblock.master.addr(), CorruptKind::SystemFileMissing { name });
                continue;
            };
            let found = inode(checker, ino).await;
            if found.is_none_or(|(dinode, _)| dinode.kind != FileKind::Directory) {
                checker.tally.report(&Finding::new(CorruptKind::SystemFileShape { name }.into(), ino.addr()).of(ino));
            }
        }
        self.file(checker, &self.master, "inum", "inum").await;
    }

    /// jindex has journals that count from 0, and nothing else but `.` and `..`.
    fn journal_names(&self, checker: &Checker<'_>) {
        let found = number(self.jindex.len().saturating_sub(2));
        let journals = number(self.journals.len());
        let addr = self.master.get(&b"jindex"[..]).copied().unwrap_or(checker.superblock.master).addr();
        if journals == 0 {
            checker.tally.at(addr, CorruptKind::SystemFileMissing { name: "journal0" });
        } else if found != journals {
            checker.tally.at(addr, Rule::JournalNames { found, journals });
        }
    }

    /// `fsck.gfs2` computes the number of journals from the number of files.
    fn per_node_count(&self, checker: &Checker<'_>) {
        let found = number(self.per_node.len().saturating_sub(2));
        let journals = number(self.journals.len());
        if let Some(ino) = self.master.get(&b"per_node"[..])
            && u64::from(found) != 3 * u64::from(journals)
        {
            checker.tally.at(ino.addr(), Rule::PerNodeCount { found, journals });
        }
    }

    /// All system files have the flag.
    async fn flags(&self, checker: &Checker<'_>) {
        let mut inos: BTreeMap<InodeNo, &'static str> =
            [(checker.superblock.master, "master directory")].into_iter().collect();
        let directories =
            [(&self.master, "of the master directory"), (&self.jindex, "of jindex"), (&self.per_node, "of per_node")];
        for (directory, name) in directories {
            let names = directory.iter().filter(|(name, _)| *name != b"." && *name != b"..");
            inos.extend(names.map(|(_, ino)| (*ino, name)));
        }
        let addrs: Vec<BlockAddr> = inos.keys().map(|ino| ino.addr()).collect();
        for batch in addrs.chunks(BATCH_BLOCKS) {
            let images = checker.reader.many(batch).await;
            for (addr, image) in batch.iter().zip(images) {
                let Some((ino, image)) = InodeNo::new(addr.0).zip(image) else { continue };
                let Ok(dinode) = Dinode::decode(ino, &image) else { continue };
                let name = inos.get(&ino).copied().unwrap_or_default();
                if dinode.flags & flags::SYSTEM == 0 {
                    checker.tally.report(&Finding::new(Rule::SystemFlag { name }, ino.addr()).of(ino));
                }
            }
        }
    }

    /// `inum_rangeN` is not used any more, but its size has to be right.
    async fn inum_range(&self, checker: &Checker<'_>, jid: usize) {
        let name = "inum_range";
        let Some((dinode, _)) = self.file(checker, &self.per_node, &format!("{name}{jid}"), name).await else { return };
        if dinode.size != size_of::<RawInumRange>() as u64 {
            shape(checker, &dinode, name);
        }
    }

    /// The counters in `statfs` or `statfs_changeN`.
    async fn counters(
        &self,
        checker: &Checker<'_>,
        directory: &Entries,
        file: &str,
        name: &'static str,
    ) -> Option<(BlockAddr, StatfsDelta)> {
        let (dinode, image) = self.file(checker, directory, file, name).await?;
        let size = size_of::<RawStatfs>();
        if !dinode.is_stuffed() || dinode.size != size as u64 {
            shape(checker, &dinode, name);
            return None;
        }
        let bytes = image.get(dinode::HEADER_BYTES..dinode::HEADER_BYTES + size)?;
        Some((dinode.ino.addr(), RawStatfs::read_from_bytes(bytes).ok()?.get()))
    }

    /// The statfs file and what the nodes have not added to it yet are what there is.
    async fn statfs(&self, checker: &Checker<'_>, counts: Option<StatfsDelta>) {
        let mut pending = StatfsDelta::default();
        for jid in 0..self.journals.len() {
            let name = "statfs_change";
            let found = self.counters(checker, &self.per_node, &format!("{name}{jid}"), name).await;
            let Some((addr, change)) = found else { continue };
            if change != StatfsDelta::default() {
                checker.tally.at(addr, Rule::StatfsPending);
            }
            pending = sum(pending, change);
        }
        let Some((addr, master)) = self.counters(checker, &self.master, "statfs", "statfs").await else { return };
        let (counted, Some(found)) = (sum(master, pending), counts) else { return };
        if counted != found {
            checker.tally.at(addr, Rule::Statfs { counted, found });
        }
    }

    /// The quota file consists of records.
    async fn quota(&self, checker: &Checker<'_>) {
        let Some((dinode, _)) = self.file(checker, &self.master, "quota", "quota").await else { return };
        usage::check(checker, &dinode).await;
        if dinode.size % size_of::<RawQuota>() as u64 != 0 {
            checker.tally.at(dinode.ino.addr(), Rule::QuotaSize { size: dinode.size });
        }
    }

    /// `quota_changeN` is fully allocated, and its blocks have headers of their own kind.
    async fn quota_change(&self, checker: &Checker<'_>, jid: usize) {
        let name = "quota_change";
        let Some((dinode, _)) = self.file(checker, &self.per_node, &format!("{name}{jid}"), name).await else { return };
        if dinode.size == 0 || !dinode.size.is_multiple_of(QUOTA_CHANGE_BYTES) || dinode.size > QUOTA_CHANGE_BYTES_MAX {
            shape(checker, &dinode, name);
            return;
        }
        let blocks = dinode.size >> checker.reader.size().shift();
        // What is wrong with the tree is reported with the inode.
        let Ok(extents) = map::extents(&checker.reader, &dinode, 0, blocks).await else { return };
        if extents.iter().any(|extent| extent.addr.is_none()) {
            shape(checker, &dinode, name);
            return;
        }
        let addrs: Vec<BlockAddr> = extents
            .iter()
            .filter_map(|extent| Some((extent.addr?.0, extent.count)))
            .flat_map(|(addr, count)| (addr..addr.saturating_add(count)).map(BlockAddr))
            .filter(|addr| checker.reader.is_inside(*addr))
            .collect();
        let mut seen = BTreeSet::new();
        for batch in addrs.chunks(BATCH_BLOCKS) {
            let images = checker.reader.many(batch).await;
            for (addr, image) in batch.iter().zip(images) {
                quota_change_block(checker, dinode.ino, *addr, image, &mut seen);
            }
        }
    }
}

fn quota_change_block(
    checker: &Checker<'_>,
    ino: InodeNo,
    addr: BlockAddr,
    image: Option<Image>,
    seen: &mut BTreeSet<QuotaId>,
) {
    let report = |rule| checker.tally.report(&Finding::new(rule, addr).of(ino));
    let Some(image) = image else { return report(Rule::Unreadable) };
    if let Err(kind) = checker.reader.check(addr, &image, BlockKind::QUOTA_CHANGE) {
        return report(kind.into());
    }
    for slot in leftover::records(&image) {
        if let Some(usage) = &checker.usage {
            usage.add_pending(slot.id, slot.change);
        }
        if !seen.insert(slot.id) {
            report(Rule::QuotaChangeTwice { id: slot.id });
        }
    }
}

fn shape(checker: &Checker<'_>, dinode: &Dinode, name: &'static str) {
    let rule = CorruptKind::SystemFileShape { name }.into();
    checker.tally.report(&Finding::new(rule, dinode.ino.addr()).of(dinode.ino));
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn sum(a: StatfsDelta, b: StatfsDelta) -> StatfsDelta {
    StatfsDelta {
        total: a.total.wrapping_add(b.total),
        free: a.free.wrapping_add(b.free),
        dinodes: a.dinodes.wrapping_add(b.dinodes),
    }
}
