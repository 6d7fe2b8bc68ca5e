//! What can be wrong: every rule once, with its severity and the line that explains it to people.
//!
//! Rules of single structures are the variants of [`CorruptKind`], the same that mounts and operations report. The
//! variants here are the rules between structures, which only somebody who sees the whole volume can judge.

use crate::addr::{BlockAddr, InodeNo};
use crate::error::CorruptKind;
use crate::format::log::StatfsDelta;
use crate::format::rgrp::BlockState;
use crate::quota::QuotaId;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Legal, and worth knowing: work that somebody will finish, hints that are wrong.
    Note,
    /// The volume is damaged, or was not closed.
    Error,
}

/// A rule that was found broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which rule, with the numbers that broke it.
    pub rule: Rule,
    /// The block that breaks it, or that is referred to wrongly.
    pub block: BlockAddr,
    /// The inode that the block belongs to, or that refers to it.
    pub inode: Option<InodeNo>,
    /// The name of the directory entry in question.
    pub name: Option<Box<[u8]>>,
}

impl Finding {
    /// A finding about `block`.
    #[must_use]
    pub const fn new(rule: Rule, block: BlockAddr) -> Self {
        Self { rule, block, inode: None, name: None }
    }

    /// The same, about `inode`.
    #[must_use]
    pub const fn of(mut self, inode: InodeNo) -> Self {
        self.inode = Some(inode);
        self
    }

