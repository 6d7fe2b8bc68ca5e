//! Space on the volume.

use super::{Handlers, refused};
use crate::kernel::Errno;

/// What STATFS answers, in blocks of the filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatfsAnswer {
    /// Block size, in bytes.
    pub block_size_bytes: u32,
    /// Blocks that can hold files.
    pub blocks_total: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Blocks that ordinary users can have.
    pub blocks_available: u64,
    /// Inodes in use and inodes that could be made.
    pub inodes_total: u64,
    /// Inodes that could be made: every free block can become one.
    pub inodes_free: u64,
    /// Longest name, in bytes.
    pub name_max_bytes: u32,
}

impl Handlers {
    /// STATFS.
    ///
    /// # Errors
    /// What the operation's error says.
    pub async fn statfs(&self) -> Result<StatfsAnswer, Errno> {
        let statfs = self.fs.statfs().await.map_err(refused)?;
        Ok(StatfsAnswer {
            block_size_bytes: statfs.block_size_bytes,
            blocks_total: statfs.blocks_total,
            blocks_free: statfs.blocks_free,
            blocks_available: statfs.blocks_free,
            inodes_total: statfs.inodes_used.saturating_add(statfs.blocks_free),
            inodes_free: statfs.blocks_free,
            name_max_bytes: statfs.name_max_bytes,
        })
    }
}
