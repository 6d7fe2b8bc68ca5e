//! Directories: names, and where they stand.
//!
//! A small directory keeps its entries behind its dinode's header. A larger one has a hash table of 2^depth slots,
//! indexed by the upper bits of a name's hash, that point to leaves. A leaf of less depth than the table fills an
//! aligned range of slots. The table is the directory's content: in the dinode, later in the blocks of a pointer tree.
//!
//! ```text
//! dinode ─▶ (indirect blocks) ─▶ table block: slot slot slot slot …
//!                                               └──┬──┘    └─▶ leaf ─▶ leaf    chains: at depth 17 only
//!                                                 leaf
//! ```
//!
//! Laws
//! * The caller holds the directory's lock, has parsed its dinode and writes the [`Dinode`] back after a change, in the
//!   same transaction. After an error it drops both the transaction and the [`Dinode`].
//! * A leaf is read, checked and changed as one; lookups read one block per level and copy nothing.
//! * Leaves are never merged: a name's place in the order of [`read`] depends on the name alone.

mod area;
mod change;
mod free;
mod leaf;
mod lookup;
mod readdir;
mod table;
#[cfg(test)]
mod tests;

pub use change::{insert, remove, replace};
pub use free::{Progress, free_leaves};
pub use lookup::lookup;
pub use readdir::{CookieKey, read};

use crate::addr::InodeNo;
use crate::attr::FileKind;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode};
use crate::format::dirent::{self, NAME_BYTES_MAX, Target};

/// The name of a directory in itself.
pub const DOT: &[u8] = b".";
/// The name of a directory's parent.
pub const DOT_DOT: &[u8] = b"..";

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The inode.
    pub ino: InodeNo,
    /// The inode's formal number.
    pub formal: u64,
    /// The inode's type.
    pub kind: FileKind,
}

impl Link {
    fn named<'a>(&self, name: &'a [u8], hash: u32) -> Target<'a> {
        Target { ino: self.ino, formal: self.formal, hash, kind: self.kind, name }
    }
}

impl From<Target<'_>> for Link {
    fn from(target: Target<'_>) -> Self {
        Self { ino: target.ino, formal: target.formal, kind: target.kind }
    }
}

/// Writes the entries of a new directory behind the dinode header in `block`. Its [`Dinode`] has 2 entries, no height,
/// and fills the block.
pub fn new_directory(block: &mut [u8], ino: InodeNo, formal: u64, parent: InodeNo, parent_formal: u64) {
    let area = area::part_mut(block, dinode::HEADER_BYTES);
    area.fill(0);
    let dot = Link { ino, formal, kind: FileKind::Directory };
    let dot_dot = Link { ino: parent, formal: parent_formal, kind: FileKind::Directory };
    let first = dirent::space_for(DOT.len());
    let rest = area.len().saturating_sub(first);
    dirent::write(area, 0, first, dot.named(DOT, dirent::hash(DOT)));
    dirent::write(area, first, rest, dot_dot.named(DOT_DOT, dirent::hash(DOT_DOT)));
}

/// The directory has no entries but `.` and `..`.
///
/// # Errors
/// `DirectoryEntries` if it counts not even these.
pub fn is_empty(dir: &Dinode) -> Result<bool, FsError> {
    if dir.entries < 2 {
        return Err(CorruptKind::DirectoryEntries { entries: dir.entries }.at(dir.ino.addr()));
    }
    Ok(dir.entries == 2)
}

/// Checks that `name` can be given to a file.
fn check_name(name: &[u8]) -> Result<(), FsError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(FsError::NameTooLong);
    }
    if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(FsError::Invalid("a name has bytes, and none of them is a slash or zero"));
    }
    Ok(())
}
