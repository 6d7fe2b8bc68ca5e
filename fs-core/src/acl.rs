//! Access control lists (POSIX 1003.1e draft 17), in the form in which Linux passes them and GFS2 stores them: a version
//! and entries of 8 bytes, little-endian. No I/O.
//!
//! The nine permission bits of an inode and its access list say the same: owner, mask (or owning group, where there is no
//! mask), others. A list that says no more than nine bits can is not stored.

use crate::error::FsError;
use crate::format::block_size::BlockSize;

/// Name of the list that governs access, behind `system.`.
pub const ACCESS: &[u8] = b"posix_acl_access";
/// Name of the list that new entries of a directory inherit, behind `system.`.
pub const DEFAULT: &[u8] = b"posix_acl_default";

/// The only version of the form.
const VERSION: u32 = 2;
/// Size of the version, in bytes.
const HEADER_BYTES: usize = 4;
/// What stands for an id in entries that have none.
const NO_ID: u32 = u32::MAX;
/// Read, write, execute.
const ALL: u16 = 7;

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The file's owner.
    Owner,
    /// The user of this number.
    User(u32),
    /// The file's group.
    OwningGroup,
    /// The group of this number.
    Group(u32),
    /// The limit for named users, named groups and the file's group.
    Mask,
    /// Everybody else.
    Other,
}

impl Subject {
    const fn from_tag(tag: u16, id: u32) -> Option<Self> {
        Some(match tag {
            0x01 => Self::Owner,
            0x02 if id != NO_ID => Self::User(id),
            0x04 => Self::OwningGroup,
            0x08 if id != NO_ID => Self::Group(id),
            0x10 => Self::Mask,
            0x20 => Self::Other,
            _ => return None,
        })
    }

    const fn tag(self) -> (u16, u32) {
        match self {
            Self::Owner => (0x01, NO_ID),
            Self::User(id) => (0x02, id),
            Self::OwningGroup => (0x04, NO_ID),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, NO_ID),
            Self::Other => (0x20, NO_ID),
        }
    }

    /// Entries stand in this order, as Linux asks for it; those of users, and of groups, in any order among themselves.
    const fn rank(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::User(_) => 1,
            Self::OwningGroup => 2,
            Self::Group(_) => 3,
            Self::Mask => 4,
            Self::Other => 5,
        }
    }
}

/// One line of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    subject: Subject,
    /// Read 4, write 2, execute 1.
    permissions: u16,
}

/// A list that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    entries: Vec<Entry>,
}

/// Entries of a list at most: what the kernel's driver accepts.
#[must_use]
pub const fn entries_max(size: BlockSize) -> usize {
    (300 << size.shift()) >> BlockSize::MAX.shift()
}

