//! From bytes to requests.
//!
//! Laws
//! * Total: whatever arrives becomes a request or an error. Nothing panics, and no more is allocated than arrived.
//! * A request is refused by itself; only a header that cannot be read makes the connection unusable.

use fs_core::attr::{NewTime, SetAttr, Timestamp};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::super::NodeId;
use super::super::lock::{Lock, LockKind};
use super::abi::RECORD_ALIGN_BYTES;
use super::abi::flags::{extension, fsync, getattr, lock, open_request, read, release, setattr, setxattr, write};
use super::abi::opcode::Opcode;
use super::abi::requests::{
    AccessIn, BatchForgetIn, BmapIn, CopyFileRangeIn, CreateIn, ExtensionHeader, FallocateIn, FileLock, FlushIn,
    ForgetIn, ForgetOne, FsyncIn, GetattrIn, GetxattrIn, InHeader, InterruptIn, IoctlIn, LinkIn, LkIn, LseekIn,
    MkdirIn, MknodIn, NotifyRetrieveIn, OpenIn, PollIn, ReadIn, ReleaseIn, Rename2In, RenameIn, SecurityContext,
    SetattrIn, SetxattrExtIn, SetxattrIn, StatxIn, SupplementaryGroups, WriteIn,
};
use super::request::{CopyFileRange, Extensions, Header, Readdir, Request, Setattr, Write};

/// What was agreed on in INIT, as far as it changes the form of requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Forms {
    /// SETXATTR comes in its longer form.
    pub(super) setxattr_ext: bool,
}

/// The header cannot be right, so nothing more that arrives can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel sent {arrived} bytes as a request of {said}")]
pub(super) struct Unusable {
    arrived: usize,
    said: usize,
}

/// A request that cannot be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too short, or its parts do not fit together.
    Malformed,
    /// A kind that is not known, or that only others than us can serve.
    Unknown,
}

/// The header of a request, of which `len_bytes` have arrived in all. `head` is its beginning.
///
/// # Errors
/// [`Unusable`]
pub(super) fn header(head: &[u8], len_bytes: usize) -> Result<Header, Unusable> {
    let (raw, _) = InHeader::read_from_prefix(head).map_err(|_| Unusable { arrived: len_bytes, said: 0 })?;
    let said = usize::try_from(raw.len).unwrap_or(usize::MAX);
    if said == len_bytes { Ok(raw.into()) } else { Err(Unusable { arrived: len_bytes, said }) }
}

