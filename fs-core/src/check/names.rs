//! Which names are wrong, where the sums of [`super::map`] say that some are: the inodes in question go into a table, and
//! all directories are read once more.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;
use parking_lot::Mutex;

use super::Checker;
use super::directory;
use super::entries::Entry;
use super::links::Directory;
use super::read::BATCH_BLOCKS;
use super::report::Stage;
use super::rule::{Finding, Rule};
use super::walk::Walk;
use crate::addr::{BlockAddr, InodeNo};
use crate::attr::FileKind;
use crate::error::CorruptKind;
use crate::format::dinode::Dinode;
use crate::format::rgrp::BlockState;

/// Inodes in the table at once: about 100 bytes each. Where more are in question, directories are read again for each
/// such number.
const SUSPECTS_MAX: usize = 1 << 18;
/// Directories that are read at once.
const DIRECTORIES_AT_ONCE: usize = 16;
/// Entries that lead to no inode, and whose targets are looked at to say why.
const DANGLING_MAX: usize = 10_000;

/// An inode whose names are in question.
struct Suspect {
    formal: u64,
    kind: FileKind,
    /// Names that it counts.
    nlink: u32,
    /// Entries that lead to it, `.` and `..` included.
    found: u32,
    /// Entries that are names.
    names: u32,
    /// Directories: who names it.
    named_by: Option<InodeNo>,
    /// Directories: where its `..` leads.
    parent: Option<u64>,
}

/// The inodes of some buckets, and what leads to them.
struct Table {
    buckets: BTreeSet<(usize, usize)>,
    suspects: Mutex<BTreeMap<u64, Suspect>>,
    dangling: Mutex<Vec<Dangling>>,
}

/// An entry that leads to no inode of the table.
struct Dangling {
    finding: Finding,
    target: u64,
}

/// Finds out what is wrong with the names of the inodes in all buckets whose sums are not zero.
pub(super) async fn check(checker: &Checker<'_>, directories: &[Directory]) {
    let mut wrong: Vec<(usize, usize)> = Vec::new();
    for (number, group) in checker.map.groups.iter().enumerate().filter(|(_, group)| group.known) {
        wrong.extend((0..group.buckets()).filter(|bucket| group.is_wrong(*bucket)).map(|bucket| (number, bucket)));
    }
    // Directories in a group that cannot be read name inodes as well.
    let all_known = checker.map.groups.iter().all(|group| group.known);
    let mut rest = wrong.as_slice();
    while !rest.is_empty() && !checker.tally.is_cancelled() {
        let (table, taken) = Table::fill(checker, rest).await;
        rest = rest.get(taken..).unwrap_or_default();
        table.read_directories(checker, directories).await;
        if !checker.tally.is_cancelled() {
            table.judge(checker, all_known).await;
        }
    }
}

impl Table {
    /// Takes as many buckets as fit, at least one. Returns how many.
    async fn fill(checker: &Checker<'_>, wrong: &[(usize, usize)]) -> (Self, usize) {
        let mut suspects = BTreeMap::new();
        let mut taken = 0;
        for (number, bucket) in wrong {
            if suspects.len() >= SUSPECTS_MAX || checker.tally.is_cancelled() {
                break;
            }
            taken += 1;
            let Some(group) = checker.map.groups.get(*number) else { continue };
            let is_inode = |index: &u32| group.is_sound(*index) && group.state(*index) == BlockState::Dinode;
            let addrs: Vec<BlockAddr> =
                group.bucket_range(*bucket).filter(is_inode).map(|index| group.place.block_at(index)).collect();
            for batch in addrs.chunks(BATCH_BLOCKS) {
                let images = checker.reader.many(batch).await;
                for (addr, image) in batch.iter().zip(images) {
                    let Some((ino, image)) = InodeNo::new(addr.0).zip(image) else { continue };
                    let Ok(dinode) = Dinode::decode(ino, &image) else { continue };
                    suspects.insert(addr.0, Suspect::new(&dinode));
                }
            }
        }
        let buckets = wrong.iter().take(taken).copied().collect();
        (Self { buckets, suspects: Mutex::new(suspects), dangling: Mutex::default() }, taken)
    }

    async fn read_directories(&self, checker: &Checker<'_>, directories: &[Directory]) {
        let total = directories.len() as u64;
        checker.tally.begin(Stage::Names, total);
        let reads: Vec<_> = directories.iter().map(|directory| self.read_directory(checker, directory.ino)).collect();
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(DIRECTORIES_AT_ONCE);
        while reads.next().await.is_some() {
            checker.tally.step(Stage::Names, 1, total);
        }
    }

