//! Who may do what: permission bits, access control lists, the sticky bit, owners (path_resolution(7), acl(5)). On a
//! mounted filesystem the kernel decides this before it asks the filesystem.

use crate::errno::{EACCES, EPERM, Errno};
use crate::op::{Kind, User};
use crate::tree::Inode;

/// Read.
pub const READ: u32 = 4;
/// Write; of directories, change entries.
pub const WRITE: u32 = 2;
/// Search a directory.
pub const SEARCH: u32 = 1;

/// The nine bits, or the list, give `user` all of `wanted`. The superuser may read, write and search everything.
///
/// # Errors
/// EACCES.
pub fn check(user: &User, inode: &Inode, wanted: u32) -> Result<(), Errno> {
    let bits = if user.uid == inode.uid {
        inode.mode >> 6
    } else if user.is_in(inode.gid) {
        inode.mode >> 3
    } else {
        inode.mode
    };
    let allowed = match &inode.access {
        // Where the group's bits are all clear, Linux does not look at the list: who is named there counts as another.
        Some(list) if inode.mode & 0o070 != 0 => list.allows(user, inode.uid, inode.gid, wanted),
        _ => bits & wanted == wanted,
    };
    if user.is_root() || allowed { Ok(()) } else { Err(EACCES) }
}

/// `user` owns the inode, or is the superuser.
///
/// # Errors
/// EPERM.
pub const fn check_owner(user: &User, inode: &Inode) -> Result<(), Errno> {
    if user.is_root() || user.uid == inode.uid { Ok(()) } else { Err(EPERM) }
}

/// `user` may take the name of `victim` out of `dir`: whoever writes to the directory, but in a sticky one only the owners.
///
/// # Errors
/// EACCES, EPERM.
pub fn check_removal(user: &User, dir: &Inode, victim: &Inode) -> Result<(), Errno> {
    check(user, dir, WRITE | SEARCH)?;
    let sticky = dir.mode & 0o1000 != 0;
    let owns = user.uid == victim.uid || user.uid == dir.uid;
    if sticky && !owns && !user.is_root() { Err(EPERM) } else { Ok(()) }
}

/// `user` may give `file` another name although they do not own it (proc(5), `protected_hardlinks`).
///
/// # Errors
/// EPERM.
pub fn check_link(user: &User, file: &Inode) -> Result<(), Errno> {
    let privileged = file.mode & 0o4000 != 0 || file.mode & 0o2010 == 0o2010;
    let harmless = file.kind == Kind::File && !privileged && check(user, file, READ | WRITE).is_ok();
    if harmless { Ok(()) } else { check_owner(user, file) }
}
