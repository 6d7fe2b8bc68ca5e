//! The filesystem of one node: bytes on disk, locks held, transactions, operations.
//!
//! Laws
//! * No sockets, no FUSE, no clock of its own, no threads: a host supplies devices, locks and time.
//! * Nothing that a disk contains may panic, loop or allocate without bound; every broken rule has a name
//!   ([`error::CorruptKind`]).
//! * An operation stages all that it changes, then reserves journal space for exactly that, then applies it in one
//!   step that cannot fail. An error on the way leaves nothing behind.
//! * A block is changed only under the glock that covers it, and its in-place write follows its commit to the journal.

/// A test build was told to make this mistake: see `mistakes.rs`. Any other build makes none.
#[cfg(mistakes)]
macro_rules! mistake {
    ($name:ident) => {
        $crate::mistakes::is_made($crate::mistakes::Mistake::$name)
    };
}
#[cfg(not(mistakes))]
macro_rules! mistake {
    ($name:ident) => {
        false
    };
}

pub mod acl;
pub mod addr;
pub mod alloc;
pub mod attr;
pub mod blocks;
pub mod cache;
pub mod check;
pub mod dir;
pub mod disk;
pub mod env;
pub mod error;
pub mod format;
pub mod fs;
pub mod gate;
pub mod geometry;
pub mod glock;
pub mod health;
pub mod inode;
pub mod journal;
#[cfg(mistakes)]
pub mod mistakes;
pub mod mount;
pub mod ops;
pub mod quota;
pub mod stage;
pub mod volume;
pub mod xattr;
