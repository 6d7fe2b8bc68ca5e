//! Where blocks are read from and changed: the two traits that directories, pointer trees and allocation are written
//! against. The block cache, a staged transaction, a bare device (for tools) and test doubles implement them.

use std::future::Future;
use std::sync::Arc;

use crate::addr::{BlockAddr, InodeNo};
use crate::attr::Timestamp;
use crate::error::FsError;
use crate::format::block_size::BlockSize;
use crate::format::meta::BlockKind;

/// The content of a block at one moment. Later changes make a new one.
pub type BlockImage = Arc<[u8]>;

/// Reads blocks. What is read under a glock stays true while that is held.
pub trait Blocks: Sync {
    /// Block size of the volume.
    fn block_size(&self) -> BlockSize;

    /// The metadata block at `addr`; its magic number, type and checksum have been checked.
    ///
    /// # Errors
    /// `Corrupt`, `Device`, `Withdrawn`.
    fn meta(&self, addr: BlockAddr, kind: BlockKind) -> impl Future<Output = Result<BlockImage, FsError>> + Send;

    /// The block of journaled file data at `addr`, which has no header.
    ///
    /// # Errors
    /// `Corrupt` for an address outside the volume, `Device`, `Withdrawn`.
    fn data(&self, addr: BlockAddr) -> impl Future<Output = Result<BlockImage, FsError>> + Send;
}

/// Changes blocks. Nothing that is changed here can be seen by anybody else, or on disk, before the transaction is
/// applied as a whole; when it is dropped instead, nothing has happened. So every step may fail.
pub trait Edit: Blocks + Send {
    /// The metadata block at `addr`, to be changed.
    ///
    /// # Errors
    /// As [`Blocks::meta`].
    fn edit(&mut self, addr: BlockAddr, kind: BlockKind) -> impl Future<Output = Result<&mut [u8], FsError>> + Send;

    /// A new metadata block at `addr`, which was allocated before: its header, and zeroes.
    fn create(&mut self, addr: BlockAddr, kind: BlockKind) -> &mut [u8];

    /// Allocates a block for `owner` (state used), near `goal` if possible.
    ///
    /// # Errors
    /// `NoSpace`, and as [`Blocks::meta`].
    fn allocate(&mut self, owner: InodeNo, goal: BlockAddr) -> impl Future<Output = Result<BlockAddr, FsError>> + Send;

    /// Frees a block that was in state used, and whose content was metadata or journaled data.
    ///
    /// # Errors
    /// `Corrupt` for a block that no bitmap describes or that is not in use.
    fn free_meta(&mut self, addr: BlockAddr) -> impl Future<Output = Result<(), FsError>> + Send;

    /// The time of this transaction.
    fn now(&self) -> Timestamp;
}
