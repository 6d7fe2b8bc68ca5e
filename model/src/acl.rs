//! Access control lists (acl(5)), as the model has them: the owner, one named user, the group, one named group, a mask,
//! others. Lists of programs have more entries; the rules are the same.

use crate::op::User;

const NO_ID: u32 = u32::MAX;

/// A list with a mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acl {
    /// Permissions of the file's owner.
    pub owner: u32,
    /// A user and what they may.
    pub user: Option<(u32, u32)>,
    /// Permissions of the file's group.
    pub group: u32,
    /// A group and what it may.
    pub named: Option<(u32, u32)>,
    /// What named users and all groups may at most.
    pub mask: u32,
    /// Permissions of everybody else.
    pub other: u32,
}

impl Acl {
    /// As the system interface passes it (`system.posix_acl_*`): a version, and entries of eight bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        let mut entry = |tag: u16, permissions: u32, id: u32| {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&(permissions as u16).to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        };
        entry(0x01, self.owner, NO_ID);
        if let Some((uid, permissions)) = self.user {
            entry(0x02, permissions, uid);
        }
        entry(0x04, self.group, NO_ID);
        if let Some((gid, permissions)) = self.named {
            entry(0x08, permissions, gid);
        }
        entry(0x10, self.mask, NO_ID);
        entry(0x20, self.other, NO_ID);
        bytes
    }

    /// The nine permission bits that say the same as far as they can.
    #[must_use]
    pub const fn mode(&self) -> u32 {
        self.owner << 6 | self.mask << 3 | self.other
    }

    /// The same list after chmod.
    #[must_use]
    pub const fn with_mode(self, mode: u32) -> Self {
        Self { owner: mode >> 6 & 7, mask: mode >> 3 & 7, other: mode & 7, ..self }
    }

    /// The list of a new file that asks for `mode`, in a directory whose default list this is.
    #[must_use]
    pub const fn inherited(self, mode: u32) -> Self {
        Self { owner: self.owner & (mode >> 6), mask: self.mask & (mode >> 3), other: self.other & mode, ..self }
    }

    /// Whether `user`, of a file that belongs to `uid` and `gid`, has all of `wanted` (4 read, 2 write, 1 search).
    #[must_use]
    pub fn allows(&self, user: &User, uid: u32, gid: u32, wanted: u32) -> bool {
        let has = |permissions: u32| permissions & wanted == wanted;
        if user.uid == uid {
            return has(self.owner);
        }
        if let Some((named, permissions)) = self.user
            && named == user.uid
        {
            return has(permissions & self.mask);
        }
        let mut member = false;
        for (group, permissions) in [Some((gid, self.group)), self.named].into_iter().flatten() {
            if user.is_in(group) {
                if has(permissions & self.mask) {
                    return true;
                }
                member = true;
            }
        }
        !member && has(self.other)
    }
}
