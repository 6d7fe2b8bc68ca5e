//! Ioctls: flags of inodes, the label, trimming, quotas.

use super::{Handlers, refused};
use crate::kernel::{Asker, Errno, Interruption, Ioctl, IoctlAnswer, NodeId, Trim};

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// IOCTL.
    pub async fn ioctl(
        &self,
        node: NodeId,
        request: Ioctl,
        asker: Asker,
        interruption: Interruption,
    ) -> Result<IoctlAnswer, Errno> {
        let ino = self.inode(node)?;
        let Asker { process, capabilities } = asker;
        match request {
            Ioctl::Flags => self.fs.flags(ino).await.map(IoctlAnswer::Flags),
            Ioctl::ExtendedFlags => self.fs.flags(ino).await.map(IoctlAnswer::ExtendedFlags),
            Ioctl::SetFlags { wanted, within } => {
                let set = self.fs.set_flags(ino, wanted, within, process.caller, capabilities).await;
                // The kernel does not know that an ioctl changes the time of change.
                self.changed(node);
                set.map(|()| IoctlAnswer::Done)
            }
            Ioctl::Quota { command, record } => {
                return self.quota_ioctl(command, &record, asker).await.map(IoctlAnswer::Quota);
            }
            Ioctl::Label => Ok(IoctlAnswer::Label(self.fs.label())),
            Ioctl::SetLabel(label) => self.fs.set_label(&label, capabilities).await.map(|()| IoctlAnswer::Done),
            Ioctl::Trim(trim) => {
                let go_on = move || !interruption.has_come();
                let Trim { start_bytes, len_bytes, min_bytes } = trim;
                let trimmed = self.fs.trim(start_bytes, len_bytes, min_bytes, capabilities, &go_on).await;
                trimmed.map(|len_bytes| IoctlAnswer::Trimmed(Trim { len_bytes, ..trim }))
            }
        }
        .map_err(refused)
    }
}