    /// The same, about the directory entry `name`.
    #[must_use]
    pub fn named(mut self, name: &[u8]) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// A rule. The texts continue "block N: ".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// A rule of a single structure.
    #[error(transparent)]
    Format(#[from] CorruptKind),
    /// The device does not give the block.
    #[error("cannot be read")]
    Unreadable,
    /// `fsck.gfs2` marks a volume while it repairs it.
    #[error("the lock protocol says that a repair by fsck.gfs2 is running or was interrupted")]
    RepairInterrupted,
    /// A marker of lunfs that is not valid for this volume.
    #[error("the marker of lunfs is damaged or belongs to another volume: checksums are not used")]
    MarkerInvalid,
    /// The gap for the cluster area reaches into the first resource group.
    #[error("the gap for the cluster area ends at byte {end}, behind the start of the first resource group")]
    ClusterAreaOverlap {
        /// End of the gap, in bytes.
        end: u64,
    },

    /// The resource index reaches past the end of the device.
    #[error("the resource group ends at block {end}, but the device has {blocks} blocks: it has been cut short")]
    BeyondDevice {
        /// First block behind the group.
        end: u64,
        /// Blocks of the device.
        blocks: u64,
    },
    /// A resource group's count of dinodes differs from its bitmap.
    #[error("the resource group counts {counted} dinodes, its bitmap {found}")]
    RgrpDinodeCount {
        /// What the header says.
        counted: u32,
        /// What the bitmap says.
        found: u32,
    },
    /// The copy of the rindex entry in the header differs from it. Readers do not look at it.
    #[error("the resource group's copy of its entry in the resource index differs from it")]
    RgrpCopy,
    /// The distance to the next group is wrong. Readers do not look at it.
    #[error("the resource group says that the next one is {skip} blocks away")]
    RgrpSkip {
        /// What it says.
        skip: u32,
    },
    /// A resource group's header stands where the resource index ends.
    #[error("a resource group that the resource index does not list")]
    RgrpUnlisted,
    /// An inode's generation is one that its group has not given out yet.
    #[error("the inode has generation {generation}, but its resource group goes on at {next}")]
    GenerationAhead {
        /// The inode's.
        generation: u64,
        /// The next one of the group.
        next: u64,
    },

    /// The place to allocate next is outside the volume.
    #[error("the dinode's goal is block {goal}, outside the volume")]
    Goal {
        /// Where it is.
        goal: BlockAddr,
    },
    /// A directory whose content is not journaled.
    #[error("the directory lacks the flag for journaled data")]
    DirectoryNotJournaled,
    /// A directory without a hash table fills its dinode.
    #[error("the directory has size {size}, but its entries fill its dinode")]
    LinearDirectorySize {
        /// What the dinode says.
        size: u64,
    },
    /// An inode without names that waits to be freed. The next mount frees it.
    #[error("an inode without names, which the next mount frees")]
    Orphan,
    /// An inode that is marked unlinked counts names.
    #[error("the inode is marked as unlinked, but counts {nlink} names")]
    UnlinkedHasLinks {
        /// What it counts.
        nlink: u32,
    },
    /// A truncation has to be finished by whoever uses the inode next.
    #[error("a truncation of the inode was interrupted; its next user finishes it")]
    TruncationUnfinished,
    /// The count of an inode's blocks is wrong.
    #[error("the dinode counts {counted} blocks, but has {found}")]
    BlockCount {
        /// What the dinode says.
        counted: u64,
        /// What was found.
        found: u64,
    },

    /// A block in use that the bitmap gives another state.
    #[error("the block is in use, but its resource group's bitmap calls it {state:?}")]
    ReferencedState {
        /// What the bitmap says.
        state: BlockState,
    },
    /// A pointer leads to a block that no bitmap describes.
    #[error("the block is in use, but belongs to the structure of the volume and to no file")]
    ReferencedOutside,
    /// Two pointers lead to one block.
    #[error("the block is used twice{}", other.map(|ino| format!(", also by inode {ino}")).unwrap_or_default())]
    ReferencedTwice {
        /// Who else uses it, or the same inode; `None` when there are too many such blocks to find out.
        other: Option<InodeNo>,
    },
    /// Blocks that are marked used, and nobody's.
    #[error("{count} block(s) from here on are marked as used, but nobody uses them")]
    Leaked {
        /// How many, one behind the other.
        count: u32,
    },

    /// A directory's count of entries is wrong.
    #[error("the directory counts {counted} entries, but has {found}")]
    EntryCount {
        /// What the dinode says.
        counted: u32,
        /// What was found.
        found: u32,
    },
    /// A leaf's count of entries is wrong.
    #[error("the directory leaf counts {counted} entries, but has {found}")]
    LeafEntryCount {
        /// What the leaf says.
        counted: u16,
        /// What was found.
        found: u32,
    },
    /// A leaf names another directory as its own. Readers do not look at it.
    #[error("the directory leaf says that it belongs to directory {owner}")]
    LeafOwner {
        /// What it says.
        owner: u64,
    },
    /// A directory has no `.` or no `..`.
    #[error("the directory has no entry {name:?}", name = if *parent { ".." } else { "." })]
    DotMissing {
        /// `..` is missing, else `.`.
        parent: bool,
    },
    /// A directory's `.` is not the directory.
    #[error("the entry \".\" leads to inode {target}")]
    DotTarget {
        /// Where it leads.
        target: u64,
    },
    /// The root's, or the master directory's, `..` is not itself.
    #[error("the entry \"..\" leads to inode {target}, but the directory is at the top")]
    TopParent {
        /// Where it leads.
        target: u64,
    },
    /// A name stands twice in one directory.
    #[error("the directory has the name twice (again at byte {offset} of the entries)")]
    NameTwice {
        /// Where the second one stands in its area.
        offset: usize,
    },
    /// An entry leads to no inode.
    #[error("the entry leads to inode {target}, which does not exist")]
    EntryDangling {
        /// Where it leads.
        target: u64,
    },
    /// An entry leads to an inode that is marked as unlinked.
    #[error("the entry leads to inode {target}, which is marked as unlinked")]
    EntryUnlinked {
        /// Where it leads.
        target: u64,
    },
    /// An entry leads to an inode whose block has another state in the bitmap.
    #[error("the entry leads to inode {target}, whose block the bitmap calls {state:?}")]
    EntryState {
        /// Where it leads.
        target: u64,
        /// What the bitmap says.
        state: BlockState,
    },
    /// A count of names is wrong.
    #[error("the inode counts {counted} names, but has {found}")]
    LinkCount {
        /// What the dinode says.
        counted: u32,
        /// What was found.
        found: u32,
    },
    /// An inode that no directory names.
    #[error("no directory names the inode")]
    Unnamed,
    /// A directory that two entries name.
    #[error("the directory has a second name, in directory {parent}")]
    DirectoryTwice {
        /// Where the second one is.
        parent: InodeNo,
    },
    /// A directory's `..` is not the directory that names it.
    #[error("the entry \"..\" leads to inode {found}, but the directory is in {wanted}")]
    ParentWrong {
        /// Where it leads.
        found: u64,
        /// Where it should lead.
        wanted: u64,
    },
    /// Directories that contain each other, and that no path leads to.
    #[error("no path from the root leads to the directory: it is below itself")]
    DirectoryCircle,

    /// The last record, and only that, has the flag that says so.
    #[error("the extended attribute record at byte {offset} has the wrong flag for the last one")]
    XattrLast {
        /// Offset in the block.
        offset: usize,
    },
    /// A record's type is none, or none of this format.
    #[error("the extended attribute record at byte {offset} has type {kind}")]
    XattrKind {
        /// Offset in the block.
        offset: usize,
        /// What stands there.
        kind: u8,
    },
    /// A record in use has no name.
    #[error("the extended attribute record at byte {offset} has no name")]
    XattrName {
        /// Offset in the block.
        offset: usize,
    },
    /// A record's value does not fit its record, or its pointers.
    #[error("the extended attribute record at byte {offset} has {pointers} pointers for a value of {len} bytes")]
    XattrValue {
        /// Offset in the block.
        offset: usize,
        /// Number of pointers.
        pointers: u8,
        /// Length of the value, in bytes.
        len: u32,
    },
    /// The list of extended attribute blocks goes on behind its end.
    #[error("the list of extended attribute blocks has a hole")]
    XattrListHole,

    /// A system file without the flag that says so.
    #[error("the system file {name} lacks the flag of system files")]
    SystemFlag {
        /// Its name.
        name: &'static str,
    },
    /// The directory of the nodes' files does not have three for each journal.
    #[error("per_node has {found} files, but there are {journals} journals, and each needs three")]
    PerNodeCount {
        /// Files in it.
        found: u32,
        /// Journals.
        journals: u32,
    },
    /// The journal directory has an entry that is no journal, or leaves out a number.
    #[error("the journal directory has {found} entries, but only {journals} journals that count from 0")]
    JournalNames {
        /// Entries.
        found: u32,
        /// Journals.
        journals: u32,
    },
    /// The statfs file does not count what there is.
    #[error(
        "the statfs file counts {} blocks, {} free, {} dinodes, but there are {}, {}, {}",
        counted.total, counted.free, counted.dinodes, found.total, found.free, found.dinodes
    )]
    Statfs {
        /// What the file says.
        counted: StatfsDelta,
        /// What the bitmaps say.
        found: StatfsDelta,
    },
    /// A node's changes have not been added to the statfs file.
    #[error("changes of the statfs file that the next mount adds to it")]
    StatfsPending,
    /// The quota file ends within a record.
    #[error("the quota file has {size} bytes, which is no number of records")]
    QuotaSize {
        /// Its size.
        size: u64,
    },
    /// A quota change file has two records for one user or group.
    #[error("the quota change file has a second record for {id}")]
    QuotaChangeTwice {
        /// Whose.
        id: QuotaId,
    },
    /// The quota file, with the changes that it does not have yet, says something else than the inodes. Every mount
    /// without quotas leaves that behind.
    #[error("according to the quota file, {id} has {counted} blocks, but has {found}")]
    QuotaUsage {
        /// Who.
        id: QuotaId,
        /// What the file says.
        counted: i64,
        /// What was found.
        found: i64,
    },
    /// Too many users and groups for a comparison with the quota file.
    #[error("there are more than {counted} users and groups: the quota file was not compared")]
    QuotaIds {
        /// How many were counted.
        counted: u64,
    },

    /// A journal was not closed.
    #[error("journal {jid} has to be replayed: mount and unmount the volume, then check again")]
    JournalDirty {
        /// Number of the journal.
        jid: u32,
    },
    /// Log headers of a journal are not in order.
    #[error("journal {jid} has {count} log headers out of order")]
    JournalSequence {
        /// Number of the journal.
        jid: u32,
        /// How many.
        count: u32,
    },
    /// A log header that is not valid. A torn write leaves one behind.
    #[error("journal {jid} has an invalid log header at its block {position}")]
    JournalHeader {
        /// Number of the journal.
        jid: u32,
        /// Where, counted in the journal.
        position: u32,
    },
    /// A journal that was never filled with headers.
    #[error("journal {jid} has only {found} valid log header(s): it was not formatted to its end")]
    JournalUnformatted {
        /// Number of the journal.
        jid: u32,
        /// How many.
        found: u32,
    },
}

