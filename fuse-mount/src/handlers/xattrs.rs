//! Extended attributes and access control lists.

use fs_core::attr::{Caller, SetXattr};

use super::{Handlers, refused};
use crate::kernel::{Errno, NodeId};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// GETXATTR: the whole value, however much of it was asked for.
    pub async fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>, Errno> {
        self.fs.getxattr(self.inode(node)?, name).await.map_err(refused)
    }

    /// LISTXATTR: all names, each ended by a zero.
    pub async fn listxattr(&self, node: NodeId, caller: Caller) -> Result<Vec<u8>, Errno> {
        self.fs.listxattr(self.inode(node)?, caller).await.map_err(refused)
    }

    /// SETXATTR.
    pub async fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        how: &SetXattr,
        caller: Caller,
    ) -> Result<(), Errno> {
        self.fs.setxattr(self.inode(node)?, name, value, how, caller).await.map_err(refused)
    }

    /// REMOVEXATTR.
    pub async fn removexattr(&self, node: NodeId, name: &[u8]) -> Result<(), Errno> {
        self.fs.removexattr(self.inode(node)?, name).await.map_err(refused)
    }
}
