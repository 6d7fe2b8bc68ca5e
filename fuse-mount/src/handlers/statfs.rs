//! Space on the volume.

use super::{Handlers, refused};
use crate::kernel::{Errno, StatfsAnswer};

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
