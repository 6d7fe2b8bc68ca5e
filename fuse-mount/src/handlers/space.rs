//! Places of files on the disk.

use fs_core::attr::{Allocation, Caller};

use super::{Handlers, refused};
use crate::kernel::{Errno, Interruption, NodeId};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// FALLOCATE.
    pub async fn fallocate(
        &self,
        node: NodeId,
        offset_bytes: u64,
        len_bytes: u64,
        how: Allocation,
        caller: Caller,
        interruption: Interruption,
    ) -> Result<(), Errno> {
        let go_on = move || !interruption.has_come();
        self.fs.fallocate(self.inode(node)?, offset_bytes, len_bytes, how, caller, &go_on).await.map_err(refused)
    }
}
