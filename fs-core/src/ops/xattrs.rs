//! Extended attributes: reading, listing, setting, removing.
//!
//! Who may use which namespace is checked by the kernel before it asks (xattr(7)); here is what depends on the volume
//! and the inode.

use crate::acl;
use crate::addr::InodeNo;
use crate::attr::{Caller, FileKind, SetXattr, XattrMode};
use crate::blocks::Edit;
use crate::error::FsError;
use crate::format::dinode::Dinode;
use crate::format::meta::BlockKind;
use crate::format::xattr::{FORMAT_WITH_TRUSTED, NAME_BYTES_MAX, Namespace, VALUE_BYTES_MAX};
use crate::glock::service::Mode;
use crate::ops::acls;
use crate::ops::attrs::check_changeable;
use crate::stage::Stage;
use crate::volume::Volume;
use crate::xattr::{self, Name, change};

/// Of `system.`, access control lists are all there is, and only where they count.
fn is_list(volume: &Volume, text: &[u8]) -> bool {
    volume.options.acl && (text == acl::ACCESS || text == acl::DEFAULT)
}

/// Takes a full name apart.
fn resolve<'a>(volume: &Volume, name: &'a [u8]) -> Result<Name<'a>, FsError> {
    let (namespace, text) = Namespace::split(name).ok_or(FsError::Unsupported("attributes of this namespace"))?;
    match namespace {
        Namespace::System if !is_list(volume, text) => return Err(FsError::Unsupported("this system attribute")),
        Namespace::Trusted if volume.superblock.fs_format < FORMAT_WITH_TRUSTED => {
            return Err(FsError::Unsupported("trusted attributes on a volume of this format"));
        }
        _ => {}
    }
    match text.len() {
        0 => Err(FsError::Invalid("an attribute without a name")),
        1..=NAME_BYTES_MAX => Ok(Name { namespace, text }),
        _ => Err(FsError::OutOfRange("the attribute's name is too long")),
    }
}

/// The inode may have attributes of the namespace: `user.` on files and directories, where permissions mean something
/// (xattr(7)), lists on everything but symbolic links.
///
/// # Errors
/// `NotPermitted`, `Unsupported`.
fn check_kind(dinode: &Dinode, namespace: Namespace) -> Result<(), FsError> {
    match (namespace, dinode.kind) {
        (Namespace::User, FileKind::Regular | FileKind::Directory) => Ok(()),
        (Namespace::User, _) => Err(FsError::NotPermitted("only files and directories have user attributes")),
        (Namespace::System, FileKind::Symlink) => Err(FsError::Unsupported("access control lists of symbolic links")),
        _ => Ok(()),
    }
}

/// The value of an attribute. No disk is read where the inode has none at all.
///
/// # Errors
/// `NoAttribute`, `Unsupported`, `Invalid`, `OutOfRange`; errors of reading.
pub async fn getxattr(volume: &Volume, ino: InodeNo, name: &[u8]) -> Result<Vec<u8>, FsError> {
    let name = resolve(volume, name)?;
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    match check_kind(&dinode, name.namespace) {
        Err(FsError::NotPermitted(_)) => return Err(FsError::NoAttribute),
        checked => checked?,
    }
    let format = volume.superblock.fs_format;
    let found = xattr::find(&*volume.cache, &dinode, format, name).await?.ok_or(FsError::NoAttribute)?;
    if found.value_bytes() > volume.block_size().bytes() {
        volume.cache.prefetch(&found.blocks(), BlockKind::XATTR_DATA).await;
    }
    xattr::value(&*volume.cache, &found).await
}

/// All names, each ended by a zero. Those of `trusted.` are shown to root only (xattr(7)).
///
/// # Errors
/// Errors of reading.
pub async fn listxattr(volume: &Volume, ino: InodeNo, caller: Caller) -> Result<Vec<u8>, FsError> {
    let (_guard, dinode) = volume.lock_inode(ino, Mode::Shared).await?;
    let mut names = Vec::new();
    let mut add = |name: Name<'_>| {
        let shown = match name.namespace {
            Namespace::Trusted => caller.uid == 0,
            Namespace::System => is_list(volume, name.text),
            Namespace::User | Namespace::Security => true,
        };
        if shown {
            names.extend_from_slice(name.namespace.prefix());
            names.extend_from_slice(name.text);
            names.push(0);
        }
    };
    xattr::list(&*volume.cache, &dinode, volume.superblock.fs_format, &mut add).await?;
    Ok(names)
}

/// Sets an attribute: afterwards it has the new value, and after a crash the new or the old one. An access list changes
/// the permission bits with it.
///
/// # Errors
/// `Exists` and `NoAttribute` as `how` asks for; `ListTooLong` for a value of more than 64 KiB or a list with too many
/// entries, `OutOfRange` for one that the volume's block size does not allow; `Denied` for a default list of anything but
/// a directory; `Invalid`, `Unsupported`, `NotPermitted`, `ReadOnly`, `NoSpace`,
/// `QuotaExceeded`; errors of reading and of the journal.
pub async fn setxattr(
    volume: &Volume,
    ino: InodeNo,
    name: &[u8],
    value: &[u8],
    how: &SetXattr,
    caller: Caller,
) -> Result<(), FsError> {
    volume.check_writable()?;
    let name = resolve(volume, name)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(FsError::ListTooLong("a value of more than 64 KiB"));
    }
    let (_guard, mut dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    check_kind(&dinode, name.namespace)?;
    check_changeable(&dinode)?;
    let mut stage = Stage::new(volume, ino).on_behalf_of(caller);
    if name.namespace == Namespace::System {
        acls::set(&mut stage, &mut dinode, name, value, &how.setgid, caller).await?;
    } else {
        if how.mode != XattrMode::Any {
            let exists = xattr::find(&stage, &dinode, volume.superblock.fs_format, name).await?.is_some();
            match (how.mode, exists) {
                (XattrMode::Create, true) => return Err(FsError::Exists),
                (XattrMode::Replace, false) => return Err(FsError::NoAttribute),
                _ => {}
            }
        }
        change::set(&mut stage, &mut dinode, name, value).await?;
    }
    finish(stage, dinode).await
}

/// Removes an attribute.
///
/// # Errors
/// `NoAttribute`, except for lists, which nobody has to have; `Invalid`, `Unsupported`, `OutOfRange`, `NotPermitted`,
/// `ReadOnly`; errors of reading and of the journal.
pub async fn removexattr(volume: &Volume, ino: InodeNo, name: &[u8]) -> Result<(), FsError> {
    volume.check_writable()?;
    let name = resolve(volume, name)?;
    let (_guard, mut dinode) = volume.lock_inode(ino, Mode::Exclusive).await?;
    check_kind(&dinode, name.namespace)?;
    check_changeable(&dinode)?;
    let mut stage = Stage::new(volume, ino);
    if change::remove(&mut stage, &mut dinode, name).await? {
        finish(stage, dinode).await
    } else if name.namespace == Namespace::System {
        Ok(())
    } else {
        Err(FsError::NoAttribute)
    }
}

async fn finish(mut stage: Stage<'_>, mut dinode: Dinode) -> Result<(), FsError> {
    dinode.ctime = stage.time();
    dinode.write_to(stage.edit(dinode.ino.addr(), BlockKind::DINODE).await?);
    stage.commit().await?;
    Ok(())
}
