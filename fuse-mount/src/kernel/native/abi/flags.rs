//! Bits of the protocol, one module for each field that they stand in.

/// What kernel and filesystem agree on in INIT. Bits from 32 on travel in a second field, which [`init::EXT`] announces.
pub(crate) mod init {
    macro_rules! capabilities {
        ($($name:ident = $bit:literal,)*) => {
            $( pub(crate) const $name: u64 = 1 << $bit; )*
            const NAMES: &[(u64, &str)] = &[$( ($name, stringify!($name)) ),*];
        };
    }
    capabilities! {
        ASYNC_READ = 0,
        POSIX_LOCKS = 1,
        FILE_OPS = 2,
        ATOMIC_O_TRUNC = 3,
        EXPORT_SUPPORT = 4,
        BIG_WRITES = 5,
        DONT_MASK = 6,
        SPLICE_WRITE = 7,
        SPLICE_MOVE = 8,
        SPLICE_READ = 9,
        FLOCK_LOCKS = 10,
        HAS_IOCTL_DIR = 11,
        AUTO_INVAL_DATA = 12,
        DO_READDIRPLUS = 13,
        READDIRPLUS_AUTO = 14,
        ASYNC_DIO = 15,
        WRITEBACK_CACHE = 16,
        NO_OPEN_SUPPORT = 17,
        PARALLEL_DIROPS = 18,
        HANDLE_KILLPRIV = 19,
        POSIX_ACL = 20,
        ABORT_ERROR = 21,
        MAX_PAGES = 22,
        CACHE_SYMLINKS = 23,
        NO_OPENDIR_SUPPORT = 24,
        EXPLICIT_INVAL_DATA = 25,
        MAP_ALIGNMENT = 26,
        SUBMOUNTS = 27,
        HANDLE_KILLPRIV_V2 = 28,
        SETXATTR_EXT = 29,
        EXT = 30,
        RESERVED = 31,
        SECURITY_CTX = 32,
        HAS_INODE_DAX = 33,
        CREATE_SUPP_GROUP = 34,
        HAS_EXPIRE_ONLY = 35,
        DIRECT_IO_ALLOW_MMAP = 36,
        PASSTHROUGH = 37,
        NO_EXPORT_SUPPORT = 38,
        HAS_RESEND = 39,
        ALLOW_IDMAP = 40,
        OVER_IO_URING = 41,
        REQUEST_TIMEOUT = 42,
    }

    /// The names of the bits that are set, for logs.
    pub(crate) fn names(bits: u64) -> Vec<&'static str> {
        NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
    }
}

/// `valid` of SETATTR: which fields are to be set.
pub(crate) mod setattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
    pub(crate) const LOCKOWNER: u32 = 1 << 9;
    pub(crate) const CTIME: u32 = 1 << 10;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `getattr_flags` of GETATTR and STATX.
pub(crate) mod getattr {
    /// A handle is given.
    pub(crate) const FH: u32 = 1 << 0;
}

/// `open_flags` of the requests OPEN and CREATE.
pub(crate) mod open_request {
    pub(crate) const KILL_SUIDGID: u32 = 1 << 0;
}

/// `open_flags` of the answers to OPEN and CREATE.
pub(crate) mod open {
    pub(crate) const DIRECT_IO: u32 = 1 << 0;
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const NONSEEKABLE: u32 = 1 << 2;
    pub(crate) const CACHE_DIR: u32 = 1 << 3;
    pub(crate) const STREAM: u32 = 1 << 4;
    pub(crate) const NOFLUSH: u32 = 1 << 5;
    pub(crate) const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
    pub(crate) const PASSTHROUGH: u32 = 1 << 7;
}

/// `read_flags` of READ.
pub(crate) mod read {
    pub(crate) const LOCKOWNER: u32 = 1 << 1;
}

/// `write_flags` of WRITE.
pub(crate) mod write {
    /// Written out of the page cache, later than the process wrote.
    pub(crate) const CACHE: u32 = 1 << 0;
    pub(crate) const LOCKOWNER: u32 = 1 << 1;
    pub(crate) const KILL_SUIDGID: u32 = 1 << 2;
}

/// `release_flags` of RELEASE.
pub(crate) mod release {
    pub(crate) const FLUSH: u32 = 1 << 0;
    pub(crate) const FLOCK_UNLOCK: u32 = 1 << 1;
}

/// `fsync_flags` of FSYNC and FSYNCDIR.
pub(crate) mod fsync {
    pub(crate) const FDATASYNC: u32 = 1 << 0;
}

/// `lk_flags` of GETLK, SETLK and SETLKW.
pub(crate) mod lock {
    /// Of flock(2), not of fcntl(2).
    pub(crate) const FLOCK: u32 = 1 << 0;
}

/// `setxattr_flags` of SETXATTR.
pub(crate) mod setxattr {
    pub(crate) const ACL_KILL_SGID: u32 = 1 << 0;
}

/// `flags` of IOCTL.
pub(crate) mod ioctl {
    pub(crate) const COMPAT: u32 = 1 << 0;
    pub(crate) const UNRESTRICTED: u32 = 1 << 1;
    pub(crate) const RETRY: u32 = 1 << 2;
    pub(crate) const IS_32BIT: u32 = 1 << 3;
    pub(crate) const DIR: u32 = 1 << 4;
    pub(crate) const COMPAT_X32: u32 = 1 << 5;
    /// Most buffers of one ioctl, in and out together.
    pub(crate) const BUFFERS_MAX: u32 = 256;
}

/// `flags` of POLL.
pub(crate) mod poll {
    pub(crate) const SCHEDULE_NOTIFY: u32 = 1 << 0;
}

/// `flags` of attributes.
pub(crate) mod attr {
    pub(crate) const SUBMOUNT: u32 = 1 << 0;
    pub(crate) const DAX: u32 = 1 << 1;
}

/// `flags` of SETUPMAPPING.
pub(crate) mod mapping {
    pub(crate) const WRITE: u64 = 1 << 0;
    pub(crate) const READ: u64 = 1 << 1;
}

/// Kinds of extensions behind the arguments of a request.
pub(crate) mod extension {
    /// Up to this number, the field counts security contexts.
    pub(crate) const SECURITY_CONTEXTS_MAX: u32 = 31;
    /// Supplementary groups of the caller.
    pub(crate) const GROUPS: u32 = 32;
}

/// `flags` of a notification about a name.
pub(crate) mod inval_entry {
    /// The name is looked up again instead of being dropped.
    pub(crate) const EXPIRE_ONLY: u32 = 1 << 0;
}

/// Kinds of notifications.
pub(crate) mod notify {
    pub(crate) const POLL: i32 = 1;
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
    pub(crate) const STORE: i32 = 4;
    pub(crate) const RETRIEVE: i32 = 5;
    pub(crate) const DELETE: i32 = 6;
    pub(crate) const RESEND: i32 = 7;
    pub(crate) const INC_EPOCH: i32 = 8;
    pub(crate) const PRUNE: i32 = 9;
}
