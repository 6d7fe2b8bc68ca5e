//! The first exchange: which revision of the protocol is spoken, and what both sides can do.

use std::io;

use zerocopy::{FromBytes, IntoBytes};

use super::super::{Errno, TransportOptions};
use super::abi::answers::InitOut;
use super::abi::flags::init;
use super::abi::opcode::Opcode;
use super::abi::requests::{InitExtIn, InitIn};
use super::abi::{MAJOR, MINOR, MINOR_OLDEST};
use super::channel::{Buffer, Channel};
use super::decode::{self, Forms};

/// What is asked of the kernel, where it offers it. Why the others are left out: docs/decisions/0009.
const WANTED: u64 = init::ASYNC_READ
    | init::BIG_WRITES
    | init::PARALLEL_DIROPS
    | init::DO_READDIRPLUS
    | init::READDIRPLUS_AUTO
    | init::CACHE_SYMLINKS
    | init::MAX_PAGES
    | init::NO_OPENDIR_SUPPORT
    | init::DIRECT_IO_ALLOW_MMAP
    | init::EXPLICIT_INVAL_DATA
    | init::EXT;

/// Asked for as well for access control lists. The first two do not go one without the other: with the umask applied by the
/// kernel, what a directory hands down would come out wrong. The last brings the kernel's verdict on the setgid bit.
const ACLS: u64 = init::POSIX_ACL | init::DONT_MASK | init::SETXATTR_EXT;

/// Asked for as well where locks are kept here.
const LOCKS: u64 = init::POSIX_LOCKS | init::FLOCK_LOCKS;

/// How many INIT a kernel may send before it has understood which version is spoken.
const ATTEMPTS_MAX: u32 = 3;

/// What the kernel says in INIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offer {
    major: u32,
    minor: u32,
    max_readahead: u32,
    flags: u64,
}

/// How INIT is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    /// From now on it is spoken like this.
    Agreed { answer: InitOut, flags: u64 },
    /// The kernel knows a newer version, and shall ask again in ours.
    AskAgain(InitOut),
    /// There is no common version.
    TooOld,
}

/// Agrees with the kernel on what both can do.
///
/// # Errors
/// What reading and writing report; `Unsupported` for a kernel that is too old; `InvalidData` if it sends something else.
pub(super) fn agree(
    channel: &Channel,
    buffer: &mut Buffer,
    options: &TransportOptions,
    has_locks: bool,
) -> io::Result<Forms> {
    let unexpected = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    for _ in 0..ATTEMPTS_MAX {
        let Some(len) = channel.receive(buffer)? else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "unmounted before it could be used"));
        };
        let header = decode::header(buffer.head(), len).map_err(io::Error::other)?;
        if header.opcode != Opcode::INIT {
            channel.send(header.unique, -Errno::IO.0, &[])?;
            return Err(unexpected("the kernel's first request is not INIT"));
        }
        let Some(offer) = offer(buffer.body()) else {
            channel.send(header.unique, -Errno::IO.0, &[])?;
            return Err(unexpected("the kernel's INIT is too short"));
        };
        match respond(&offer, options, has_locks) {
            Response::AskAgain(answer) => channel.send(header.unique, 0, &[answer.as_bytes()])?,
            Response::TooOld => {
                channel.send(header.unique, -Errno::PROTO.0, &[])?;
                let Offer { major, minor, .. } = offer;
                let text = format!(
                    "this kernel speaks version {major}.{minor} of FUSE, and lunfs needs {MAJOR}.{MINOR_OLDEST} (Linux 5.4) or later"
                );
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            Response::Agreed { answer, flags } => {
                channel.send(header.unique, 0, &[answer.as_bytes()])?;
                tracing::debug!(
                    version = format!("{MAJOR}.{}", answer.minor),
                    missing = ?init::names(wanted(options, has_locks) & !offer.flags),
                    "connected to the kernel"
                );
                return Ok(Forms { setxattr_ext: flags & init::SETXATTR_EXT != 0 });
            }
        }
    }
    Err(unexpected("the kernel does not agree on a version of FUSE"))
}

fn wanted(options: &TransportOptions, has_locks: bool) -> u64 {
    WANTED | if options.acl { ACLS } else { 0 } | if has_locks { LOCKS } else { 0 }
}

/// Reads the arguments of INIT; those that came with later versions may be missing.
fn offer(body: &[u8]) -> Option<Offer> {
    let (raw, rest) = InitIn::read_from_prefix(body).ok()?;
    let mut flags = u64::from(raw.flags);
    if flags & init::EXT != 0
        && let Ok((more, _)) = InitExtIn::read_from_prefix(rest)
    {
        flags |= u64::from(more.flags2) << 32;
    }
    Some(Offer { major: raw.major, minor: raw.minor, max_readahead: raw.max_readahead, flags })
}

fn respond(offer: &Offer, options: &TransportOptions, has_locks: bool) -> Response {
    if offer.major > MAJOR {
        return Response::AskAgain(answer(offer, options, MINOR, 0));
    }
    if offer.major < MAJOR || offer.minor < MINOR_OLDEST {
        return Response::TooOld;
    }
    let flags = offer.flags & wanted(options, has_locks);
    Response::Agreed { answer: answer(offer, options, offer.minor.min(MINOR), flags), flags }
}

fn answer(offer: &Offer, options: &TransportOptions, minor: u32, flags: u64) -> InitOut {
    let page_bytes = u32::try_from(rustix::param::page_size()).unwrap_or(u32::MAX);
    // Bounds reads, too: none is longer than the largest write.
    let pages = options.write_max_bytes / page_bytes;
    InitOut {
        major: MAJOR,
        minor,
        max_readahead: offer.max_readahead,
        flags: u32::try_from(flags & u64::from(u32::MAX)).unwrap_or(0),
        max_background: options.background_max,
        // Where the kernel begins to hold back readahead: at three quarters, as it does by itself.
        congestion_threshold: options.background_max / 4 * 3,
        max_write: options.write_max_bytes,
        // Times are kept to the nanosecond.
        time_gran: 1,
        max_pages: u16::try_from(pages).unwrap_or(u16::MAX).max(1),
        map_alignment: 0,
        flags2: u32::try_from(flags >> 32).unwrap_or(0),
        max_stack_depth: 0,
        request_timeout: 0,
        unused: [0; 11],
    }
}

#[cfg(test)]
#[path = "init_test.rs"]
mod tests;