impl Rule {
    /// The name of the rule, for programs and for limits: lower case words with hyphens.
    #[must_use]
    pub fn name(&self) -> String {
        // The variant's name is what `Debug` starts with, and names are written in one place.
        let text = match self {
            Self::Format(kind) => format!("{kind:?}"),
            other => format!("{other:?}"),
        };
        let mut name = String::new();
        for char in text.chars().take_while(char::is_ascii_alphanumeric) {
            if char.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(char.to_ascii_lowercase());
        }
        name
    }

    /// How bad it is that the rule is broken.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::MarkerInvalid
            | Self::RgrpCopy
            | Self::RgrpSkip { .. }
            | Self::RgrpUnlisted
            | Self::GenerationAhead { .. }
            | Self::Orphan
            | Self::TruncationUnfinished
            | Self::LeafOwner { .. }
            | Self::StatfsPending
            | Self::QuotaSize { .. }
            | Self::QuotaUsage { .. }
            | Self::QuotaIds { .. }
            | Self::JournalHeader { .. } => Severity::Note,
            // Up to here another implementation does not mind, and torn writes leave some.
            Self::JournalSequence { count, .. } if *count <= HEADERS_OUT_OF_ORDER_MAX => Severity::Note,
            _ => Severity::Error,
        }
    }
}

/// Most log headers out of order with which `fsck.gfs2` still takes a journal for sound.
const HEADERS_OUT_OF_ORDER_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_with_hyphens() {
        assert_eq!(Rule::ReferencedTwice { other: None }.name(), "referenced-twice");
        assert_eq!(Rule::Leaked { count: 2 }.name(), "leaked");
        assert_eq!(Rule::Format(CorruptKind::BadMagic { found: 1 }).name(), "bad-magic");
        assert_eq!(Rule::Format(CorruptKind::PointerCircle).name(), "pointer-circle");
    }
}