/// The request behind a header. For WRITE, `body` ends where the data begins, of which `data_len_bytes` have arrived;
/// all others have everything in `body`.
///
/// # Errors
/// [`Refused`]
pub(super) fn request(header: &Header, body: &[u8], data_len_bytes: usize, forms: Forms) -> Result<Request, Refused> {
    let mut arguments = Arguments::new(header, body)?;
    let take = &mut arguments;
    Ok(match header.opcode {
        Opcode::LOOKUP => Request::Lookup { name: take.name()? },
        Opcode::FORGET => Request::Forget(vec![(header.node, take.take::<ForgetIn>()?.nlookup)]),
        Opcode::BATCH_FORGET => Request::Forget(take.batch()?),
        Opcode::GETATTR => {
            let raw: GetattrIn = take.take()?;
            Request::Getattr { handle: given(raw.getattr_flags, getattr::FH, raw.fh) }
        }
        Opcode::SETATTR => Request::Setattr(setattr(&take.take()?)),
        Opcode::READLINK => Request::Readlink,
        Opcode::SYMLINK => {
            Request::Symlink { name: take.name()?, target: take.name()?, extensions: take.extensions()? }
        }
        Opcode::MKNOD => {
            let MknodIn { mode, rdev, umask, .. } = take.take()?;
            Request::Mknod { name: take.name()?, mode, rdev, umask, extensions: take.extensions()? }
        }
        Opcode::MKDIR => {
            let MkdirIn { mode, umask } = take.take()?;
            Request::Mkdir { name: take.name()?, mode, umask, extensions: take.extensions()? }
        }
        Opcode::UNLINK => Request::Unlink { name: take.name()? },
        Opcode::RMDIR => Request::Rmdir { name: take.name()? },
        Opcode::RENAME => take.rename(|take| Ok((take.take::<RenameIn>()?.newdir, 0)))?,
        Opcode::RENAME2 => take.rename(|take| take.take().map(|raw: Rename2In| (raw.newdir, raw.flags)))?,
        Opcode::LINK => Request::Link { source: NodeId(take.take::<LinkIn>()?.oldnodeid), name: take.name()? },
        Opcode::OPEN => {
            let raw: OpenIn = take.take()?;
            Request::Open { flags: raw.flags, kill_suidgid: raw.open_flags & open_request::KILL_SUIDGID != 0 }
        }
        Opcode::READ => {
            let raw: ReadIn = take.take()?;
            let owner = given(raw.read_flags, read::LOCKOWNER, raw.lock_owner);
            let ReadIn { fh: handle, offset: offset_bytes, size: len_bytes, flags, .. } = raw;
            Request::Read { handle, offset_bytes, len_bytes, owner, flags }
        }
        Opcode::WRITE => Request::Write(take.write(data_len_bytes)?),
        Opcode::STATFS => Request::Statfs,
        Opcode::RELEASE | Opcode::RELEASEDIR => {
            let raw: ReleaseIn = take.take()?;
            Request::Release {
                handle: raw.fh,
                flags: raw.flags,
                flush: raw.release_flags & release::FLUSH != 0,
                flock_unlock: given(raw.release_flags, release::FLOCK_UNLOCK, raw.lock_owner),
            }
        }
        Opcode::FSYNC | Opcode::FSYNCDIR => {
            let raw: FsyncIn = take.take()?;
            Request::Fsync { handle: raw.fh, data_only: raw.fsync_flags & fsync::FDATASYNC != 0 }
        }
        Opcode::SETXATTR => take.setxattr(forms)?,
        Opcode::GETXATTR => {
            let size_bytes = take.take::<GetxattrIn>()?.size;
            Request::Getxattr { name: take.name()?, size_bytes }
        }
        Opcode::LISTXATTR => Request::Listxattr { size_bytes: take.take::<GetxattrIn>()?.size },
        Opcode::REMOVEXATTR => Request::Removexattr { name: take.name()? },
        Opcode::FLUSH => {
            let raw: FlushIn = take.take()?;
            Request::Flush { handle: raw.fh, owner: raw.lock_owner }
        }
        Opcode::OPENDIR => Request::Opendir { flags: take.take::<OpenIn>()?.flags },
        Opcode::READDIR => Request::Readdir(take.readdir()?),
        Opcode::READDIRPLUS => Request::Readdirplus(take.readdir()?),
        Opcode::GETLK => {
            let (handle, lock) = take.lock()?;
            Request::Getlk { handle, lock }
        }
        Opcode::SETLK | Opcode::SETLKW => {
            let (handle, lock) = take.lock()?;
            Request::Setlk { handle, lock, wait: header.opcode == Opcode::SETLKW }
        }
        Opcode::ACCESS => Request::Access { mask: take.take::<AccessIn>()?.mask },
        Opcode::CREATE => {
            let CreateIn { flags, mode, umask, open_flags } = take.take()?;
            let kill_suidgid = open_flags & open_request::KILL_SUIDGID != 0;
            let (name, extensions) = (take.name()?, take.extensions()?);
            Request::Create { name, mode, umask, flags, kill_suidgid, extensions }
        }
        Opcode::TMPFILE => {
            let CreateIn { flags, mode, umask, .. } = take.take()?;
            // The name says nothing.
            take.name()?;
            Request::Tmpfile { mode, umask, flags, extensions: take.extensions()? }
        }
        Opcode::INTERRUPT => Request::Interrupt { of: take.take::<InterruptIn>()?.unique },
        Opcode::BMAP => {
            let raw: BmapIn = take.take()?;
            Request::Bmap { block: raw.block, block_size_bytes: raw.blocksize }
        }
        Opcode::DESTROY => Request::Destroy,
        Opcode::IOCTL => {
            let IoctlIn { fh, flags, cmd, arg, in_size, out_size } = take.take()?;
            let data = take.bytes(in_size)?.to_vec();
            Request::Ioctl { handle: fh, flags, command: cmd, argument: arg, data, out_size_bytes: out_size }
        }
        Opcode::POLL => {
            let PollIn { fh, kh, flags, events } = take.take()?;
            Request::Poll { handle: fh, wakeup: kh, flags, events }
        }
        Opcode::NOTIFY_REPLY => {
            let raw: NotifyRetrieveIn = take.take()?;
            Request::NotifyReply { offset_bytes: raw.offset, data: take.bytes(raw.size)?.to_vec() }
        }
        Opcode::FALLOCATE => {
            let FallocateIn { fh, offset, length, mode, .. } = take.take()?;
            Request::Fallocate { handle: fh, offset_bytes: offset, len_bytes: length, mode }
        }
        Opcode::LSEEK => {
            let LseekIn { fh, offset, whence, .. } = take.take()?;
            Request::Lseek { handle: fh, offset_bytes: offset, whence }
        }
        Opcode::COPY_FILE_RANGE | Opcode::COPY_FILE_RANGE_64 => {
            let raw: CopyFileRangeIn = take.take()?;
            Request::CopyFileRange(CopyFileRange {
                source_handle: raw.fh_in,
                source_offset_bytes: raw.off_in,
                target: NodeId(raw.nodeid_out),
                target_handle: raw.fh_out,
                target_offset_bytes: raw.off_out,
                len_bytes: raw.len,
                flags: raw.flags,
            })
        }
        Opcode::SYNCFS => Request::Syncfs,
        Opcode::STATX => {
            let raw: StatxIn = take.take()?;
            let handle = given(raw.getattr_flags, getattr::FH, raw.fh);
            Request::Statx { handle, flags: raw.sx_flags, mask: raw.sx_mask }
        }
        // INIT comes once, and is read elsewhere. Mappings need a device that shares memory, CUSE is not a filesystem.
        _ => return Err(Refused::Unknown),
    })
}

