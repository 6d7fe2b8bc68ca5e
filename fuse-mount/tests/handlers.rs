//! Handlers on a real volume in memory: what the kernel is told.

// A test that meets something unexpected has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use block::mem::MemDevice;
use fs_core::attr::{
    Caller, FileKind, OpenFlags, RenameMode, SeekTarget, SetAttr, SetXattr, Timestamp, WriteFlags, XattrMode,
};
use fs_core::fs::{Fs, MountOptions};
use fuse_mount::daemon::clock::Clock;
use fuse_mount::handlers::Handlers;
use fuse_mount::kernel::{Entry, Errno, Found, NodeId};

const VOLUME_BYTES: u64 = 64 << 20;
const ROOT: NodeId = NodeId::ROOT;
const USER: Caller = Caller { uid: 1000, gid: 1000, umask: 0 };
const READ: OpenFlags = OpenFlags { write: false, truncate: false, append: false };

async fn volume() -> (Arc<Fs>, Handlers) {
    use block::device::BlockDevice;
    let device = MemDevice::new(VOLUME_BYTES);
    let options = mkfs::options::Options { journals: Some(1), journal_bytes: Some(8 << 20), ..Default::default() };
    let plan = mkfs::plan::Plan::new(VOLUME_BYTES, &device.geometry(), &options).unwrap();
    let identity = mkfs::options::Identity::new(None, Timestamp::default());
    mkfs::format(&device, &plan, &identity, false, &|_| {}).await.unwrap();
    let fs = Fs::mount(Arc::new(device), MountOptions::default(), Arc::new(Clock)).await.unwrap();
    (Arc::clone(&fs), Handlers::new(fs))
}

async fn create(handlers: &Handlers, name: &[u8]) -> Entry {
    handlers.create(ROOT, name, 0o100_644, true, READ, USER).await.unwrap().0
}

#[tokio::test]
async fn the_root_is_node_one_and_shows_its_own_number() {
    let (fs, handlers) = volume().await;
    let root = handlers.getattr(ROOT).await.unwrap().attr;
    assert_eq!(root.ino, fs.root());
    assert_ne!(root.ino.get(), ROOT.0);
    assert_eq!(root.kind, FileKind::Directory);
    let file = create(&handlers, b"file").await;
    assert_eq!(file.node, NodeId(file.attr.ino.get()));
    assert_eq!(handlers.getattr(NodeId(0)).await.unwrap_err(), Errno::STALE);
}

#[tokio::test]
async fn a_missing_name_is_an_answer_that_may_be_remembered() {
    let (_fs, handlers) = volume().await;
    match handlers.lookup(ROOT, b"nothing").await.unwrap() {
        Found::Nothing { valid } => assert!(!valid.is_zero()),
        Found::Entry(entry) => panic!("{entry:?}"),
    }
    create(&handlers, b"nothing").await;
    assert!(matches!(handlers.lookup(ROOT, b"nothing").await.unwrap(), Found::Entry(_)));
}

#[tokio::test]
async fn create_opens_what_somebody_else_has_made_unless_it_is_exclusive() {
    let (_fs, handlers) = volume().await;
    let first = create(&handlers, b"file").await;
    handlers.write(first.node, 0, b"data".to_vec(), WriteFlags::default(), USER).await.unwrap();
    let truncating = OpenFlags { write: true, truncate: true, append: false };
    let (second, opened) = handlers.create(ROOT, b"file", 0o100_644, false, truncating, USER).await.unwrap();
    assert_eq!(second.node, first.node);
    assert!(opened.keep_cache);
    assert_eq!(handlers.getattr(first.node).await.unwrap().attr.size_bytes, 0);
    let refused = handlers.create(ROOT, b"file", 0o100_644, true, READ, USER).await;
    assert_eq!(refused.unwrap_err(), Errno(17));
}

#[tokio::test]
async fn an_answer_that_is_full_is_continued_after_its_last_name() {
    let (_fs, handlers) = volume().await;
    for number in 0..50 {
        create(&handlers, format!("file{number}").as_bytes()).await;
    }
    let (mut names, mut after) = (Vec::new(), 0);
    loop {
        let (mut room, before, start) = (7, names.len(), after);
        let mut add = |name: &fs_core::attr::DirEntry, entry: &Entry| {
            room -= 1;
            if room < 0 {
                return false;
            }
            assert_eq!(entry.attr.ino, name.ino);
            after = name.cookie;
            names.push(name.name.clone());
            true
        };
        handlers.readdirplus(ROOT, start, &mut add).await.unwrap();
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names.len(), 52);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 52);
}

