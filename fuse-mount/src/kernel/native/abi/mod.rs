//! What the protocol defines, version 7.45 of Linux: one declaration for each structure and each number.
//!
//! Source: include/uapi/linux/fuse.h. All of it is declared, also what no handler needs yet, so that a request of any
//! kind can be named. Numbers stand in the byte order of the host; every structure has no padding of its own, and its
//! size is checked here.
#![allow(dead_code)] // The whole protocol is declared, not only what is asked of the kernel.

pub(crate) mod answers;
pub(crate) mod flags;
pub(crate) mod opcode;
pub(crate) mod requests;

/// Version of the protocol.
pub(crate) const MAJOR: u32 = 7;
/// Its newest revision that is known here.
pub(crate) const MINOR: u32 = 45;
/// The oldest one that is spoken here: of Linux 5.4. Up to it structures of other sizes would have to be known.
pub(crate) const MINOR_OLDEST: u32 = 31;

/// Bit of a request's number that says: an interruption of the request with the number without it.
pub(crate) const UNIQUE_INTERRUPT: u64 = 1;
/// Bit of a request's number that says: delivered before, to a server that may have died of it. Part of the number.
pub(crate) const UNIQUE_RESEND: u64 = 1 << 63;

/// Smallest buffer that may be used for reading requests, in bytes.
pub(crate) const READ_BUFFER_MIN_BYTES: usize = 8192;

/// Records in answers and extensions start at multiples of this, in bytes.
pub(crate) const RECORD_ALIGN_BYTES: usize = 8;

/// Checks the sizes of structures.
macro_rules! sizes {
    ($($structure:ident = $bytes:literal),* $(,)?) => {
        const _: () = { $( assert!(size_of::<$structure>() == $bytes, stringify!($structure)); )* };
    };
}
use sizes;
