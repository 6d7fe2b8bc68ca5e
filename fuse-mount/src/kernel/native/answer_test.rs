use std::io::Read;

use fs_core::addr::InodeNo;
use fs_core::attr::FileKind;

use super::super::super::NodeId;
use super::*;

/// A reply whose bytes end in a pipe.
fn reply() -> (Reply, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let channel = Arc::new(Channel::new(writer.into()));
    (Reply::new(&channel, &Arc::default(), 0x22), reader)
}

/// What an answer consists of: its error, and what follows the header.
fn answered(give: impl FnOnce(Reply)) -> (i32, Vec<u8>) {
    let (reply, mut reader) = reply();
    give(reply);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(u32::from_ne_bytes(bytes[0..4].try_into().unwrap()) as usize, bytes.len());
    assert_eq!(u64::from_ne_bytes(bytes[8..16].try_into().unwrap()), 0x22);
    (i32::from_ne_bytes(bytes[4..8].try_into().unwrap()), bytes[16..].to_vec())
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(bytes[offset..offset + 8].try_into().unwrap())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn some_attr() -> fs_core::attr::Attr {
    fs_core::attr::Attr {
        ino: InodeNo::new(77).unwrap(),
        generation: 3,
        kind: FileKind::BlockDevice,
        permissions: 0o4640,
        nlink: 2,
        uid: 12,
        gid: 34,
        rdev: (8, 17),
        size_bytes: 1 << 40,
        sectors: 9,
        block_size_bytes: 4096,
        atime: Timestamp { sec: -2, nsec: 500_000_000 },
        mtime: Timestamp { sec: i64::MIN, nsec: 4_000_000_000 },
        ctime: Timestamp { sec: i64::MAX, nsec: 1 },
    }
}

fn some_entry() -> Entry {
    Entry { node: NodeId::ROOT, attr: some_attr(), valid: Duration::new(10, 20) }
}

fn assert_is_attr(bytes: &[u8]) {
    assert_eq!([u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16)], [77, 1 << 40, 9]);
    let seconds = [24, 32, 40].map(|offset| u64_at(bytes, offset).cast_signed());
    assert_eq!(seconds, [-2, i64::MIN, i64::MAX]);
    let rest = [48, 52, 56, 60, 64, 68, 72, 76, 80, 84].map(|offset| u32_at(bytes, offset));
    assert_eq!(rest, [500_000_000, 999_999_999, 1, 0o64_640, 2, 12, 34, 0x811, 4096, 0]);
}

#[test]
fn entries_and_attributes_are_where_the_kernel_looks_for_them() {
    let (error, bytes) = answered(|reply| reply.entry(&some_entry()));
    assert_eq!((error, bytes.len()), (0, 128));
    assert_eq!([0, 8, 16, 24].map(|offset| u64_at(&bytes, offset)), [1, 3, 10, 10]);
    assert_eq!([32, 36].map(|offset| u32_at(&bytes, offset)), [20, 20]);
    assert_is_attr(&bytes[40..]);

    let attributes = Attributes { attr: some_attr(), valid: Duration::new(10, 20) };
    let (_, bytes) = answered(|reply| reply.attributes(&attributes));
    assert_eq!((bytes.len(), u64_at(&bytes, 0), u32_at(&bytes, 8)), (104, 10, 20));
    assert_is_attr(&bytes[16..]);

    let (error, bytes) = answered(|reply| reply.no_entry(Duration::new(10, 20)));
    assert_eq!((error, bytes.len(), u64_at(&bytes, 0), u64_at(&bytes, 16)), (0, 128, 0, 10));

    let (_, bytes) = answered(|reply| reply.created(&some_entry(), Opened { keep_cache: true }));
    assert_eq!((bytes.len(), u32_at(&bytes, 136)), (144, 2));
}

