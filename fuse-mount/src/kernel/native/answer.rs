//! Answers: from what a handler returns to the bytes that the kernel gets.

use std::sync::Arc;
use std::time::Duration;

use fs_core::attr::{DirEntry, Timestamp};
use zerocopy::{Immutable, IntoBytes};

use super::super::interruption::UnderWay;
use super::super::lock::{Lock, LockKind};
use super::super::{Attributes, Entry, Errno, Opened, StatfsAnswer, linux};
use super::abi::RECORD_ALIGN_BYTES;
use super::abi::answers::{
    Attr, AttrOut, CopyFileRangeOut, Dirent, Direntplus, EntryOut, GetxattrOut, IoctlOut, LkOut, LseekOut, OpenOut,
    StatfsOut, WriteOut,
};
use super::abi::flags::open;
use super::abi::requests::FileLock;
use super::channel::Channel;

/// Handles of files mean nothing here: an inode's number says all.
const NO_HANDLE: u64 = 0;

const NSEC_MAX: u32 = 999_999_999;

/// The answer that a request waits for. Dropped without one, it says that the request failed.
#[derive(Debug)]
pub(super) struct Reply {
    channel: Arc<Channel>,
    requests: Arc<UnderWay>,
    unique: u64,
    answered: bool,
}

impl Reply {
    pub(super) fn new(channel: &Arc<Channel>, requests: &Arc<UnderWay>, unique: u64) -> Self {
        requests.begin(unique);
        Self { channel: Arc::clone(channel), requests: Arc::clone(requests), unique, answered: false }
    }

    pub(super) fn error(mut self, errno: Errno) {
        self.send(-errno.0, &[]);
    }

    pub(super) fn ok(mut self) {
        self.send(0, &[]);
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) {
        self.send(0, &[bytes]);
    }

    fn value<T: IntoBytes + Immutable>(mut self, value: &T) {
        self.send(0, &[value.as_bytes()]);
    }

    /// What `give` makes of a result that is good.
    pub(super) fn result<T>(self, result: Result<T, Errno>, give: impl FnOnce(Self, T)) {
        match result {
            Ok(value) => give(self, value),
            Err(errno) => self.error(errno),
        }
    }

    pub(super) fn empty(self, result: Result<(), Errno>) {
        self.result(result, |reply, ()| reply.ok());
    }

    pub(super) fn entry(self, entry: &Entry) {
        self.value(&entry_out(entry));
    }

    /// There is no such name, and the kernel may believe it for a while.
    pub(super) fn no_entry(self, valid: Duration) {
        let nothing = Attr {
            ino: 0,
            size: 0,
            blocks: 0,
            atime: 0,
            mtime: 0,
            ctime: 0,
            atimensec: 0,
            mtimensec: 0,
            ctimensec: 0,
            mode: 0,
            nlink: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 0,
            flags: 0,
        };
        self.value(&EntryOut {
            nodeid: 0,
            generation: 0,
            entry_valid: valid.as_secs(),
            attr_valid: 0,
            entry_valid_nsec: valid.subsec_nanos(),
            attr_valid_nsec: 0,
            attr: nothing,
        });
    }

    pub(super) fn attributes(self, attributes: &Attributes) {
        let valid = attributes.valid;
        self.value(&AttrOut {
            attr_valid: valid.as_secs(),
            attr_valid_nsec: valid.subsec_nanos(),
            dummy: 0,
            attr: attr(&attributes.attr),
        });
    }

    pub(super) fn opened(self, opened: Opened) {
        self.value(&open_out(opened));
    }

    pub(super) fn created(mut self, entry: &Entry, opened: Opened) {
        self.send(0, &[entry_out(entry).as_bytes(), open_out(opened).as_bytes()]);
    }

    pub(super) fn written(self, size: u32) {
        self.value(&WriteOut { size, padding: 0 });
    }

    pub(super) fn copied(self, bytes_copied: u64) {
        self.value(&CopyFileRangeOut { bytes_copied });
    }

    /// An ioctl that has succeeded, with what it returns.
    pub(super) fn ioctl(mut self, data: &[u8]) {
        let header = IoctlOut { result: 0, flags: 0, in_iovs: 0, out_iovs: 0 };
        self.send(0, &[header.as_bytes(), data]);
    }

    pub(super) fn offset(self, offset: i64) {
        self.value(&LseekOut { offset });
    }

    pub(super) fn statfs(self, statfs: &StatfsAnswer) {
        self.value(&StatfsOut {
            blocks: statfs.blocks_total,
            bfree: statfs.blocks_free,
            bavail: statfs.blocks_available,
            files: statfs.inodes_total,
            ffree: statfs.inodes_free,
            bsize: statfs.block_size_bytes,
            namelen: statfs.name_max_bytes,
            frsize: statfs.block_size_bytes,
            padding: 0,
            spare: [0; 6],
        });
    }

