//! Access control lists where they meet modes: setting them, chmod, new inodes.

use crate::acl::{self, Acl};
use crate::attr::{Caller, FileKind, Setgid};
use crate::blocks::Blocks;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::Dinode;
use crate::format::xattr::Namespace;
use crate::stage::Stage;
use crate::volume::Volume;
use crate::xattr::{self, Name, change};

const ACCESS: Name<'static> = Name { namespace: Namespace::System, text: acl::ACCESS };
const DEFAULT: Name<'static> = Name { namespace: Namespace::System, text: acl::DEFAULT };
const SETGID: u32 = 0o2000;

/// A list that the inode has.
async fn read(volume: &Volume, blocks: &impl Blocks, dinode: &Dinode, name: Name<'_>) -> Result<Option<Acl>, FsError> {
    let Some(found) = xattr::find(blocks, dinode, volume.superblock.fs_format, name).await? else { return Ok(None) };
    let value = xattr::value(blocks, &found).await?;
    Acl::parse(&value).map_err(|_| CorruptKind::AccessList.at(found.block))
}

/// Sets one of the two lists, or removes it where `value` holds no entries. Changes `dinode`, which the caller writes
/// back.
///
/// # Errors
/// `Denied` for a default list of anything but a directory, `ListTooLong`, `Invalid`, `Unsupported`, `NoSpace`; errors
/// of reading.
pub(super) async fn set(
    stage: &mut Stage<'_>,
    dinode: &mut Dinode,
    name: Name<'_>,
    value: &[u8],
    setgid: &Setgid,
    caller: Caller,
) -> Result<(), FsError> {
    let list = Acl::parse(value)?;
    if list.as_ref().is_some_and(|list| list.len() > acl::entries_max(stage.block_size())) {
        return Err(FsError::ListTooLong("an access control list with too many entries"));
    }
    if name == DEFAULT && list.is_some() && dinode.kind != FileKind::Directory {
        return Err(FsError::Denied("only directories have default access control lists"));
    }
    let Some(list) = list else {
        change::remove(stage, dinode, name).await?;
        return Ok(());
    };
    if name == ACCESS {
        dinode.permissions = (dinode.permissions & !0o777) | list.mode();
        if !keeps_setgid(setgid, dinode, caller) {
            dinode.permissions &= !SETGID;
        }
        if list.is_mode() {
            change::remove(stage, dinode, name).await?;
            return Ok(());
        }
    }
    change::set(stage, dinode, name, &list.to_bytes()).await
}

/// As for chmod: only members of the file's group, and root, can make or keep a file setgid (POSIX chmod).
fn keeps_setgid(setgid: &Setgid, dinode: &Dinode, caller: Caller) -> bool {
    match setgid {
        Setgid::Keep => true,
        Setgid::Clear => false,
        Setgid::KeepIfMember(groups) => caller.uid == 0 || caller.gid == dinode.gid || groups.contains(&dinode.gid),
    }
}

/// The permission bits of `dinode` were set: its access list follows. Changes `dinode`, which the caller writes back.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub(super) async fn follow_mode(stage: &mut Stage<'_>, dinode: &mut Dinode) -> Result<(), FsError> {
    let volume = stage.volume();
    if !volume.options.acl || dinode.eattr.is_none() || dinode.kind == FileKind::Symlink {
        return Ok(());
    }
    let Some(mut list) = read(volume, &*stage, dinode, ACCESS).await? else { return Ok(()) };
    list.set_mode(dinode.permissions);
    change::set(stage, dinode, ACCESS, &list.to_bytes()).await
}

/// What a new inode gets from its directory and its maker.
#[derive(Debug)]
pub(super) struct Inherited {
    /// Its nine permission bits, and setuid, setgid and sticky as asked for.
    pub(super) permissions: u32,
    access: Option<Acl>,
    default: Option<Acl>,
}

/// Permissions and lists of a new inode in `dir`: the umask counts only where the directory has no default list (acl(5),
/// "Object creation and default ACLs"), and not for symbolic links, whose permissions mean nothing.
///
/// # Errors
/// `Corrupt`; errors of reading.
pub(super) async fn inherit(
    volume: &Volume,
    dir: &Dinode,
    kind: FileKind,
    permissions: u32,
    umask: u32,
) -> Result<Inherited, FsError> {
    let plain = |permissions| Inherited { permissions, access: None, default: None };
    if kind == FileKind::Symlink {
        return Ok(plain(permissions));
    }
    let default = if volume.options.acl { read(volume, &*volume.cache, dir, DEFAULT).await? } else { None };
    let Some(default) = default else { return Ok(plain(permissions & !(umask & 0o777))) };
    let access = default.inherited(permissions);
    let permissions = (permissions & !0o777) | access.mode();
    Ok(Inherited {
        permissions,
        access: (!access.is_mode()).then_some(access),
        default: (kind == FileKind::Directory).then_some(default),
    })
}

/// Gives a new inode its lists. Changes `dinode`, which the caller writes back.
///
/// # Errors
/// `NoSpace`; errors of reading.
pub(super) async fn give(stage: &mut Stage<'_>, dinode: &mut Dinode, inherited: &Inherited) -> Result<(), FsError> {
    for (name, list) in [(ACCESS, &inherited.access), (DEFAULT, &inherited.default)] {
        if let Some(list) = list {
            change::set(stage, dinode, name, &list.to_bytes()).await?;
        }
    }
    Ok(())
}
