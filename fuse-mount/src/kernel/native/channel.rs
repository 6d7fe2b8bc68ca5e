//! A descriptor of /dev/fuse: requests in, answers out.

// Reading into memory that has no content yet, and the ioctl of /dev/fuse, cannot be said in safe Rust.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, opcode};
use zerocopy::IntoBytes;

use super::abi::READ_BUFFER_MIN_BYTES;
use super::abi::answers::OutHeader;
use super::abi::requests::{InHeader, WriteIn};

/// Attaches a new descriptor to the connection of another one.
const CLONE: Opcode = opcode::read::<u32>(229, 0);

/// What stands before the data of a WRITE, in bytes.
const HEAD_BYTES: usize = size_of::<InHeader>() + size_of::<WriteIn>();

/// Data from this size on is handed over in the buffer that it arrived in. Below, copying it is cheaper than a new buffer.
const HAND_OVER_FROM_BYTES: usize = 128 << 10;

/// Most parts of one answer: its header, and two of its own.
const PARTS_MAX: usize = 3;

/// A descriptor. An answer goes out through the one that its request came in by.
#[derive(Debug)]
pub(in super::super) struct Channel {
    fuse: OwnedFd,
}

impl Channel {
    pub(in super::super) fn new(fuse: OwnedFd) -> Self {
        Self { fuse }
    }

    /// Another channel of the same connection.
    pub(super) fn of_same_connection(&self) -> io::Result<Self> {
        let fuse = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let source = self.fuse.as_raw_fd().cast_unsigned();
        // SAFETY: this ioctl of /dev/fuse reads one number of 32 bits.
        unsafe { rustix::ioctl::ioctl(&fuse, Setter::<CLONE, u32>::new(source))? };
        Ok(Self { fuse })
    }

