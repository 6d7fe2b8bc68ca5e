//! Notifications: what the filesystem tells the kernel without being asked.
//!
//! Most of them wait for locks that requests in flight may hold. Hence they are for threads of their own: never for one that
//! answers requests, and never under a lock that a handler may need.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use zerocopy::IntoBytes;

use super::super::NodeId;
use super::abi::answers::{
    NotifyDeleteOut, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyPruneOut, NotifyRetrieveOut, NotifyStoreOut,
};
use super::abi::flags::{inval_entry, notify};
use super::channel::Channel;

/// Notifications have no number of their own.
const NO_REQUEST: u64 = 0;

/// Pages that the kernel was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// Where they begin, in bytes.
    pub offset_bytes: u64,
    /// What the kernel had from there on without a gap; may be nothing.
    pub data: Vec<u8>,
}

/// Questions for pages that the kernel has not answered yet.
#[derive(Debug, Default)]
pub(in super::super) struct Retrievals {
    last: AtomicU64,
    waiting: Mutex<HashMap<u64, Sender<Pages>>>,
}

impl Retrievals {
    /// The kernel has answered.
    pub(super) fn arrived(&self, unique: u64, pages: Pages) {
        if let Some(sender) = self.waiting.lock().remove(&unique) {
            // Who asked may have given up.
            sender.send(pages).ok();
        }
    }

    /// Nothing more will arrive.
    pub(super) fn end(&self) {
        self.waiting.lock().clear();
    }
}

/// Tells the kernel what to forget. For blocking threads only: see the module.
#[derive(Debug, Clone)]
pub struct Notifier {
    channel: Arc<Channel>,
    retrievals: Arc<Retrievals>,
}

#[allow(clippy::missing_errors_doc)] // All pass on what the kernel says; where that has a meaning, it is told.
impl Notifier {
    pub(in super::super) fn new(channel: Arc<Channel>, retrievals: Arc<Retrievals>) -> Self {
        Self { channel, retrievals }
    }

    fn send(&self, kind: i32, parts: &[&[u8]]) -> io::Result<()> {
        self.channel.send(NO_REQUEST, kind, parts)
    }

    /// Forgets attributes, and pages of a range; a length of 0 reaches to the end. Pages that were changed through mmap are
    /// written first. Waits for every request in flight that holds such a page.
    ///
    /// ENOENT: the kernel does not know the inode, or not yet: the answer to a LOOKUP may be on its way.
    pub fn invalidate_pages(&self, node: NodeId, offset_bytes: u64, len_bytes: u64) -> io::Result<()> {
        let number = |value| i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
        let (off, len) = (number(offset_bytes)?, number(len_bytes)?);
        self.send(notify::INVAL_INODE, &[NotifyInvalInodeOut { ino: node.0, off, len }.as_bytes()])
    }

    /// Forgets attributes only. Waits for nothing. ENOENT as above.
    pub fn invalidate_attributes(&self, node: NodeId) -> io::Result<()> {
        self.send(notify::INVAL_INODE, &[NotifyInvalInodeOut { ino: node.0, off: -1, len: 0 }.as_bytes()])
    }

    /// Drops a name, and detaches what is mounted below. Waits for requests in flight in that directory.
    ///
    /// ENOENT: the kernel does not know directory or name.
    pub fn invalidate_entry(&self, parent: NodeId, name: &[u8]) -> io::Result<()> {
        self.entry(parent, name, 0)
    }

    /// Makes the kernel look a name up again at its next use; what is open or mounted below stays.
    pub fn expire_entry(&self, parent: NodeId, name: &[u8]) -> io::Result<()> {
        self.entry(parent, name, inval_entry::EXPIRE_ONLY)
    }

    fn entry(&self, parent: NodeId, name: &[u8], flags: u32) -> io::Result<()> {
        let message = NotifyInvalEntryOut { parent: parent.0, namelen: len(name)?, flags };
        self.send(notify::INVAL_ENTRY, &[&joined(message.as_bytes(), name)])
    }

    /// Says that a name has been removed, so that who watches the directory is told. ENOENT as above; EBUSY if something is
    /// mounted there, ENOTEMPTY if the kernel knows names below.
    pub fn delete(&self, parent: NodeId, child: NodeId, name: &[u8]) -> io::Result<()> {
        let message = NotifyDeleteOut { parent: parent.0, child: child.0, namelen: len(name)?, padding: 0 };
        self.send(notify::DELETE, &[&joined(message.as_bytes(), name)])
    }

    /// Puts data into the page cache. Data past the end is seen once the file is that long: the kernel asks for its size.
    pub fn store(&self, node: NodeId, offset_bytes: u64, data: &[u8]) -> io::Result<()> {
        let message = NotifyStoreOut { nodeid: node.0, offset: offset_bytes, size: len(data)?, padding: 0 };
        self.send(notify::STORE, &[message.as_bytes(), data])
    }

