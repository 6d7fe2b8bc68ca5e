//! The label of the volume: the lock table of the superblock.

use block::device::Durability;

use crate::attr::Capabilities;
use crate::error::FsError;
use crate::format::superblock::{LOCK_PROTOCOL, NAME_BYTES, Superblock, set_lock_table};
use crate::volume::Volume;

/// Gives the volume another label. It is on the disk on return; the superblock has one copy, of which one sector changes.
///
/// # Errors
/// `NotPermitted` without the capability; `Invalid` for what is too long or no text; `Unsupported` where the lock table
/// is that of another implementation, which finds its cluster by it; `ReadOnly`; device errors, `Corrupt`.
pub async fn set(volume: &Volume, label: &[u8], capabilities: Capabilities) -> Result<(), FsError> {
    volume.check_writable()?;
    if !capabilities.system {
        return Err(FsError::NotPermitted("only who has the capability CAP_SYS_ADMIN changes the label"));
    }
    let text = std::str::from_utf8(label).ok().filter(|text| !text.chars().any(char::is_control));
    let text = text.ok_or(FsError::Invalid("a label that is no text"))?;
    if text.len() >= NAME_BYTES {
        return Err(FsError::Invalid("a label of more than 63 bytes"));
    }
    if volume.superblock.lock_proto != LOCK_PROTOCOL {
        return Err(FsError::Unsupported(
            "changing the lock table of a volume of GFS2 while it is mounted (use tunegfs2)",
        ));
    }
    let _turn = volume.labelling.lock().await;
    let addr = Superblock::addr(volume.block_size());
    let mut block = volume.disk.read(addr, 1).await?;
    if Superblock::parse(&block)?.uuid != volume.superblock.uuid {
        return Err(FsError::Invalid("the volume is another one by now"));
    }
    set_lock_table(&mut block, text);
    volume.disk.write(addr, block, Durability::Durable).await?;
    text.clone_into(&mut volume.label.lock());
    Ok(())
}
