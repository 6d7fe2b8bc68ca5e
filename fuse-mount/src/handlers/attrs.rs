//! Attributes and the targets of symbolic links.

use fs_core::attr::{Caller, SetAttr};

use super::{Handlers, refused};
use crate::kernel::{Attributes, Errno, NodeId};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// GETATTR.
    pub async fn getattr(&self, node: NodeId) -> Result<Attributes, Errno> {
        let attr = self.fs.getattr(self.inode(node)?).await.map_err(refused)?;
        Ok(Self::attributes(attr))
    }

    /// SETATTR.
    pub async fn setattr(&self, node: NodeId, change: &SetAttr, caller: Caller) -> Result<Attributes, Errno> {
        let attr = self.fs.setattr(self.inode(node)?, change, caller).await.map_err(refused)?;
        Ok(Self::attributes(attr))
    }

    /// READLINK.
    pub async fn readlink(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        self.fs.readlink(self.inode(node)?).await.map_err(refused)
    }
}