    async fn read_directory(&self, checker: &Checker<'_>, ino: InodeNo) {
        if checker.tally.is_cancelled() {
            return;
        }
        let Some(image) = checker.reader.one(ino.addr()).await else { return };
        let Ok(dinode) = Dinode::decode(ino, &image) else { return };
        let mut walk = Walk::new(checker, &dinode, &image, true);
        let dots = directory::check(&mut walk, &mut |entry| self.entry(checker, &dinode, entry)).await;
        if let Some(suspect) = self.suspects.lock().get_mut(&ino.get()) {
            // Its `.` has been compared with it.
            suspect.found = suspect.found.saturating_add(1);
            suspect.parent = dots.parent;
        }
    }

    fn entry(&self, checker: &Checker<'_>, dir: &Dinode, entry: &Entry<'_>) {
        let in_question =
            checker.map.bucket(BlockAddr(entry.target)).is_some_and(|bucket| self.buckets.contains(&bucket));
        if !in_question || entry.is_dot() {
            return;
        }
        let finding = |rule| Finding::new(rule, entry.block).of(dir.ino).named(entry.name);
        let mut suspects = self.suspects.lock();
        let Some(suspect) = suspects.get_mut(&entry.target) else {
            drop(suspects);
            let finding = finding(Rule::EntryDangling { target: entry.target });
            let mut dangling = self.dangling.lock();
            if dangling.len() < DANGLING_MAX {
                dangling.push(Dangling { finding, target: entry.target });
            } else {
                checker.tally.report(&finding);
            }
            return;
        };
        // That a type is none was said before.
        let kind = FileKind::from_dirent(u32::from(entry.kind));
        if suspect.formal != entry.formal || kind.is_some_and(|kind| kind != suspect.kind) {
            checker.tally.report(&finding(CorruptKind::DirentTarget.into()));
        }
        suspect.found = suspect.found.saturating_add(1);
        if entry.is_dot_dot() {
            return;
        }
        suspect.names = suspect.names.saturating_add(1);
        if suspect.kind != FileKind::Directory {
            return;
        }
        if suspect.named_by.is_none() {
            suspect.named_by = Some(dir.ino);
        } else if let Some(ino) = InodeNo::new(entry.target) {
            checker.tally.report(&Finding::new(Rule::DirectoryTwice { parent: dir.ino }, ino.addr()).of(ino));
        }
    }

    /// Reports what the table shows.
    async fn judge(self, checker: &Checker<'_>, all_known: bool) {
        for dangling in self.dangling.into_inner() {
            let rule = why(checker, dangling.target).await;
            if let Some(rule) = rule {
                checker.tally.report(&Finding { rule, ..dangling.finding });
            }
        }
        for (ino, suspect) in self.suspects.into_inner() {
            if let Some(ino) = InodeNo::new(ino) {
                suspect.judge(checker, ino, all_known);
            }
        }
    }
}

/// Why an entry that leads to `target` finds no inode there; `None` when that cannot be known.
async fn why(checker: &Checker<'_>, target: u64) -> Option<Rule> {
    let ino = InodeNo::new(target)?;
    let (state, _) = checker.map.look(ino.addr())?;
    if state == BlockState::Unlinked {
        return Some(Rule::EntryUnlinked { target });
    }
    let image = checker.reader.one(ino.addr()).await;
    let is_inode = image.is_some_and(|image| Dinode::decode(ino, &image).is_ok());
    Some(if is_inode && state != BlockState::Dinode {
        Rule::EntryState { target, state }
    } else {
        Rule::EntryDangling { target }
    })
}

impl Suspect {
    fn new(dinode: &Dinode) -> Self {
        Self {
            formal: dinode.formal,
            kind: dinode.kind,
            nlink: dinode.nlink,
            found: 0,
            names: 0,
            named_by: None,
            parent: None,
        }
    }

    fn judge(&self, checker: &Checker<'_>, ino: InodeNo, all_known: bool) {
        let report = |rule| checker.tally.report(&Finding::new(rule, ino.addr()).of(ino));
        let is_top = checker.is_top(ino);
        if self.names == 0 && !is_top {
            if all_known {
                report(Rule::Unnamed);
            }
            return;
        }
        if self.found > self.nlink || (self.found < self.nlink && all_known) {
            report(Rule::LinkCount { counted: self.nlink, found: self.found });
        }
        if let (Some(named_by), Some(found), false) = (self.named_by, self.parent, is_top)
            && named_by.get() != found
        {
            report(Rule::ParentWrong { found, wanted: named_by.get() });
        }
    }
}