#[tokio::test]
async fn data_holes_and_ends_are_found() {
    let (_fs, handlers) = volume().await;
    let file = create(&handlers, b"file").await.node;
    let written = handlers.write(file, 1 << 20, vec![7; 10], WriteFlags::default(), USER).await.unwrap();
    assert_eq!(written, 10);
    assert_eq!(handlers.seek(file, 0, SeekTarget::Hole).await.unwrap(), 0);
    assert!(handlers.seek(file, 0, SeekTarget::Data).await.unwrap() <= 1 << 20);
    assert_eq!(handlers.seek(file, 2 << 20, SeekTarget::Data).await.unwrap_err(), Errno::NXIO);
    assert_eq!(handlers.seek(file, -1, SeekTarget::Data).await.unwrap_err(), Errno::NXIO);
    let data = handlers.read(file, (1 << 20) + 5, 100).await.unwrap();
    assert_eq!(&*data, [7; 5]);
}

#[tokio::test]
async fn a_removed_file_lives_until_the_kernel_forgets_it() {
    let (fs, handlers) = volume().await;
    let file = create(&handlers, b"file").await.node;
    handlers.rename((ROOT, b"file"), (ROOT, b"other"), RenameMode::NoReplace, Caller::default()).await.unwrap();
    handlers.unlink(ROOT, b"other").await.unwrap();
    assert_eq!(handlers.getattr(file).await.unwrap().attr.nlink, 0);
    handlers.forget(file, 1);
    // The root's reference is never given back, whatever arrives.
    handlers.forget(ROOT, 1);
    handlers.getattr(ROOT).await.unwrap();
    fs.unmount().await.unwrap();
}

#[tokio::test]
async fn a_new_owner_takes_setuid_away_even_if_root_gives_it() {
    let (_fs, handlers) = volume().await;
    let file = create(&handlers, b"file").await.node;
    let permissions = SetAttr { permissions: Some(0o6755), ..SetAttr::default() };
    assert_eq!(handlers.setattr(file, &permissions, USER).await.unwrap().attr.permissions, 0o6755);
    let owner = SetAttr { uid: Some(13), ..SetAttr::default() };
    let changed = handlers.setattr(file, &owner, Caller::default()).await.unwrap().attr;
    assert_eq!((changed.uid, changed.permissions), (13, 0o755));
}

#[tokio::test]
async fn space_adds_up() {
    let (_fs, handlers) = volume().await;
    let statfs = handlers.statfs().await.unwrap();
    assert!(statfs.blocks_free <= statfs.blocks_total);
    assert_eq!(statfs.inodes_free, statfs.blocks_free);
    assert!(statfs.inodes_total > statfs.inodes_free);
    assert_eq!(statfs.name_max_bytes, 255);
}

#[tokio::test]
async fn attributes_are_set_shown_and_refused_with_the_right_number() {
    let (_fs, handlers) = volume().await;
    let file = create(&handlers, b"file").await.node;
    let how = SetXattr::default();
    handlers.setxattr(file, b"user.a", b"value", &how, USER).await.unwrap();
    handlers.setxattr(file, b"trusted.b", b"", &how, USER).await.unwrap();
    assert_eq!(handlers.getxattr(file, b"user.a").await.unwrap(), b"value");
    assert_eq!(handlers.listxattr(file, USER).await.unwrap(), b"user.a\0");
    assert_eq!(handlers.listxattr(file, Caller::default()).await.unwrap(), b"user.a\0trusted.b\0");
    let create_only = SetXattr { mode: XattrMode::Create, ..how.clone() };
    assert_eq!(handlers.setxattr(file, b"user.a", b"", &create_only, USER).await.unwrap_err(), Errno(17));
    assert_eq!(handlers.setxattr(file, b"what.a", b"", &how, USER).await.unwrap_err(), Errno::OPNOTSUPP);
    handlers.removexattr(file, b"user.a").await.unwrap();
    assert_eq!(handlers.getxattr(file, b"user.a").await.unwrap_err(), Errno(61));
}
