//! Permissions, owners, extended attributes and lists.

use super::{Id, Tree};
use crate::access::WRITE;
use crate::acl::Acl;
use crate::errno::{EACCES, EOPNOTSUPP, EPERM, Errno};
use crate::op::{Answer, Kind, Outcome, Path, User};

impl Tree {
    pub(super) fn chmod(&mut self, user: &User, path: &Path, mode: u32) -> Outcome {
        let id = self.resolve(user, path)?;
        if self.inode(id).kind == Kind::Symlink {
            return Err(EOPNOTSUPP);
        }
        self.check_owner(user, id)?;
        let member = user.is_root() || user.is_in(self.inode(id).gid);
        let strip = if self.kernel() && !member { 0o2000 } else { 0 };
        let inode = self.edit(id);
        inode.mode = mode & !strip;
        inode.access = inode.access.map(|list| list.with_mode(mode));
        Ok(Answer::Done)
    }

    pub(super) fn chown(&mut self, user: &User, path: &Path, uid: Option<u32>, gid: Option<u32>) -> Outcome {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if self.kernel() && !user.is_root() {
            let keeps_owner = uid.is_none_or(|uid| uid == inode.uid);
            let own_group = gid.is_none_or(|gid| user.is_in(gid) || gid == inode.gid);
            if user.uid != inode.uid || !keeps_owner || !own_group {
                return Err(EPERM);
            }
        }
        let inode = self.edit(id);
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        if inode.kind != Kind::Directory {
            inode.drop_privileges();
        }
        Ok(Answer::Done)
    }

    /// An inode whose attributes of `user.` are to be changed (xattr(7)).
    pub(super) fn xattr_target(&self, user: &User, path: &Path) -> Result<Id, Errno> {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if !matches!(inode.kind, Kind::File | Kind::Directory) {
            return Err(EPERM);
        }
        if inode.kind == Kind::Directory && inode.mode & 0o1000 != 0 {
            self.check_owner(user, id)?;
        }
        self.check(user, id, WRITE)?;
        Ok(id)
    }

    pub(super) fn set_acl(&mut self, user: &User, path: &Path, default: bool, acl: Option<Acl>) -> Outcome {
        let id = self.resolve(user, path)?;
        let inode = self.inode(id);
        if inode.kind == Kind::Symlink {
            return Err(EOPNOTSUPP);
        }
        if default && inode.kind != Kind::Directory {
            return if acl.is_some() { Err(EACCES) } else { Ok(Answer::Done) };
        }
        self.check_owner(user, id)?;
        let member = user.is_root() || user.is_in(inode.gid);
        let inode = self.edit(id);
        if default {
            inode.default = acl;
            return Ok(Answer::Done);
        }
        inode.access = acl;
        if let Some(list) = acl {
            inode.mode = (inode.mode & !0o777) | list.mode();
            if !member {
                inode.mode &= !0o2000;
            }
        }
        Ok(Answer::Done)
    }
}
