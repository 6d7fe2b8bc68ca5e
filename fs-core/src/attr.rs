//! What callers and the filesystem tell each other about files.

use crate::addr::InodeNo;

/// A time as the format keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970, negative before.
    pub sec: i64,
    /// Nanoseconds that follow `sec`, below 10⁹.
    pub nsec: u32,
}

/// File types, as the four type bits of a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Named pipe.
    Fifo,
    /// Character device.
    CharDevice,
    /// Directory.
    Directory,
    /// Block device.
    BlockDevice,
    /// Regular file.
    Regular,
    /// Symbolic link.
    Symlink,
    /// Unix-domain socket.
    Socket,
}

impl FileKind {
    /// From the type bits of `mode` (POSIX `S_IFMT`); `None` if they mean nothing.
    #[must_use]
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Self::from_dirent((mode >> 12) & 0o17)
    }

    /// From the type number of a directory entry, which is `mode >> 12`.
    #[must_use]
    pub const fn from_dirent(number: u32) -> Option<Self> {
        Some(match number {
            0o1 => Self::Fifo,
            0o2 => Self::CharDevice,
            0o4 => Self::Directory,
            0o6 => Self::BlockDevice,
            0o10 => Self::Regular,
            0o12 => Self::Symlink,
            0o14 => Self::Socket,
            _ => return None,
        })
    }

    /// The type number of a directory entry.
    #[must_use]
    pub const fn dirent_number(self) -> u16 {
        match self {
            Self::Fifo => 0o1,
            Self::CharDevice => 0o2,
            Self::Directory => 0o4,
            Self::BlockDevice => 0o6,
            Self::Regular => 0o10,
            Self::Symlink => 0o12,
            Self::Socket => 0o14,
        }
    }

    /// The type bits of a mode.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        (self.dirent_number() as u32) << 12
    }
}

/// Everything `stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// Inode number (the dinode's block).
    pub ino: InodeNo,
    /// Tells two inodes apart that used one block after each other.
    pub generation: u64,
    /// File type.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky, without the type.
    pub permissions: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major and minor number of device nodes, else zeroes.
    pub rdev: (u32, u32),
    /// Size, in bytes.
    pub size_bytes: u64,
    /// Space in use, in units of 512 bytes.
    pub sectors: u64,
    /// Preferred size of a transfer, in bytes: the filesystem's block size.
    pub block_size_bytes: u32,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Permission bits that new inodes shall not have, where the directory has no default access control list.
    pub umask: u32,
}

/// What the kernel allows a process beyond what its user may do (capabilities(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// CAP_FOWNER: it counts as the owner of every file.
    pub owner: bool,
    /// CAP_LINUX_IMMUTABLE: it may make files immutable and append-only, and end that.
    pub immutable: bool,
    /// CAP_SYS_ADMIN: it may change the filesystem itself.
    pub system: bool,
}

impl Capabilities {
    /// All of them.
    pub const ALL: Self = Self { owner: true, immutable: true, system: true };
}

/// Flags of a file or directory that its users see (chattr(1)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InodeFlags(u8);

impl InodeFlags {
    /// `i`: nothing can be changed.
    pub const IMMUTABLE: Self = Self(1 << 0);
    /// `a`: content and entries can only be added.
    pub const APPEND_ONLY: Self = Self(1 << 1);
    /// `A`: the time of last access stays.
    pub const NO_ATIME: Self = Self(1 << 2);
    /// `S`: each change is durable when it returns.
    pub const SYNC: Self = Self(1 << 3);
    /// `j`: the content goes through the journal; of a directory: that of files which are made in it from now on.
    pub const JOURNALED: Self = Self(1 << 4);
    /// `T`: directories in it are spread over the volume.
    pub const TOP_DIR: Self = Self(1 << 5);
    /// `I`: the directory uses a hash table. Cannot be set.
    pub const HASHED: Self = Self(1 << 6);

    /// Flags that are in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A time to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    /// The moment at which it is set.
    Now,
    /// This time.
    At(Timestamp),
}

/// What `setattr` changes: whatever is `Some`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits with setuid, setgid and sticky.
    pub permissions: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size, in bytes.
    pub size_bytes: Option<u64>,
    /// Last access.
    pub atime: Option<NewTime>,
    /// Last change of the content.
    pub mtime: Option<NewTime>,
}

/// What `open` needs to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// Opened for writing.
    pub write: bool,
    /// O_TRUNC.
    pub truncate: bool,
    /// O_APPEND.
    pub append: bool,
}

/// How `write` behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// The file is open with O_APPEND: the data goes to the end of the file as it is under the lock.
    pub append: bool,
    /// Written out of a page cache after the fact (mmap): no setuid bits are cleared.
    pub from_cache: bool,
    /// O_SYNC or O_DSYNC: durable when the call returns.
    pub sync: bool,
}

/// What `fallocate` does with a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Gives it places on the disk, so that no write to it can fail for lack of space. Its content stays.
    Allocate {
        /// The size stays as well, also where the range reaches beyond it.
        keep_size: bool,
    },
    /// Makes it zeroes that have places on the disk.
    Zero {
        /// The size stays.
        keep_size: bool,
    },
    /// Makes it a hole. The size stays.
    Punch,
}

/// What `setxattr` does when the attribute exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XattrMode {
    /// Sets it.
    #[default]
    Any,
    /// Fails with EEXIST if it exists (XATTR_CREATE).
    Create,
    /// Fails with ENODATA if it does not (XATTR_REPLACE).
    Replace,
}

/// Whether a new access control list leaves the file's setgid bit alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Setgid {
    /// It does.
    #[default]
    Keep,
    /// It takes the bit away: the kernel has found that the caller may not keep it.
    Clear,
    /// It does if the caller is root, or the file's group is the caller's or one of these.
    KeepIfMember(Vec<u32>),
}

/// How `setxattr` behaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SetXattr {
    /// What happens to an attribute that exists. Access control lists are always set.
    pub mode: XattrMode,
    /// Counts for access control lists only.
    pub setgid: Setgid,
}

/// What `rename` does when the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with EEXIST.
    NoReplace,
    /// Exchanges the two.
    Exchange,
}

/// Which kind of range `lseek` looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekTarget {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The inode it names.
    pub ino: InodeNo,
    /// That inode's type.
    pub kind: FileKind,
    /// The name.
    pub name: Vec<u8>,
    /// Where to go on after this entry: give it to `readdir` as `after`. Unique in the directory and stable as long
    /// as the name exists. Between 1 and 2⁶³−1.
    pub cookie: u64,
}

/// What `statfs` says, in filesystem blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statfs {
    /// Block size, in bytes.
    pub block_size_bytes: u32,
    /// Blocks that can hold files.
    pub blocks_total: u64,
    /// Blocks that are free.
    pub blocks_free: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Longest name, in bytes.
    pub name_max_bytes: u32,
}
