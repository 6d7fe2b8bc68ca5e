//! The content of files.

use fs_core::attr::{Caller, OpenFlags, SeekTarget, WriteFlags};
use fs_core::fs::ReadData;

use super::{Handlers, refused};
use crate::kernel::{Errno, NodeId, Opened};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// How a file is open while no other node can change it: pages stay.
    pub(super) fn opened() -> Opened {
        Opened { keep_cache: true }
    }

    /// OPEN.
    pub async fn open(&self, node: NodeId, flags: OpenFlags, caller: Caller) -> Result<Opened, Errno> {
        self.fs.open(self.inode(node)?, flags, caller).await.map_err(refused)?;
        Ok(Self::opened())
    }

    /// READ.
    pub async fn read(&self, node: NodeId, offset_bytes: u64, len_bytes: u32) -> Result<ReadData, Errno> {
        self.fs.read(self.inode(node)?, offset_bytes, len_bytes).await.map_err(refused)
    }

    /// WRITE: how many bytes were written.
    pub async fn write(
        &self,
        node: NodeId,
        offset_bytes: u64,
        data: Vec<u8>,
        flags: WriteFlags,
        caller: Caller,
    ) -> Result<u32, Errno> {
        let written = self.fs.write(self.inode(node)?, offset_bytes, data, flags, caller).await;
        written.map_err(refused)
    }

    /// LSEEK for data or a hole.
    pub async fn seek(&self, node: NodeId, offset_bytes: i64, target: SeekTarget) -> Result<i64, Errno> {
        let offset = u64::try_from(offset_bytes).map_err(|_| Errno::NXIO)?;
        let found = self.fs.seek(self.inode(node)?, offset, target).await.map_err(refused)?;
        i64::try_from(found).map_err(|_| Errno::NXIO)
    }

    /// FSYNC and FSYNCDIR.
    pub async fn fsync(&self, node: NodeId) -> Result<(), Errno> {
        self.fs.fsync(self.inode(node)?).await.map_err(refused)
    }

    /// SYNCFS.
    pub async fn syncfs(&self) -> Result<(), Errno> {
        self.fs.sync().await.map_err(refused)
    }
}
