//! Access control lists: what they do to modes, and what new inodes get; and which attributes an inode may have.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test
#![allow(clippy::cast_possible_truncation)]

mod common;

use std::sync::Arc;

use common::{ACCESS, DEFAULT, Maker, ROOT, TickingEnv, assert_sound, mount, names, new_volume, run};
use fs_core::addr::InodeNo;
use fs_core::attr::{Caller, SetAttr, SetXattr, Setgid};
use fs_core::error::FsError;
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};

const CACHE_BYTES: u64 = 8 << 20;

/// A list with these entries: tag, permissions, id.
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entry = |(tag, permissions, id): &(u16, u16, u32)| {
        [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    [2_u32.to_le_bytes().to_vec()].into_iter().chain(entries.iter().map(entry)).flatten().collect()
}

const NONE: u32 = u32::MAX;
const USER: Caller = Caller { uid: 1000, gid: 1000, umask: 0o022 };

#[test]
fn lists_and_modes_follow_each_other() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let (root, how) = (fs.root(), SetXattr::default());
        let file = fs.mknod(root, b"file", 0o102_755, (0, 0), ROOT).await.unwrap().ino;
        let permissions = async |ino| fs.getattr(ino).await.unwrap().permissions;

        let named = list(&[(1, 6, NONE), (2, 7, 1000), (4, 4, NONE), (16, 5, NONE), (32, 0, NONE)]);
        fs.setxattr(file, ACCESS, &named, &how, ROOT).await.unwrap();
        assert_eq!(permissions(file).await, 0o2650);
        assert_eq!(fs.getxattr(file, ACCESS).await.unwrap(), named);
        let chmod = SetAttr { permissions: Some(0o741), ..SetAttr::default() };
        fs.setattr(file, &chmod, ROOT).await.unwrap();
        let followed = list(&[(1, 7, NONE), (2, 7, 1000), (4, 4, NONE), (16, 4, NONE), (32, 1, NONE)]);
        assert_eq!(fs.getxattr(file, ACCESS).await.unwrap(), followed);

        // What nine bits can say is not stored.
        let plain = list(&[(1, 6, NONE), (4, 4, NONE), (32, 0, NONE)]);
        fs.setxattr(file, ACCESS, &plain, &how, ROOT).await.unwrap();
        assert_eq!(permissions(file).await, 0o640);
        assert!(matches!(fs.getxattr(file, ACCESS).await, Err(FsError::NoAttribute)));
        assert_eq!(fs.getattr(file).await.unwrap().sectors, 8);
        fs.removexattr(file, ACCESS).await.unwrap();

        // Setgid goes where the kernel or the groups say so.
        for (setgid, caller, kept) in [
            (Setgid::Keep, USER, true),
            (Setgid::Clear, ROOT, false),
            (Setgid::KeepIfMember(vec![5]), ROOT, true),
            (Setgid::KeepIfMember(vec![5]), USER, false),
            (Setgid::KeepIfMember(vec![5, 0]), USER, true),
            (Setgid::KeepIfMember(vec![]), Caller { gid: 0, ..USER }, true),
        ] {
            let chmod = SetAttr { permissions: Some(0o2755), ..SetAttr::default() };
            fs.setattr(file, &chmod, ROOT).await.unwrap();
            let how = SetXattr { setgid: setgid.clone(), ..SetXattr::default() };
            fs.setxattr(file, ACCESS, &named, &how, caller).await.unwrap();
            assert_eq!(permissions(file).await & 0o2000 != 0, kept, "{setgid:?} {caller:?}");
        }

        let error =
            async |ino, name, value: &[u8]| fs.setxattr(ino, name, value, &how, ROOT).await.unwrap_err().errno();
        assert_eq!(error(file, DEFAULT, &named).await, 13, "EACCES: not a directory");
        assert_eq!(error(file, ACCESS, &named[..7]).await, 22, "EINVAL");
        let many: Vec<_> = (0..296).map(|id| (2, 7, id)).collect();
        let many = [&[(1, 7, NONE)], &many[..], &[(4, 7, NONE), (16, 7, NONE), (32, 7, NONE)]].concat();
        fs.setxattr(file, ACCESS, &list(&many), &how, ROOT).await.unwrap();
        let more = [&many[..1], &[(2, 7, 5000)], &many[1..]].concat();
        assert_eq!(error(file, ACCESS, &list(&more)).await, 7, "E2BIG");
        fs.unmount().await.unwrap();
        assert_sound(&disk, "lists");
    });
}