#[test]
fn small_answers_are_exact() {
    assert_eq!(answered(|reply| reply.error(Errno::STALE)), (-116, Vec::new()));
    assert_eq!(answered(Reply::ok), (0, Vec::new()));
    assert_eq!(answered(|reply| reply.bytes(b"data")), (0, b"data".to_vec()));
    assert_eq!(answered(|reply| reply.written(5)).1, [5_u32, 0].map(u32::to_ne_bytes).concat());
    assert_eq!(answered(|reply| reply.offset(7)).1, 7_i64.to_ne_bytes());
    let statfs = StatfsAnswer {
        block_size_bytes: 4096,
        blocks_total: 10,
        blocks_free: 9,
        blocks_available: 8,
        inodes_total: 7,
        inodes_free: 6,
        name_max_bytes: 255,
    };
    let (_, bytes) = answered(|reply| reply.statfs(&statfs));
    assert_eq!([0, 8, 16, 24, 32].map(|offset| u64_at(&bytes, offset)), [10, 9, 8, 7, 6]);
    assert_eq!([40, 44, 48].map(|offset| u32_at(&bytes, offset)), [4096, 255, 4096]);
    assert_eq!(bytes.len(), 80);
}

#[test]
fn extended_attributes_are_given_whole_or_measured_or_refused() {
    assert_eq!(answered(|reply| reply.xattr(b"value", 0)).1, [5_u32, 0].map(u32::to_ne_bytes).concat());
    assert_eq!(answered(|reply| reply.xattr(b"value", 5)), (0, b"value".to_vec()));
    assert_eq!(answered(|reply| reply.xattr(b"value", 4)), (-34, Vec::new()));
    assert_eq!(answered(|reply| reply.xattr(b"", 4)), (0, Vec::new()));
}

#[test]
fn what_is_dropped_without_an_answer_has_failed() {
    assert_eq!(answered(drop), (-5, Vec::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let driver = super::super::super::drive::Driver::new(runtime.handle().clone());
    let panics = |reply: Reply| {
        driver.drive(async move {
            let _reply = reply;
            panic!("for the test")
        });
    };
    assert_eq!(answered(panics), (-5, Vec::new()));
}

#[test]
fn listings_are_aligned_and_keep_to_their_limit() {
    let name = |text: &str, cookie| DirEntry {
        ino: InodeNo::new(77).unwrap(),
        kind: FileKind::Directory,
        name: text.into(),
        cookie,
    };
    let mut listing = Listing::new(24 + 8 + 24 + 16);
    assert!(listing.add(&name("12345678", 5)));
    assert!(!listing.add(&name("12345678 12345678", 6)), "one byte too long");
    assert!(listing.add(&name("123456789", 6)));
    assert!(!listing.add(&name("", 7)));
    let bytes = listing.bytes();
    assert_eq!(bytes.len(), 72);
    assert_eq!((u64_at(bytes, 0), u64_at(bytes, 8), u32_at(bytes, 16), u32_at(bytes, 20)), (77, 5, 8, 4));
    assert_eq!(&bytes[24..32], b"12345678");
    assert_eq!((u64_at(bytes, 40), u32_at(bytes, 48)), (6, 9));
    assert_eq!(&bytes[56..], b"123456789\0\0\0\0\0\0\0");

    let mut listing = Listing::new(160);
    assert!(listing.add_with_attributes(&name("a", 5), &some_entry()));
    assert!(!listing.add_with_attributes(&name("a", 5), &some_entry()));
    assert_eq!((listing.bytes().len(), u64_at(listing.bytes(), 0)), (160, 1));
    assert_is_attr(&listing.bytes()[40..]);
    assert_eq!((u64_at(listing.bytes(), 136), listing.bytes()[152]), (5, b'a'));
}

#[test]
fn a_lock_in_the_way_is_told() {
    let asked = Lock { owner: 1, start: 2, end: 3, kind: LockKind::Exclusive, pid: 4, flock: false };
    let (_, bytes) = answered(|reply| reply.lock(None, asked));
    assert_eq!((u32_at(&bytes, 16), bytes.len()), (2, 24));
    let found = Lock { owner: 9, start: 0, end: 9, kind: LockKind::Shared, pid: 8, flock: false };
    let (_, bytes) = answered(|reply| reply.lock(Some(found), asked));
    assert_eq!((u64_at(&bytes, 0), u64_at(&bytes, 8), u32_at(&bytes, 16), u32_at(&bytes, 20)), (0, 9, 0, 8));
}