    /// Asks for what is in the page cache. The pages arrive later, or the session ends. Only the native transport can
    /// receive them.
    pub fn retrieve(&self, node: NodeId, offset_bytes: u64, len_bytes: u32) -> io::Result<Receiver<Pages>> {
        let unique = self.retrievals.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (sender, receiver) = channel();
        self.retrievals.waiting.lock().insert(unique, sender);
        let message = NotifyRetrieveOut {
            notify_unique: unique,
            nodeid: node.0,
            offset: offset_bytes,
            size: len_bytes,
            padding: 0,
        };
        let sent = self.send(notify::RETRIEVE, &[message.as_bytes()]);
        if sent.is_err() {
            self.retrievals.waiting.lock().remove(&unique);
        }
        sent.map(|()| receiver)
    }

    /// Makes the kernel send again every request that it waits for. For a server that takes over a connection: one that
    /// still has the requests would serve them twice.
    pub fn resend(&self) -> io::Result<()> {
        self.send(notify::RESEND, &[])
    }

    /// Makes the kernel look up every name of the mount again at its next use. Waits for nothing.
    ///
    /// EINVAL: a kernel before 7.44.
    pub fn expire_all_entries(&self) -> io::Result<()> {
        self.send(notify::INC_EPOCH, &[])
    }

    /// Makes the kernel forget inodes that nobody uses: FORGET requests follow.
    ///
    /// EINVAL: a kernel before 7.45.
    pub fn prune(&self, nodes: &[NodeId]) -> io::Result<()> {
        let count = u32::try_from(nodes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let message = NotifyPruneOut { count, padding: 0, spare: 0 };
        let numbers: Vec<u64> = nodes.iter().map(|node| node.0).collect();
        self.send(notify::PRUNE, &[message.as_bytes(), numbers.as_bytes()])
    }
}

fn len(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A message and a name that a zero byte ends.
fn joined(message: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + name.len() + 1);
    bytes.extend_from_slice(message);
    bytes.extend_from_slice(name);
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A notifier whose messages end in a pipe.
    fn notifier() -> (Notifier, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let channel = Arc::new(Channel::new(writer.into()));
        (Notifier::new(channel, Arc::default()), reader)
    }

    /// One message: its kind, and what follows the header.
    fn next(reader: &mut io::PipeReader) -> (i32, Vec<u8>) {
        use std::io::Read;
        let mut header = [0; 16];
        reader.read_exact(&mut header).unwrap();
        let len = u32::from_ne_bytes(header[0..4].try_into().unwrap());
        assert_eq!(header[8..], [0; 8]);
        let mut body = vec![0; len as usize - 16];
        reader.read_exact(&mut body).unwrap();
        (i32::from_ne_bytes(header[4..8].try_into().unwrap()), body)
    }

    fn bytes(numbers: &[u64], rest: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        bytes.extend_from_slice(rest);
        bytes
    }

    fn halves(low: u32, high: u32) -> u64 {
        u64::from(low) | (u64::from(high) << 32)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn each_kind_looks_as_the_header_of_the_kernel_says() {
        let (notifier, mut reader) = notifier();
        let (node, parent) = (NodeId(7), NodeId::ROOT);
        notifier.invalidate_pages(node, 4096, 0).unwrap();
        assert_eq!(next(&mut reader), (2, bytes(&[7, 4096, 0], b"")));
        notifier.invalidate_attributes(node).unwrap();
        assert_eq!(next(&mut reader), (2, bytes(&[7, u64::MAX, 0], b"")));
        notifier.invalidate_entry(parent, b"name").unwrap();
        assert_eq!(next(&mut reader), (3, bytes(&[1, halves(4, 0)], b"name\0")));
        notifier.expire_entry(parent, b"name").unwrap();
        assert_eq!(next(&mut reader), (3, bytes(&[1, halves(4, 1)], b"name\0")));
        notifier.delete(parent, node, b"x").unwrap();
        assert_eq!(next(&mut reader), (6, bytes(&[1, 7, 1], b"x\0")));
        notifier.store(node, 5, b"data").unwrap();
        assert_eq!(next(&mut reader), (4, bytes(&[7, 5, 4], b"data")));
        notifier.resend().unwrap();
        assert_eq!(next(&mut reader), (7, Vec::new()));
        notifier.expire_all_entries().unwrap();
        assert_eq!(next(&mut reader), (8, Vec::new()));
        notifier.prune(&[node, NodeId(9)]).unwrap();
        assert_eq!(next(&mut reader), (9, bytes(&[2, 0, 7, 9], b"")));
        assert!(notifier.invalidate_pages(node, u64::MAX, 0).is_err());
    }

    #[test]
    fn retrieved_pages_reach_who_asked_for_them_and_nobody_waits_after_the_end() {
        let (notifier, mut reader) = notifier();
        let first = notifier.retrieve(NodeId(7), 0, 10).unwrap();
        let second = notifier.retrieve(NodeId(7), 0, 10).unwrap();
        next(&mut reader);
        let (kind, asked) = next(&mut reader);
        assert_eq!((kind, asked.len()), (5, 32));
        let unique = u64::from_ne_bytes(asked[0..8].try_into().unwrap());
        let pages = Pages { offset_bytes: 0, data: vec![1, 2] };
        notifier.retrievals.arrived(unique, pages.clone());
        notifier.retrievals.arrived(unique, pages.clone());
        assert_eq!(second.recv().unwrap(), pages);
        notifier.retrievals.end();
        first.recv().unwrap_err();
    }
}