/// What follows a header.
struct Arguments<'a> {
    rest: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Arguments<'a> {
    fn new(header: &Header, body: &'a [u8]) -> Result<Self, Refused> {
        let end = body.len().checked_sub(header.extensions_len_bytes).ok_or(Refused::Malformed)?;
        let (rest, extensions) = body.split_at_checked(end).ok_or(Refused::Malformed)?;
        Ok(Self { rest, extensions })
    }

    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Refused> {
        let (value, rest) = T::read_from_prefix(self.rest).map_err(|_| Refused::Malformed)?;
        self.rest = rest;
        Ok(value)
    }

    fn bytes(&mut self, len: u32) -> Result<&'a [u8], Refused> {
        let len = usize::try_from(len).map_err(|_| Refused::Malformed)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Refused::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A string that a zero byte ends.
    fn name(&mut self) -> Result<Vec<u8>, Refused> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or(Refused::Malformed)?;
        let (name, rest) = self.rest.split_at_checked(end).ok_or(Refused::Malformed)?;
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(name.to_vec())
    }

    /// As many pairs as were announced. They are counted by what has arrived, not by what was announced.
    fn batch(&mut self) -> Result<Vec<(NodeId, u64)>, Refused> {
        let count = self.take::<BatchForgetIn>()?.count;
        let len = count.checked_mul(16).ok_or(Refused::Malformed)?;
        let mut pairs = Self { rest: self.bytes(len)?, extensions: &[] };
        let mut forgotten = Vec::with_capacity(pairs.rest.len() / 16);
        while let Ok(ForgetOne { nodeid, nlookup }) = pairs.take() {
            forgotten.push((NodeId(nodeid), nlookup));
        }
        Ok(forgotten)
    }

    fn rename(&mut self, to: impl FnOnce(&mut Self) -> Result<(u64, u32), Refused>) -> Result<Request, Refused> {
        let (newdir, flags) = to(self)?;
        let (name, new_name) = (self.name()?, self.name()?);
        Ok(Request::Rename { name, new_parent: NodeId(newdir), new_name, flags })
    }

    fn write(&mut self, data_len_bytes: usize) -> Result<Write, Refused> {
        let raw: WriteIn = self.take()?;
        if usize::try_from(raw.size).ok() != Some(data_len_bytes) {
            return Err(Refused::Malformed);
        }
        Ok(Write {
            handle: raw.fh,
            offset_bytes: raw.offset,
            len_bytes: raw.size,
            write_flags: raw.write_flags,
            owner: given(raw.write_flags, write::LOCKOWNER, raw.lock_owner),
            flags: raw.flags,
        })
    }

    fn setxattr(&mut self, forms: Forms) -> Result<Request, Refused> {
        let (size, flags, kill_sgid) = if forms.setxattr_ext {
            let raw: SetxattrExtIn = self.take()?;
            (raw.size, raw.flags, Some(raw.setxattr_flags & setxattr::ACL_KILL_SGID != 0))
        } else {
            let raw: SetxattrIn = self.take()?;
            (raw.size, raw.flags, None)
        };
        let (name, value) = (self.name()?, self.bytes(size)?.to_vec());
        Ok(Request::Setxattr { name, value, flags, kill_sgid })
    }

    fn readdir(&mut self) -> Result<Readdir, Refused> {
        let raw: ReadIn = self.take()?;
        Ok(Readdir { handle: raw.fh, after: raw.offset, len_bytes: raw.size })
    }

    fn lock(&mut self) -> Result<(u64, Lock), Refused> {
        /// Kinds of locks in Linux.
        const SHARED: u32 = 0;
        const EXCLUSIVE: u32 = 1;
        const UNLOCK: u32 = 2;
        let LkIn { fh, owner, lk: FileLock { start, end, kind, pid }, lk_flags, .. } = self.take()?;
        let kind = match kind {
            SHARED => LockKind::Shared,
            EXCLUSIVE => LockKind::Exclusive,
            UNLOCK => LockKind::Unlock,
            _ => return Err(Refused::Malformed),
        };
        Ok((fh, Lock { owner, start, end, kind, pid, flock: lk_flags & lock::FLOCK != 0 }))
    }

    /// The extensions behind the arguments; those of unknown kinds are left out.
    fn extensions(&self) -> Result<Extensions, Refused> {
        let mut found = Extensions::default();
        let mut all = Self { rest: self.extensions, extensions: &[] };
        while !all.rest.is_empty() {
            let header: ExtensionHeader = all.take()?;
            let header_len = size_of::<ExtensionHeader>();
            let size = usize::try_from(header.size).map_err(|_| Refused::Malformed)?;
            let len = size.checked_sub(header_len).ok_or(Refused::Malformed)?;
            let (rest, _) = all.rest.split_at_checked(len).ok_or(Refused::Malformed)?;
            let mut one = Self { rest, extensions: &[] };
            if header.kind <= extension::SECURITY_CONTEXTS_MAX {
                for _ in 0..header.kind {
                    found.security.push(one.security()?);
                }
            } else if header.kind == extension::GROUPS {
                found.groups.extend(one.groups()?);
            }
            let padded = len.checked_next_multiple_of(RECORD_ALIGN_BYTES).ok_or(Refused::Malformed)?;
            all.rest = all.rest.get(padded..).ok_or(Refused::Malformed)?;
        }
        Ok(found)
    }

    fn groups(&mut self) -> Result<Vec<u32>, Refused> {
        let SupplementaryGroups { count } = self.take()?;
        let len = count.checked_mul(4).ok_or(Refused::Malformed)?;
        let mut numbers = Self { rest: self.bytes(len)?, extensions: &[] };
        let mut groups = Vec::with_capacity(numbers.rest.len() / 4);
        while let Ok(group) = numbers.take::<u32>() {
            groups.push(group);
        }
        Ok(groups)
    }

    /// One attribute of a security module: header, name, value.
    fn security(&mut self) -> Result<(Vec<u8>, Vec<u8>), Refused> {
        let SecurityContext { size, .. } = self.take()?;
        Ok((self.name()?, self.bytes(size)?.to_vec()))
    }
}

