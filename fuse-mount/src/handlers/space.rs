//! Places of files on the disk.

use fs_core::attr::{Allocation, Caller};
use fs_core::ops::copy::Spot;

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

    /// COPY_FILE_RANGE: from node and offset to node and offset; how many bytes were copied.
    pub async fn copy_file_range(
        &self,
        source: (NodeId, u64),
        target: (NodeId, u64),
        len_bytes: u64,
        caller: Caller,
        interruption: Interruption,
    ) -> Result<u64, Errno> {
        let spot = |(node, offset)| Ok(Spot { ino: self.inode(node)?, offset });
        let go_on = move || !interruption.has_come();
        self.fs.copy_range(spot(source)?, spot(target)?, len_bytes, caller, &go_on).await.map_err(refused)
    }
}
