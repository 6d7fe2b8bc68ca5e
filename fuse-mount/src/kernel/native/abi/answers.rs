//! Structures that are sent: answers and notifications.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::requests::FileLock;
use super::sizes;

/// Declares structures that consist of integers without gaps.
macro_rules! sent {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$about])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub(crate) struct $name {
                $( $(#[$field_about])* pub(crate) $field: $kind, )*
            }
        )*
    };
}

sent! {
    /// In front of every answer and notification.
    OutHeader {
        /// Of the whole answer, in bytes.
        len: u32,
        /// 0, a negative error number, or the kind of a notification.
        error: i32,
        /// The request's number; 0 for a notification.
        unique: u64,
    }
    InitOut {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
        max_background: u16,
        congestion_threshold: u16,
        max_write: u32,
        time_gran: u32,
        max_pages: u16,
        map_alignment: u16,
        flags2: u32,
        max_stack_depth: u32,
        request_timeout: u16,
        unused: [u16; 11],
    }
    AttrOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        dummy: u32,
        attr: Attr,
    }
    Attr {
        ino: u64,
        size: u64,
        blocks: u64,
        /// Seconds of times are signed: the header says otherwise, and the kernel means it this way.
        atime: i64,
        mtime: i64,
        ctime: i64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u32,
        blksize: u32,
        flags: u32,
    }
    EntryOut {
        /// 0: there is no such name.
        nodeid: u64,
        generation: u64,
        entry_valid: u64,
        attr_valid: u64,
        entry_valid_nsec: u32,
        attr_valid_nsec: u32,
        attr: Attr,
    }
    SxTime {
        sec: i64,
        nsec: u32,
        reserved: i32,
    }
    Statx {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: SxTime,
        btime: SxTime,
        ctime: SxTime,
        mtime: SxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        spare2: [u64; 14],
    }
    StatxOut {
        attr_valid: u64,
        attr_valid_nsec: u32,
        flags: u32,
        spare: [u64; 2],
        stat: Statx,
    }
    OpenOut {
        fh: u64,
        open_flags: u32,
        backing_id: i32,
    }
    WriteOut {
        size: u32,
        padding: u32,
    }
    CopyFileRangeOut {
        bytes_copied: u64,
    }
    StatfsOut {
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        bsize: u32,
        namelen: u32,
        frsize: u32,
        padding: u32,
        spare: [u32; 6],
    }
    GetxattrOut {
        size: u32,
        padding: u32,
    }
    LkOut {
        lk: FileLock,
    }
    BmapOut {
        block: u64,
    }
    IoctlOut {
        result: i32,
        flags: u32,
        in_iovs: u32,
        out_iovs: u32,
    }
    PollOut {
        revents: u32,
        padding: u32,
    }
    LseekOut {
        offset: i64,
    }
    /// In front of a name in READDIR; the record is filled up to a multiple of 8 bytes.
    Dirent {
        ino: u64,
        /// Where to go on after this entry.
        off: u64,
        namelen: u32,
        kind: u32,
    }
    /// In front of a name in READDIRPLUS.
    Direntplus {
        entry: EntryOut,
        dirent: Dirent,
    }
    NotifyPollWakeupOut {
        kh: u64,
    }
    NotifyInvalInodeOut {
        ino: u64,
        /// Negative: attributes only.
        off: i64,
        /// Not positive: to the end.
        len: i64,
    }
    /// The name and a zero byte follow.
    NotifyInvalEntryOut {
        parent: u64,
        namelen: u32,
        flags: u32,
    }
    /// The name and a zero byte follow.
    NotifyDeleteOut {
        parent: u64,
        child: u64,
        namelen: u32,
        padding: u32,
    }
    /// Data follows.
    NotifyStoreOut {
        nodeid: u64,
        offset: u64,
        size: u32,
        padding: u32,
    }
    NotifyRetrieveOut {
        notify_unique: u64,
        nodeid: u64,
        offset: u64,
        size: u32,
        padding: u32,
    }
    /// `count` numbers of nodes follow, 64 bits each.
    NotifyPruneOut {
        count: u32,
        padding: u32,
        spare: u64,
    }
}

sizes! {
    OutHeader = 16, InitOut = 64, Attr = 88, AttrOut = 104, EntryOut = 128, SxTime = 16, Statx = 256, StatxOut = 288,
    OpenOut = 16, WriteOut = 8, CopyFileRangeOut = 8, StatfsOut = 80, GetxattrOut = 8, LkOut = 24, BmapOut = 8,
    IoctlOut = 16, PollOut = 8, LseekOut = 8, Dirent = 24, Direntplus = 152, NotifyPollWakeupOut = 8,
    NotifyInvalInodeOut = 24, NotifyInvalEntryOut = 16, NotifyDeleteOut = 24, NotifyStoreOut = 24,
    NotifyRetrieveOut = 32, NotifyPruneOut = 16,
}