#[test]
fn directories_hand_their_default_list_down() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MIN).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let dir = fs.mkdir(fs.root(), b"dir", 0o777, USER).await.unwrap();
        assert_eq!(dir.permissions, 0o755, "without a list, the umask counts");
        let default = list(&[(1, 7, NONE), (2, 7, 1000), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE)]);
        fs.setxattr(dir.ino, DEFAULT, &default, &SetXattr::default(), ROOT).await.unwrap();

        let file = fs.mknod(dir.ino, b"file", 0o100_666, (0, 0), USER).await.unwrap();
        assert_eq!(file.permissions, 0o660, "with a list, it does not");
        let access = list(&[(1, 6, NONE), (2, 7, 1000), (4, 5, NONE), (16, 6, NONE), (32, 0, NONE)]);
        assert_eq!(fs.getxattr(file.ino, ACCESS).await.unwrap(), access);
        assert!(matches!(fs.getxattr(file.ino, DEFAULT).await, Err(FsError::NoAttribute)));
        let sub = fs.mkdir(dir.ino, b"sub", 0o777, USER).await.unwrap();
        assert_eq!(sub.permissions, 0o770);
        assert_eq!(fs.getxattr(sub.ino, DEFAULT).await.unwrap(), default);
        assert_eq!(fs.getxattr(sub.ino, ACCESS).await.unwrap(), default);
        let link = fs.symlink(dir.ino, b"link", b"target", USER).await.unwrap();
        assert_eq!(link.permissions, 0o777);
        assert!(fs.listxattr(link.ino, ROOT).await.unwrap().is_empty());
        fs.unmount().await.unwrap();
        assert_sound(&disk, "default lists");

        // Without the option they are not there.
        let options = MountOptions { acl: false, ..MountOptions::default() };
        let fs = Fs::mount(disk.clone(), options, Arc::new(TickingEnv::default())).await.unwrap();
        let dir = fs.lookup(fs.root(), b"dir").await.unwrap().ino;
        assert!(fs.listxattr(dir, ROOT).await.unwrap().is_empty());
        assert!(matches!(fs.getxattr(dir, DEFAULT).await, Err(FsError::Unsupported(_))));
        let plain = fs.mknod(dir, b"plain", 0o100_666, (0, 0), USER).await.unwrap();
        assert_eq!(plain.permissions, 0o644);
        fs.unmount().await.unwrap();
        assert_sound(&disk, "noacl");
    });
}

#[test]
fn who_and_what_may_have_attributes() {
    run(async {
        let disk = Arc::new(new_volume(Maker::Lunfs, BlockSize::MAX).await);
        let fs = mount(disk.clone(), CACHE_BYTES, false).await.unwrap();
        let (root, how) = (fs.root(), SetXattr::default());
        let file = fs.mknod(root, b"file", 0o100_644, (0, 0), ROOT).await.unwrap().ino;
        let fifo = fs.mknod(root, b"fifo", 0o010_644, (0, 0), ROOT).await.unwrap().ino;
        let link = fs.symlink(root, b"link", b"file", ROOT).await.unwrap().ino;
        let set = async |ino, name: &[u8]| match fs.setxattr(ino, name, b"v", &how, ROOT).await {
            Ok(()) => 0,
            Err(error) => error.errno(),
        };
        let longest = [b"user.".as_slice(), &[b'n'; 255]].concat();
        let cases: [(InodeNo, &[u8], i32); 14] = [
            (file, b"user.a", 0),
            (file, b"trusted.t", 0),
            (file, b"security.s", 0),
            (file, &longest, 0),
            (file, &[&*longest, b"n"].concat(), 34),
            (file, b"user.", 22),
            (file, b"other.a", 95),
            (file, b"system.nfs4_acl", 95),
            (file, b"user", 95),
            (fifo, b"user.a", 1),
            (fifo, b"trusted.t", 0),
            (link, b"user.a", 1),
            (link, ACCESS, 95),
            (link, b"security.s", 0),
        ];
        for (ino, name, errno) in cases {
            assert_eq!(set(ino, name).await, errno, "{}", String::from_utf8_lossy(name));
        }
        assert_eq!(fs.setxattr(file, b"user.b", &[0; 65537], &how, ROOT).await.unwrap_err().errno(), 7, "E2BIG");
        assert_eq!(fs.getxattr(link, b"user.a").await.unwrap_err().errno(), 61, "ENODATA");
        assert_eq!(fs.removexattr(file, b"user.b").await.unwrap_err().errno(), 61, "ENODATA");
        let trusted = |names: Vec<Vec<u8>>| names.contains(&b"trusted.t".to_vec());
        assert!(trusted(names(&fs, file, ROOT).await));
        assert!(!trusted(names(&fs, file, USER).await));
        let before = fs.getattr(file).await.unwrap().ctime;
        assert_eq!(set(file, b"user.a").await, 0);
        assert!(fs.getattr(file).await.unwrap().ctime > before);
        fs.unmount().await.unwrap();
        assert_sound(&disk, "kinds of files");
        let fs = mount(disk, CACHE_BYTES, true).await.unwrap();
        let file = fs.lookup(fs.root(), b"file").await.unwrap().ino;
        assert_eq!(fs.setxattr(file, b"user.b", b"", &how, ROOT).await.unwrap_err().errno(), 30, "EROFS");
    });
}
