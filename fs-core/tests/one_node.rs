//! The filesystem of one node on images of mkfs.gfs2, judged by fsck.gfs2 and by the checker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a test

#[path = "common/checker.rs"]
mod checker;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use block::OpenOptions;
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, RenameMode, SeekTarget, SetAttr, Timestamp, WriteFlags};
use fs_core::env::Env;
use fs_core::error::FsError;
use fs_core::fs::{Fs, MountOptions};

struct HostEnv;

impl Env for HostEnv {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp { sec: now.as_secs() as i64, nsec: now.subsec_nanos() }
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

fn image(dir: &Path, size_mib: u64, block_size: u32, journals: u32) -> std::path::PathBuf {
    let path = dir.join("image");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(size_mib << 20).unwrap();
    let made = Command::new("mkfs.gfs2")
        .args(["-O", "-q", "-p", "lock_nolock", "-J", "8", "-b", &block_size.to_string(), "-j", &journals.to_string()])
        .arg(&path)
        .status()
        .expect("mkfs.gfs2 (package gfs2-utils) is needed");
    assert!(made.success());
    path
}

async fn fsck(path: &Path) {
    let device = block::open(path, OpenOptions { read_only: true, ..OpenOptions::default() }).unwrap();
    let errors = checker::errors(device).await;
    assert!(errors.is_empty(), "{errors:#?}");
    let out = Command::new("fsck.gfs2").arg("-n").arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    println!("{}", text.lines().filter(|l| !l.contains("pass")).collect::<Vec<_>>().join("\n"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

async fn mount(path: &Path) -> Arc<Fs> {
    let device = block::open(path, OpenOptions::default()).unwrap();
    let options = MountOptions { cache_bytes: 32 << 20, ..MountOptions::default() };
    let fs = Fs::mount(device, options, Arc::new(HostEnv)).await.unwrap();
    tokio::spawn(Arc::clone(&fs).background());
    fs
}

const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0 };

async fn write_all(fs: &Fs, ino: InodeNo, offset: u64, data: &[u8]) {
    let written = fs.write(ino, offset, data.to_vec(), WriteFlags::default(), ROOT).await.unwrap();
    assert_eq!(written as usize, data.len());
}

async fn read_all(fs: &Fs, ino: InodeNo) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let piece = fs.read(ino, content.len() as u64, 1 << 20).await.unwrap();
        if piece.is_empty() {
            return content;
        }
        content.extend_from_slice(&piece);
    }
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_is_written_changed_and_found_again_for_all_block_sizes() {
    for block_size in [512, 1024, 2048, 4096] {
        let dir = tempfile::tempdir().unwrap();
        let path = image(dir.path(), 256, block_size, 2);
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let fs = mount(&path).await;
        let before = fs.statfs().await.unwrap();
        let sub = fs.mkdir(fs.root(), b"sub", 0o755, ROOT).await.unwrap().ino;
        for (index, len) in
            [0, 1, 279, 280, 281, 792, 793, 3864, 3865, 4096, 100_000, 3_000_000, 9_000_000].into_iter().enumerate()
        {
            let name = format!("file-{index}").into_bytes();
            let file = fs.mknod(sub, &name, 0o100644, (0, 0), ROOT).await.unwrap().ino;
            let content = pattern(index as u64, len);
            for (piece, chunk) in content.chunks(700_001).enumerate() {
                write_all(&fs, file, piece as u64 * 700_001, chunk).await;
            }
            assert_eq!(read_all(&fs, file).await, content, "block size {block_size}, {len} bytes");
            model.insert(name, content);
        }
        // Many names: the directory becomes a hashed one.
        let many = fs.mkdir(fs.root(), b"many", 0o755, ROOT).await.unwrap().ino;
        for index in 0..3000 {
            let name = format!("name number {index}");
            let ino = fs.mknod(many, name.as_bytes(), 0o100600, (0, 0), ROOT).await.unwrap().ino;
            fs.forget(ino, 1);
        }
        for index in (0..3000).step_by(3) {
            fs.unlink(many, format!("name number {index}").as_bytes()).await.unwrap();
        }
        fs.rename(many, b"name number 1", sub, b"moved", RenameMode::Replace, ROOT).await.unwrap();
        model.insert(b"moved".to_vec(), Vec::new());
        // Truncate down, up, sparse.
        let name = b"file-11".to_vec();
        let file = fs.lookup(sub, &name).await.unwrap().ino;
        let size = |size_bytes| SetAttr { size_bytes: Some(size_bytes), ..SetAttr::default() };
        fs.setattr(file, &size(1_000_001), ROOT).await.unwrap();
        fs.setattr(file, &size(1_500_000), ROOT).await.unwrap();
        let content = model.get_mut(&name).unwrap();
        content.truncate(1_000_001);
        content.resize(1_500_000, 0);
        let sparse = fs.mknod(sub, b"sparse", 0o100644, (0, 0), ROOT).await.unwrap().ino;
        write_all(&fs, sparse, 3 << 40, b"far away").await;
        assert_eq!(fs.seek(sparse, 0, SeekTarget::Data).await.unwrap() >> 40, 3);
        assert_eq!(fs.seek(sparse, 0, SeekTarget::Hole).await.unwrap(), 0);
        fs.unmount().await.unwrap();
        drop(fs);
        fsck(&path).await;

        let fs = mount(&path).await;
        let sub = fs.lookup(fs.root(), b"sub").await.unwrap().ino;
        for (name, content) in &model {
            let ino = fs.lookup(sub, name).await.unwrap().ino;
            assert!(read_all(&fs, ino).await == *content, "{}", String::from_utf8_lossy(name));
        }
        let many = fs.lookup(fs.root(), b"many").await.unwrap().ino;
        let mut names = Vec::new();
        let mut after = 0;
        loop {
            let mut count = 0;
            fs.readdir(many, after, &mut |entry| {
                count += 1;
                after = entry.cookie;
                names.push(entry.name.clone());
                count < 100
            })
            .await
            .unwrap();
            if count == 0 {
                break;
            }
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 + 1999);
        // Everything goes again, and the space comes back.
        for name in names.iter().filter(|name| name.len() > 2) {
            fs.unlink(many, name).await.unwrap();
        }
        fs.rmdir(fs.root(), b"many").await.unwrap();
        let mut entries = Vec::new();
        fs.readdirplus(sub, 0, &mut |entry, _| {
            entries.push(entry.name.clone());
            true
        })
        .await
        .unwrap();
        for name in entries.iter().filter(|name| *name != b"." && *name != b"..") {
            fs.unlink(sub, name).await.unwrap();
            assert!(matches!(fs.lookup(sub, name).await, Err(FsError::NotFound)));
        }
        fs.rmdir(fs.root(), b"sub").await.unwrap();
        fs.unmount().await.unwrap();
        drop(fs);
        fsck(&path).await;
        let fs = mount(&path).await;
        assert_eq!(fs.statfs().await.unwrap(), before);
        fs.unmount().await.unwrap();
    }
}

/// After a crash the search for inodes without names goes through resource groups that are being changed already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_is_used_while_orphans_of_a_crash_are_searched_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(dir.path(), 64, 4096, 1);
    let device = || block::open(&path, OpenOptions::default()).unwrap();
    let fs = Fs::mount(device(), MountOptions::default(), Arc::new(HostEnv)).await.unwrap();
    let orphan = fs.mknod(fs.root(), b"orphan", 0o100600, (0, 0), ROOT).await.unwrap().ino;
    fs.unlink(fs.root(), b"orphan").await.unwrap();
    fs.fsync(orphan).await.unwrap();
    // A crash: nobody unmounts.
    drop(fs);

    let fs = Fs::mount(device(), MountOptions::default(), Arc::new(HostEnv)).await.unwrap();
    fs.mknod(fs.root(), b"early", 0o100600, (0, 0), ROOT).await.unwrap();
    tokio::spawn(Arc::clone(&fs).background());
    fs.unmount().await.unwrap();
    assert!(fs.withdrawn().is_none());
    drop(fs);
    fsck(&path).await;
}
