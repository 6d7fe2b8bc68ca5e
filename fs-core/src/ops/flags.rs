//! Flags of inodes (chattr(1)).

use crate::addr::InodeNo;
use crate::attr::{Caller, Capabilities, FileKind, InodeFlags};
use crate::blocks::Edit;
use crate::error::FsError;
use crate::format::dinode::{Dinode, flags};
use crate::format::meta::BlockKind;
use crate::glock::service::Mode;
use crate::stage::Stage;
use crate::volume::Volume;

/// The flags of a file or directory.
///
/// # Errors
/// `Unsupported` for other inodes, which have none; errors of reading.
pub async fn get(volume: &Volume, ino: InodeNo) -> Result<InodeFlags, FsError> {
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    check_kind(&dinode)?;
    Ok(shown(&dinode))
}

fn check_kind(dinode: &Dinode) -> Result<(), FsError> {
    match dinode.kind {
        FileKind::Regular | FileKind::Directory => Ok(()),
        _ => Err(FsError::Unsupported("flags of what is neither a file nor a directory")),
    }
}

/// The bit in which a journaled file, or a directory whose new files shall be so, is marked. Each directory is journaled
/// itself, which is nobody's choice.
const fn journaled_bit(kind: FileKind) -> u32 {
    match kind {
        FileKind::Directory => flags::INHERIT_JDATA,
        _ => flags::JDATA,
    }
}

/// Flags of users, and their bits in a dinode; the journaled ones have a bit of their own.
const BITS: [(InodeFlags, u32); 5] = [
    (InodeFlags::IMMUTABLE, flags::IMMUTABLE),
    (InodeFlags::APPEND_ONLY, flags::APPENDONLY),
    (InodeFlags::NO_ATIME, flags::NOATIME),
    (InodeFlags::SYNC, flags::SYNC),
    (InodeFlags::TOP_DIR, flags::TOPDIR),
];

fn bits(kind: FileKind) -> impl Iterator<Item = (InodeFlags, u32)> {
    BITS.into_iter().chain([(InodeFlags::JOURNALED, journaled_bit(kind))])
}

fn shown(dinode: &Dinode) -> InodeFlags {
    let mut found = InodeFlags::default();
    for (flag, bit) in bits(dinode.kind).chain([(InodeFlags::HASHED, flags::EXHASH)]) {
        if dinode.flags & bit != 0 {
            found = found.union(flag);
        }
    }
    found
}

/// Sets those flags of `within` that are in `wanted`, and takes the others of `within` away. That a directory is hashed
/// stays as it is.
///
/// # Errors
/// `NotPermitted` for anybody but the owner, and without the capability for what makes an inode immutable or append-only
/// or ends that; `Invalid` for a flag that is only for directories; `Unsupported`, `ReadOnly`; errors of reading and of
/// the journal.
pub async fn set(
    volume: &Volume,
    ino: InodeNo,
    wanted: InodeFlags,
    within: InodeFlags,
    caller: Caller,
    capabilities: Capabilities,
) -> Result<(), FsError> {
    volume.check_writable()?;
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    check_kind(&dinode)?;
    if caller.uid != dinode.uid && !capabilities.owner {
        return Err(FsError::NotPermitted("the file is somebody else's"));
    }
    if dinode.kind != FileKind::Directory && wanted.contains(InodeFlags::TOP_DIR) {
        return Err(FsError::Invalid("a flag that is only for directories"));
    }
    let mut new = dinode.flags;
    for (flag, bit) in bits(dinode.kind).filter(|(flag, _)| within.contains(*flag)) {
        new = if wanted.contains(flag) { new | bit } else { new & !bit };
    }
    let changed = new ^ dinode.flags;
    if changed == 0 {
        return Ok(());
    }
    if changed & (flags::IMMUTABLE | flags::APPENDONLY) != 0 && !capabilities.immutable {
        return Err(FsError::NotPermitted("this flag needs the capability CAP_LINUX_IMMUTABLE"));
    }
    if changed & flags::JDATA != 0 {
        change_of_way(volume, &dinode).await?;
    }
    let mut stage = Stage::new(volume, ino);
    let mut dinode = volume.dinode(ino).await?;
    dinode.flags = new;
    dinode.ctime = stage.time();
    dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
    stage.commit().await?;
    Ok(())
}

/// The content of a file is to go another way from now on: nothing of it may be left on the old one. Its lock is held, so
/// nobody writes to it meanwhile.
async fn change_of_way(volume: &Volume, dinode: &Dinode) -> Result<(), FsError> {
    if dinode.is_journaled() {
        // An image that is replayed later must not go over what is then written past the log.
        volume.journal.empty().await
    } else {
        // Data that waits to be written in place must not get there before the log that it is in by then.
        volume.journal.sync_inode(dinode.ino).await
    }
}