impl Acl {
    /// Reads the form; `None` for one without entries, which stands for no list.
    ///
    /// # Errors
    /// `Unsupported` for another version, `Invalid` for anything else that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FsError> {
        const WRONG: FsError = FsError::Invalid("an access control list that makes no sense");
        if bytes.is_empty() {
            return Ok(None);
        }
        let (version, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(WRONG)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(FsError::Unsupported("this version of access control lists"));
        }
        let (chunks, []) = rest.as_chunks::<8>() else { return Err(WRONG) };
        let entries: Option<Vec<Entry>> = chunks.iter().map(Self::entry).collect();
        let acl = Self { entries: entries.ok_or(WRONG)? };
        match acl.entries.is_empty() {
            true => Ok(None),
            false if acl.is_valid() => Ok(Some(acl)),
            false => Err(WRONG),
        }
    }

    fn entry(bytes: &[u8; 8]) -> Option<Entry> {
        let [a, b, c, d, id @ ..] = *bytes;
        let permissions = u16::from_le_bytes([c, d]);
        let subject = Subject::from_tag(u16::from_le_bytes([a, b]), u32::from_le_bytes(id))?;
        (permissions <= ALL).then_some(Entry { subject, permissions })
    }

    /// One entry each for owner, owning group and others; a mask, at most one, and one if anybody is named; in order.
    fn is_valid(&self) -> bool {
        let count = |rank: u8| self.entries.iter().filter(|entry| entry.subject.rank() == rank).count();
        let named = count(1) + count(3) > 0;
        let single = [0, 2, 5].into_iter().all(|rank| count(rank) == 1);
        let masks = count(4);
        single && masks <= 1 && (masks == 1 || !named) && self.entries.is_sorted_by_key(|entry| entry.subject.rank())
    }

    /// Writes the form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for Entry { subject, permissions } in &self.entries {
            let (tag, id) = subject.tag();
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&permissions.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// It has none; never true.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn permissions(&self, subject: Subject) -> Option<u32> {
        self.entries.iter().find(|entry| entry.subject == subject).map(|entry| u32::from(entry.permissions))
    }

    /// The entry that the group's three bits of the mode stand for.
    fn group_class(&self) -> Subject {
        if self.permissions(Subject::Mask).is_some() { Subject::Mask } else { Subject::OwningGroup }
    }

    /// The nine permission bits that go with the list.
    #[must_use]
    pub fn mode(&self) -> u32 {
        let bits = |subject| self.permissions(subject).unwrap_or(0);
        bits(Subject::Owner) << 6 | bits(self.group_class()) << 3 | bits(Subject::Other)
    }

    /// The nine bits say everything.
    #[must_use]
    pub fn is_mode(&self) -> bool {
        self.entries.len() == 3
    }

    fn limit(&mut self, mode: u32, keep: bool) {
        let group_class = self.group_class();
        for entry in &mut self.entries {
            let shift = match entry.subject {
                Subject::Owner => 6,
                Subject::Other => 0,
                subject if subject == group_class => 3,
                _ => continue,
            };
            let bits = u16::try_from((mode >> shift) & 7).unwrap_or(0);
            entry.permissions = if keep { entry.permissions & bits } else { bits };
        }
    }

    /// Follows a change of the nine permission bits (acl(5), "Correspondence between ACL entries and file permission
    /// bits").
    pub fn set_mode(&mut self, mode: u32) {
        self.limit(mode, false);
    }

    /// What a new inode gets whose directory has this default list and that is made with `mode`: its access list, whose
    /// [`Acl::mode`] are the permission bits (acl(5), "Object creation and default ACLs").
    #[must_use]
    pub fn inherited(&self, mode: u32) -> Self {
        let mut acl = self.clone();
        acl.limit(mode, true);
        acl
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    const PLAIN: [(u16, u16, u32); 3] = [(1, 6, NO_ID), (4, 4, NO_ID), (32, 0, NO_ID)];
    const FULL: [(u16, u16, u32); 6] =
        [(1, 7, NO_ID), (2, 6, 1000), (4, 5, NO_ID), (8, 7, 50), (16, 7, NO_ID), (32, 1, NO_ID)];

    #[test]
    fn lists_survive_the_way_there_and_back() {
        for entries in [&PLAIN[..], &FULL] {
            let acl = Acl::parse(&bytes(entries)).unwrap().unwrap();
            assert_eq!(acl.to_bytes(), bytes(entries));
        }
        assert_eq!(Acl::parse(&[]).unwrap(), None);
        assert_eq!(Acl::parse(&bytes(&[])).unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut wrong: Vec<Vec<(u16, u16, u32)>> = Vec::new();
        for missing in 0..3 {
            let mut entries = PLAIN.to_vec();
            entries.remove(missing);
            wrong.push(entries);
        }
        wrong.push([&PLAIN[..], &PLAIN].concat());
        wrong.push(PLAIN.iter().rev().copied().collect());
        for (index, entry) in [(0, (1, 8, NO_ID)), (0, (64, 7, NO_ID)), (1, (2, 6, NO_ID)), (4, (32, 7, NO_ID))] {
            let mut entries = FULL.to_vec();
            entries[index] = entry;
            wrong.push(entries);
        }
        // Somebody is named, but there is no mask.
        wrong.push(FULL.into_iter().filter(|entry| entry.0 != 16).collect());
        for entries in wrong {
            assert!(matches!(Acl::parse(&bytes(&entries)), Err(FsError::Invalid(_))), "{entries:?}");
        }
        for len in [1, 3, 5, 11, 13, 27] {
            assert!(matches!(Acl::parse(&bytes(&FULL)[..len]), Err(FsError::Invalid(_))), "{len} bytes");
        }
        assert!(matches!(Acl::parse(&[1, 0, 0, 0]), Err(FsError::Unsupported(_))));
    }

    #[test]
    fn mode_and_list_follow_each_other() {
        let mut plain = Acl::parse(&bytes(&PLAIN)).unwrap().unwrap();
        assert!(plain.is_mode());
        assert_eq!(plain.mode(), 0o640);
        plain.set_mode(0o4755);
        assert_eq!(plain.mode(), 0o755);
        let mut full = Acl::parse(&bytes(&FULL)).unwrap().unwrap();
        assert!(!full.is_mode());
        assert_eq!(full.mode(), 0o771);
        full.set_mode(0o604);
        assert_eq!(full.mode(), 0o604);
        // The owning group keeps what it has, under the mask.
        assert_eq!(full.permissions(Subject::OwningGroup), Some(5));
        assert_eq!(full.permissions(Subject::User(1000)), Some(6));
    }

    #[test]
    fn a_new_inode_gets_what_list_and_mode_both_allow() {
        let plain = Acl::parse(&bytes(&PLAIN)).unwrap().unwrap();
        assert_eq!(plain.inherited(0o666).mode(), 0o640);
        assert!(plain.inherited(0o666).is_mode());
        let full = Acl::parse(&bytes(&FULL)).unwrap().unwrap();
        assert_eq!(full.inherited(0o666).mode(), 0o660);
        assert_eq!(full.inherited(0o700).permissions(Subject::Mask), Some(0));
    }

    #[test]
    fn as_many_entries_as_the_driver_of_the_kernel_accepts() {
        assert_eq!(entries_max(BlockSize::MAX), 300);
        assert_eq!(entries_max(BlockSize::MIN), 37);
    }
}
