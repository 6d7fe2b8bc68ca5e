//! Structures that arrive.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::sizes;

/// Declares structures that consist of integers without gaps.
macro_rules! arriving {
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

arriving! {
    /// In front of every request.
    InHeader {
        /// Of the whole request, in bytes.
        len: u32,
        opcode: u32,
        /// The request's number, for its answer.
        unique: u64,
        nodeid: u64,
        uid: u32,
        gid: u32,
        pid: u32,
        /// Of the extensions at the end of the request, in units of 8 bytes.
        extensions_len: u16,
        padding: u16,
    }
    InitIn {
        major: u32,
        minor: u32,
        max_readahead: u32,
        flags: u32,
    }
    /// Follows [`InitIn`] where its flags have `EXT`.
    InitExtIn {
        flags2: u32,
        unused: [u32; 11],
    }
    ForgetIn {
        nlookup: u64,
    }
    ForgetOne {
        nodeid: u64,
        nlookup: u64,
    }
    BatchForgetIn {
        count: u32,
        dummy: u32,
    }
    GetattrIn {
        getattr_flags: u32,
        dummy: u32,
        fh: u64,
    }
    StatxIn {
        getattr_flags: u32,
        reserved: u32,
        fh: u64,
        sx_flags: u32,
        sx_mask: u32,
    }
    SetattrIn {
        valid: u32,
        padding: u32,
        fh: u64,
        size: u64,
        lock_owner: u64,
        /// Seconds of times are signed: the header says otherwise, and the kernel means it this way.
        atime: i64,
        mtime: i64,
        ctime: i64,
        atimensec: u32,
        mtimensec: u32,
        ctimensec: u32,
        mode: u32,
        unused4: u32,
        uid: u32,
        gid: u32,
        unused5: u32,
    }
    MknodIn {
        mode: u32,
        rdev: u32,
        umask: u32,
        padding: u32,
    }
    MkdirIn {
        mode: u32,
        umask: u32,
    }
    RenameIn {
        newdir: u64,
    }
    Rename2In {
        newdir: u64,
        flags: u32,
        padding: u32,
    }
    LinkIn {
        oldnodeid: u64,
    }
    OpenIn {
        flags: u32,
        open_flags: u32,
    }
    CreateIn {
        flags: u32,
        mode: u32,
        umask: u32,
        open_flags: u32,
    }
    ReleaseIn {
        fh: u64,
        flags: u32,
        release_flags: u32,
        lock_owner: u64,
    }
    FlushIn {
        fh: u64,
        unused: u32,
        padding: u32,
        lock_owner: u64,
    }
    ReadIn {
        fh: u64,
        offset: u64,
        size: u32,
        read_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    WriteIn {
        fh: u64,
        offset: u64,
        size: u32,
        write_flags: u32,
        lock_owner: u64,
        flags: u32,
        padding: u32,
    }
    FsyncIn {
        fh: u64,
        fsync_flags: u32,
        padding: u32,
    }
    SetxattrIn {
        size: u32,
        flags: u32,
    }
    /// The form of SETXATTR after `SETXATTR_EXT` was agreed on.
    SetxattrExtIn {
        size: u32,
        flags: u32,
        setxattr_flags: u32,
        padding: u32,
    }
    GetxattrIn {
        size: u32,
        padding: u32,
    }
    FileLock {
        start: u64,
        end: u64,
        kind: u32,
        pid: u32,
    }
    LkIn {
        fh: u64,
        owner: u64,
        lk: FileLock,
        lk_flags: u32,
        padding: u32,
    }
    AccessIn {
        mask: u32,
        padding: u32,
    }
    InterruptIn {
        unique: u64,
    }
    BmapIn {
        block: u64,
        blocksize: u32,
        padding: u32,
    }
    IoctlIn {
        fh: u64,
        flags: u32,
        cmd: u32,
        arg: u64,
        in_size: u32,
        out_size: u32,
    }
    IoctlIovec {
        base: u64,
        len: u64,
    }
    PollIn {
        fh: u64,
        kh: u64,
        flags: u32,
        events: u32,
    }
    FallocateIn {
        fh: u64,
        offset: u64,
        length: u64,
        mode: u32,
        padding: u32,
    }
    LseekIn {
        fh: u64,
        /// Signed for the process that asked.
        offset: i64,
        whence: u32,
        padding: u32,
    }
    CopyFileRangeIn {
        fh_in: u64,
        off_in: u64,
        nodeid_out: u64,
        fh_out: u64,
        off_out: u64,
        len: u64,
        flags: u64,
    }
    SetupmappingIn {
        fh: u64,
        foffset: u64,
        len: u64,
        flags: u64,
        moffset: u64,
    }
    RemovemappingIn {
        count: u32,
    }
    RemovemappingOne {
        moffset: u64,
        len: u64,
    }
    SyncfsIn {
        padding: u64,
    }
    /// The answer to a notification that asks for pages; data follows.
    NotifyRetrieveIn {
        dummy1: u64,
        offset: u64,
        size: u32,
        dummy2: u32,
        dummy3: u64,
        dummy4: u64,
    }
    /// In front of an extension. If `kind` is at most `SECURITY_CONTEXTS_MAX`, it counts security contexts.
    ExtensionHeader {
        /// Of the extension, this header included, in bytes.
        size: u32,
        kind: u32,
    }
    /// In front of a security context: its name, ended by a zero byte, and `size` bytes follow.
    SecurityContext {
        size: u32,
        padding: u32,
    }
    /// Supplementary groups: `count` numbers of 32 bits follow.
    SupplementaryGroups {
        count: u32,
    }
    CuseInitIn {
        major: u32,
        minor: u32,
        unused: u32,
        flags: u32,
    }
}

sizes! {
    InHeader = 40, InitIn = 16, InitExtIn = 48, ForgetIn = 8, ForgetOne = 16, BatchForgetIn = 8, GetattrIn = 16,
    StatxIn = 24, SetattrIn = 88, MknodIn = 16, MkdirIn = 8, RenameIn = 8, Rename2In = 16, LinkIn = 8, OpenIn = 8,
    CreateIn = 16, ReleaseIn = 24, FlushIn = 24, ReadIn = 40, WriteIn = 40, FsyncIn = 16, SetxattrIn = 8,
    SetxattrExtIn = 16, GetxattrIn = 8, FileLock = 24, LkIn = 48, AccessIn = 8, InterruptIn = 8, BmapIn = 16,
    IoctlIn = 32, IoctlIovec = 16, PollIn = 24, FallocateIn = 32, LseekIn = 24, CopyFileRangeIn = 56,
    SetupmappingIn = 40, RemovemappingIn = 4, RemovemappingOne = 16, SyncfsIn = 8, NotifyRetrieveIn = 40,
    ExtensionHeader = 8, SecurityContext = 8, SupplementaryGroups = 4, CuseInitIn = 16,
}