    /// A value or a list of names: its length if no room is offered, else all of it or nothing.
    pub(super) fn xattr(self, value: &[u8], room_bytes: u32) {
        match u32::try_from(value.len()) {
            Ok(size) if room_bytes == 0 => self.value(&GetxattrOut { size, padding: 0 }),
            Ok(size) if size <= room_bytes => self.bytes(value),
            _ => self.error(Errno::RANGE),
        }
    }

    /// The lock that stands in the way, or that none does.
    pub(super) fn lock(self, found: Option<Lock>, asked: Lock) {
        let lock = found.unwrap_or(Lock { kind: LockKind::Unlock, ..asked });
        let kind = match lock.kind {
            LockKind::Shared => 0,
            LockKind::Exclusive => 1,
            LockKind::Unlock => 2,
        };
        self.value(&LkOut { lk: FileLock { start: lock.start, end: lock.end, kind, pid: lock.pid } });
    }

    fn send(&mut self, error: i32, parts: &[&[u8]]) {
        self.answered = true;
        // Before the answer: the number may be used again as soon as the kernel has it.
        self.requests.end(self.unique);
        let Err(failed) = self.channel.send(self.unique, error, parts) else { return };
        match failed.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            // Nobody waits any more, or the filesystem is not mounted any more.
            Some(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => {}
            // Whoever waits must not wait for ever.
            _ => {
                tracing::error!(error = %failed, "the kernel refused an answer");
                self.channel.send(self.unique, -Errno::IO.0, &[]).ok();
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            self.send(-Errno::IO.0, &[]);
        }
    }
}

fn nsec(time: Timestamp) -> u32 {
    // A disk can say more.
    time.nsec.min(NSEC_MAX)
}

fn attr(attr: &fs_core::attr::Attr) -> Attr {
    Attr {
        ino: attr.ino.get(),
        size: attr.size_bytes,
        blocks: attr.sectors,
        atime: attr.atime.sec,
        mtime: attr.mtime.sec,
        ctime: attr.ctime.sec,
        atimensec: nsec(attr.atime),
        mtimensec: nsec(attr.mtime),
        ctimensec: nsec(attr.ctime),
        mode: attr.kind.mode_bits() | (attr.permissions & 0o7777),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: linux::device_number(attr.rdev),
        blksize: attr.block_size_bytes,
        flags: 0,
    }
}

fn entry_out(entry: &Entry) -> EntryOut {
    let valid = entry.valid;
    EntryOut {
        nodeid: entry.node.0,
        generation: entry.attr.generation,
        entry_valid: valid.as_secs(),
        attr_valid: valid.as_secs(),
        entry_valid_nsec: valid.subsec_nanos(),
        attr_valid_nsec: valid.subsec_nanos(),
        attr: attr(&entry.attr),
    }
}

fn open_out(opened: Opened) -> OpenOut {
    let open_flags = if opened.keep_cache { open::KEEP_CACHE } else { 0 };
    OpenOut { fh: NO_HANDLE, open_flags, backing_id: 0 }
}

/// The answer to READDIR and READDIRPLUS while it grows.
#[derive(Debug)]
pub(super) struct Listing {
    bytes: Vec<u8>,
    len_max: usize,
}

impl Listing {
    /// An answer of at most `len_max` bytes.
    pub(super) fn new(len_max: usize) -> Self {
        Self { bytes: Vec::with_capacity(len_max), len_max }
    }

    /// Adds a name. False if it has no room.
    pub(super) fn add(&mut self, entry: &DirEntry) -> bool {
        self.add_record(dirent(entry).as_bytes(), &entry.name)
    }

    /// Adds a name and what it leads to. False if it has no room.
    pub(super) fn add_with_attributes(&mut self, name: &DirEntry, entry: &Entry) -> bool {
        let record = Direntplus { entry: entry_out(entry), dirent: dirent(name) };
        self.add_record(record.as_bytes(), &name.name)
    }

    fn add_record(&mut self, record: &[u8], name: &[u8]) -> bool {
        let end = (self.bytes.len() + record.len() + name.len()).next_multiple_of(RECORD_ALIGN_BYTES);
        if end > self.len_max {
            return false;
        }
        self.bytes.extend_from_slice(record);
        self.bytes.extend_from_slice(name);
        self.bytes.resize(end, 0);
        true
    }

    /// What was added.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn dirent(entry: &DirEntry) -> Dirent {
    Dirent {
        ino: entry.ino.get(),
        off: entry.cookie,
        namelen: u32::try_from(entry.name.len()).unwrap_or(u32::MAX),
        kind: entry.kind.dirent_number().into(),
    }
}

#[cfg(test)]
#[path = "answer_test.rs"]
mod tests;