    /// Waits for the next request: how many bytes it has. `None` when the filesystem is not mounted any more.
    ///
    /// # Errors
    /// What the operating system reports; EPERM if nothing was ever mounted through this descriptor.
    pub(super) fn receive(&self, buffer: &mut Buffer) -> io::Result<Option<usize>> {
        loop {
            match buffer.read_from(&self.fuse) {
                Ok(len) => return Ok(Some(len)),
                // The other one if the connection is aborted in the moment in which a request is taken from it.
                Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(None),
                // The last two: somebody else took it, or its process gave up, in the same moment.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends an answer or a notification.
    ///
    /// # Errors
    /// What the operating system reports: for an answer, ENOENT if nobody waits for it any more.
    pub(in super::super) fn send(&self, unique: u64, error: i32, parts: &[&[u8]]) -> io::Result<()> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + size_of::<OutHeader>();
        let len = u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let header = OutHeader { len, error, unique };
        let mut slices = [IoSlice::new(header.as_bytes()), IoSlice::new(&[]), IoSlice::new(&[])];
        for (slice, part) in slices.iter_mut().skip(1).zip(parts) {
            *slice = IoSlice::new(part);
        }
        debug_assert!(parts.len() < PARTS_MAX, "an answer of more parts than there is room for");
        let used = slices.get(..=parts.len()).unwrap_or(&slices);
        // One call is one message: the kernel takes all of it, or refuses it.
        rustix::io::writev(&self.fuse, used)?;
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fuse.as_fd()
    }
}

/// Where a request arrives: what precedes the data of a WRITE in one place, the data in another, so that the data can be
/// handed on as it is.
#[derive(Debug)]
pub(super) struct Buffer {
    head: [u8; HEAD_BYTES],
    head_len: usize,
    rest: Vec<u8>,
    rest_bytes: usize,
    joined: Vec<u8>,
}

impl Buffer {
    /// For requests with up to `write_max_bytes` of data.
    pub(super) fn new(write_max_bytes: u32) -> Self {
        // Other requests are longer than data by their arguments: two names, or an extended attribute.
        let data = usize::try_from(write_max_bytes).unwrap_or(READ_BUFFER_MIN_BYTES);
        let rest_bytes = data.max(READ_BUFFER_MIN_BYTES);
        Self { head: [0; HEAD_BYTES], head_len: 0, rest: Vec::new(), rest_bytes, joined: Vec::new() }
    }

    fn read_from(&mut self, fuse: &OwnedFd) -> Result<usize, Errno> {
        self.rest.clear();
        self.rest.reserve_exact(self.rest_bytes);
        let parts = [
            libc::iovec { iov_base: self.head.as_mut_ptr().cast(), iov_len: HEAD_BYTES },
            libc::iovec { iov_base: self.rest.as_mut_ptr().cast(), iov_len: self.rest_bytes },
        ];
        // SAFETY: both parts are memory of this buffer that nobody else refers to, as long as they say: `rest` has room
        // for `rest_bytes`. The kernel only writes to them.
        let read = unsafe { libc::readv(fuse.as_raw_fd(), parts.as_ptr(), 2) };
        let len = usize::try_from(read)
            .map_err(|_| Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))?;
        self.head_len = len.min(HEAD_BYTES);
        let rest_len = (len - self.head_len).min(self.rest_bytes);
        // SAFETY: the parts are filled in order, so the kernel has written this many bytes to the second one.
        unsafe { self.rest.set_len(rest_len) };
        Ok(len)
    }

    /// The beginning of the request.
    pub(super) fn head(&self) -> &[u8] {
        self.head.get(..self.head_len).unwrap_or_default()
    }

    /// How many bytes follow what precedes the data of a WRITE.
    pub(super) fn data_len(&self) -> usize {
        self.rest.len()
    }

    /// What follows the header, up to the data of a WRITE.
    pub(super) fn body_of_write(&self) -> &[u8] {
        self.head().get(size_of::<InHeader>()..).unwrap_or_default()
    }

    /// What follows the header, all of it.
    pub(super) fn body(&mut self) -> &[u8] {
        if self.rest.is_empty() {
            return self.body_of_write();
        }
        self.joined.clear();
        self.joined.extend_from_slice(self.head.get(size_of::<InHeader>()..self.head_len).unwrap_or_default());
        self.joined.extend_from_slice(&self.rest);
        &self.joined
    }

    /// The data of a WRITE.
    pub(super) fn take_data(&mut self) -> Vec<u8> {
        if self.rest.len() < HAND_OVER_FROM_BYTES {
            self.rest.as_slice().to_vec()
        } else {
            std::mem::take(&mut self.rest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_a_pipe(message: &[u8], buffer: &mut Buffer) -> usize {
        use std::io::Write;
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(message).unwrap();
        Channel::new(reader.into()).receive(buffer).unwrap().unwrap()
    }

    fn message(len: usize) -> Vec<u8> {
        (0..len).map(|index| u8::try_from(index % 251).unwrap()).collect()
    }

    #[test]
    fn a_request_is_the_same_whether_it_is_short_or_long() {
        let mut buffer = Buffer::new(8192);
        for len in [1, 39, 40, 41, 79, 80, 81, 5000, 60, 80 + 8192] {
            let sent = message(len);
            assert_eq!(through_a_pipe(&sent, &mut buffer), len);
            assert_eq!(buffer.head(), &sent[..len.min(80)]);
            assert_eq!(buffer.body(), sent.get(40..).unwrap_or_default(), "{len} bytes");
            assert_eq!(buffer.data_len(), len.saturating_sub(80));
        }
    }

    #[test]
    fn data_is_handed_over_in_its_own_buffer_if_it_is_large() {
        let mut buffer = Buffer::new(1 << 20);
        for len in [0, 10, HAND_OVER_FROM_BYTES, 10, 65_000] {
            // A pipe takes 64 KiB at a time.
            buffer.rest = message(len);
            let place = buffer.rest.as_ptr();
            let data = buffer.take_data();
            assert_eq!(data, message(len));
            assert_eq!(len > 0 && data.as_ptr() == place, len >= HAND_OVER_FROM_BYTES);
            assert_eq!(through_a_pipe(&message(1000), &mut buffer), 1000);
            assert_eq!(buffer.body(), &message(1000)[40..]);
        }
    }
    #[test]
    fn a_connection_that_is_aborted_has_ended_and_not_failed() {
        use std::path::Path;

        use rustix::mount::UnmountFlags;

        use super::super::abi::flags::init;
        use super::super::decode;
        use crate::mount::options::Options;
        use crate::mount::syscall::{self, FsType, Source};
        use crate::mount::{connection, mountinfo};

        let controlled = mountinfo::read().unwrap().iter().any(|mount| mount.kind == "fusectl");
        if !rustix::process::geteuid().is_root() || !controlled {
            println!("not run: needs root and fusectl");
            return;
        }
        let target = std::env::temp_dir().join(format!("lunfs-aborted-{}", std::process::id()));
        std::fs::create_dir(&target).unwrap();
        let fuse = syscall::open_fuse().unwrap();
        let source = Source { kind: FsType::Fuse, device: Path::new("aborted"), sector_bytes: 512 };
        syscall::mount(&fuse, source, &target, &Options::default()).unwrap();
        let fs = syscall::mounted_at(&target).unwrap();
        let channel = Channel::new(fuse);
        let mut buffer = Buffer::new(4096);

        // Without this flag the kernel gives this answer too, but only if it is aborted in the right moment.
        let len = channel.receive(&mut buffer).unwrap().unwrap();
        let unique = decode::header(buffer.head(), len).unwrap().unique;
        let flags = u32::try_from(init::ABORT_ERROR).unwrap();
        let mut answer = [0; 16];
        answer[..6].copy_from_slice(&[7, 31, 0, flags, 0, 4096]);
        channel.send(unique, 0, &[answer.as_bytes()]).unwrap();
        connection::abort(fs).unwrap();
        assert_eq!(buffer.read_from(&channel.fuse).unwrap_err(), Errno::CONNABORTED);
        let ended = channel.receive(&mut buffer);

        syscall::unmount(&target, UnmountFlags::DETACH).unwrap();
        std::fs::remove_dir(&target).unwrap();
        assert_eq!(ended.unwrap(), None);
    }
}