/// A value that counts only if a flag says so.
fn given(flags: u32, flag: u32, value: u64) -> Option<u64> {
    (flags & flag != 0).then_some(value)
}

fn setattr(raw: &SetattrIn) -> Setattr {
    let set = |flag| raw.valid & flag != 0;
    let new_time = |field, now, sec, nsec| {
        let at = if set(now) { NewTime::Now } else { NewTime::At(Timestamp { sec, nsec }) };
        set(field).then_some(at)
    };
    let change = SetAttr {
        permissions: set(setattr::MODE).then_some(raw.mode & 0o7777),
        uid: set(setattr::UID).then_some(raw.uid),
        gid: set(setattr::GID).then_some(raw.gid),
        size_bytes: set(setattr::SIZE).then_some(raw.size),
        atime: new_time(setattr::ATIME, setattr::ATIME_NOW, raw.atime, raw.atimensec),
        mtime: new_time(setattr::MTIME, setattr::MTIME_NOW, raw.mtime, raw.mtimensec),
    };
    Setattr {
        change,
        handle: given(raw.valid, setattr::FH, raw.fh),
        lock_owner: given(raw.valid, setattr::LOCKOWNER, raw.lock_owner),
        kill_suidgid: set(setattr::KILL_SUIDGID),
    }
}

#[cfg(test)]
#[path = "decode_test.rs"]
mod tests;
