//! Requests as they are after decoding: everything that the kernel said, in types that mean something.
#![allow(dead_code)] // A request is decoded whole, also what no handler asks for yet.

use fs_core::attr::{Caller, SetAttr};

use super::super::NodeId;
use super::super::lock::Lock;
use super::abi::opcode::Opcode;
use super::abi::requests::InHeader;

/// What every request says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    /// For the answer.
    pub(super) unique: u64,
    /// Which inode, or in which directory.
    pub(super) node: NodeId,
    pub(super) caller: Caller,
    /// The caller's process; 0 where the kernel itself asks.
    pub(super) pid: u32,
    /// Of the extensions at the end, in bytes.
    pub(super) extensions_len_bytes: usize,
}

impl Header {
    /// Who makes a new inode. Without access control lists the kernel has applied the umask, and it does not hurt twice.
    pub(super) fn maker(&self, umask: u32) -> Caller {
        Caller { umask, ..self.caller }
    }
}

impl From<InHeader> for Header {
    fn from(raw: InHeader) -> Self {
        Self {
            opcode: Opcode(raw.opcode),
            unique: raw.unique,
            node: NodeId(raw.nodeid),
            caller: Caller { uid: raw.uid, gid: raw.gid, umask: 0 },
            pid: raw.pid,
            extensions_len_bytes: usize::from(raw.extensions_len) * 8,
        }
    }
}

/// A request, in the order of opcodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Lookup {
        name: Vec<u8>,
    },
    /// FORGET and BATCH_FORGET: nodes, and how many references on each are given back.
    Forget(Vec<(NodeId, u64)>),
    Getattr {
        handle: Option<u64>,
    },
    Setattr(Setattr),
    Readlink,
    Symlink {
        name: Vec<u8>,
        target: Vec<u8>,
        extensions: Extensions,
    },
    Mknod {
        name: Vec<u8>,
        mode: u32,
        rdev: u32,
        umask: u32,
        extensions: Extensions,
    },
    Mkdir {
        name: Vec<u8>,
        mode: u32,
        umask: u32,
        extensions: Extensions,
    },
    Unlink {
        name: Vec<u8>,
    },
    Rmdir {
        name: Vec<u8>,
    },
    /// RENAME and RENAME2.
    Rename {
        name: Vec<u8>,
        new_parent: NodeId,
        new_name: Vec<u8>,
        flags: u32,
    },
    Link {
        source: NodeId,
        name: Vec<u8>,
    },
    Open {
        flags: u32,
        kill_suidgid: bool,
    },
    Read {
        handle: u64,
        offset_bytes: u64,
        len_bytes: u32,
        owner: Option<u64>,
        flags: u32,
    },
    /// The data travels beside it.
    Write(Write),
    Statfs,
    /// RELEASE and RELEASEDIR.
    Release {
        handle: u64,
        flags: u32,
        flush: bool,
        flock_unlock: Option<u64>,
    },
    /// FSYNC and FSYNCDIR.
    Fsync {
        handle: u64,
        data_only: bool,
    },
    /// What becomes of the setgid bit is said only in the longer form.
    Setxattr {
        name: Vec<u8>,
        value: Vec<u8>,
        flags: u32,
        kill_sgid: Option<bool>,
    },
    Getxattr {
        name: Vec<u8>,
        size_bytes: u32,
    },
    Listxattr {
        size_bytes: u32,
    },
    Removexattr {
        name: Vec<u8>,
    },
    Flush {
        handle: u64,
        owner: u64,
    },
    Opendir {
        flags: u32,
    },
    Readdir(Readdir),
    Readdirplus(Readdir),
    Getlk {
        handle: u64,
        lock: Lock,
    },
    /// SETLK, and SETLKW if it waits.
    Setlk {
        handle: u64,
        lock: Lock,
        wait: bool,
    },
    Access {
        mask: u32,
    },
    Create {
        name: Vec<u8>,
        mode: u32,
        umask: u32,
        flags: u32,
        kill_suidgid: bool,
        extensions: Extensions,
    },
    Interrupt {
        of: u64,
    },
    Bmap {
        block: u64,
        block_size_bytes: u32,
    },
    Destroy,
    Ioctl {
        handle: u64,
        flags: u32,
        command: u32,
        argument: u64,
        data: Vec<u8>,
        out_size_bytes: u32,
    },
    Poll {
        handle: u64,
        wakeup: u64,
        flags: u32,
        events: u32,
    },
    NotifyReply {
        offset_bytes: u64,
        data: Vec<u8>,
    },
    Fallocate {
        handle: u64,
        offset_bytes: u64,
        len_bytes: u64,
        mode: u32,
    },
    Lseek {
        handle: u64,
        offset_bytes: i64,
        whence: u32,
    },
    /// COPY_FILE_RANGE and COPY_FILE_RANGE_64, which differ in the answer.
    CopyFileRange(CopyFileRange),
    Syncfs,
    Tmpfile {
        mode: u32,
        umask: u32,
        flags: u32,
        extensions: Extensions,
    },
    Statx {
        handle: Option<u64>,
        flags: u32,
        mask: u32,
    },
}

/// SETATTR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setattr {
    pub(super) change: SetAttr,
    pub(super) handle: Option<u64>,
    pub(super) lock_owner: Option<u64>,
    pub(super) kill_suidgid: bool,
}

/// WRITE, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) handle: u64,
    pub(super) offset_bytes: u64,
    pub(super) len_bytes: u32,
    /// Bits of `abi::flags::write`.
    pub(super) write_flags: u32,
    pub(super) owner: Option<u64>,
    /// With which the file is open.
    pub(super) flags: u32,
}

/// READDIR and READDIRPLUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readdir {
    pub(super) handle: u64,
    /// Cookie of the entry to go on after.
    pub(super) after: u64,
    /// Of the answer at most, in bytes.
    pub(super) len_bytes: u32,
}

/// COPY_FILE_RANGE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CopyFileRange {
    pub(super) source_handle: u64,
    pub(super) source_offset_bytes: u64,
    pub(super) target: NodeId,
    pub(super) target_handle: u64,
    pub(super) target_offset_bytes: u64,
    pub(super) len_bytes: u64,
    pub(super) flags: u64,
}

/// What can follow a request that makes an inode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// Supplementary groups of the caller that matter here.
    pub(super) groups: Vec<u32>,
    /// Extended attributes of security modules that the new inode shall have: name and value.
    pub(super) security: Vec<(Vec<u8>, Vec<u8>)>,
}
