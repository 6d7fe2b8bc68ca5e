//! Every operation of a mounted filesystem once, with what it has to answer.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, SeekFrom as Seeking, Timespec, Timestamps};
use rustix::io::Errno;

use crate::command::run;
use crate::data;
use crate::files::errno;
use crate::mapping::Mapping;
use crate::volume::{Kind, kind};

/// Asserts that an operation failed with the error that it should.
macro_rules! fails {
    ($operation:expr, $wanted:ident) => {
        assert_eq!(
            errno($operation),
            Errno::$wanted.raw_os_error(),
            "{} has to fail with {}",
            stringify!($operation),
            stringify!($wanted)
        )
    };
}

/// Runs all of them in `root`, which is an empty directory of the filesystem under test. What they leave there is a small
/// tree with one of everything.
pub fn every_operation(root: &Path) {
    files(&root.join("files"));
    sizes_and_holes(&root.join("sizes"));
    names(&root.join("names"));
    renames(&root.join("renames"));
    special_files(&root.join("special"));
    attributes(&root.join("attributes"));
    open_without_a_name(&root.join("orphans"));
    mappings_and_direct_io(&root.join("mappings"));
    permissions(&root.join("permissions"));
    ranges_and_flags(&root.join("ranges"));
    what_is_not_there(&root.join("absent"));
}

fn files(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let path = dir.join("a");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fails!(File::options().write(true).create_new(true).open(&path), EXIST);
    fails!(File::open(dir.join("none")), NOENT);
    fails!(File::open(path.join("below")), NOTDIR);
    fails!(File::options().write(true).open(dir), ISDIR);

    let content = data::bytes(1, 0, 100_000);
    file.write_all(&content).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
    file.write_all_at(b"xyz", 50_000).unwrap();
    let mut three = [0; 3];
    file.read_exact_at(&mut three, 50_000).unwrap();
    assert_eq!(&three, b"xyz");
    assert_eq!(file.read_at(&mut three, 100_000).unwrap(), 0, "the end of the file");
    assert_eq!(file.read_at(&mut three, 99_999).unwrap(), 1);
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    File::open(dir).unwrap().sync_all().unwrap();

    let mut append = File::options().append(true).open(&path).unwrap();
    append.write_all(b"end").unwrap();
    assert_eq!(path.metadata().unwrap().len(), 100_003);
    append.seek(SeekFrom::Start(0)).unwrap();
    append.write_all(b"!").unwrap();
    assert_eq!(fs::read(&path).unwrap()[100_000..], *b"end!");

    drop(File::options().write(true).truncate(true).open(&path).unwrap());
    assert_eq!(path.metadata().unwrap().len(), 0);
    let inode = if kind() == Kind::Ext4 { 0 } else { rustix::fs::statvfs(dir).unwrap().f_frsize / 512 };
    assert_eq!(path.metadata().unwrap().blocks(), inode, "only the inode is left");
    // Two handles see each other's writes.
    let (one, two) = (File::options().write(true).open(&path).unwrap(), File::open(&path).unwrap());
    one.write_all_at(b"seen", 0).unwrap();
    let mut four = [0; 4];
    two.read_exact_at(&mut four, 0).unwrap();
    assert_eq!(&four, b"seen");
    one.try_lock().unwrap();
    assert!(two.try_lock().is_err(), "a lock excludes");
    one.unlock().unwrap();
    two.try_lock().unwrap();
    // A vectored and an unaligned write across blocks.
    let mut wide = File::create(dir.join("wide")).unwrap();
    let parts = [data::bytes(2, 0, 4095), data::bytes(2, 4095, 8191)];
    let slices = [std::io::IoSlice::new(&parts[0]), std::io::IoSlice::new(&parts[1])];
    assert_eq!(wide.write_vectored(&slices).unwrap(), 4095 + 8191);
    assert_eq!(fs::read(dir.join("wide")).unwrap(), data::bytes(2, 0, 4095 + 8191));
}

fn sizes_and_holes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    // Around every boundary: content inside the inode, one block, heights of the tree.
    for len in [0_usize, 1, 231, 232, 279, 280, 3863, 3864, 3865, 4095, 4096, 4097, 65_536, 1_000_001, 2_100_000] {
        let path = dir.join(format!("f{len}"));
        fs::write(&path, data::bytes(len as u64, 0, len)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), data::bytes(len as u64, 0, len), "{len} bytes");
        let file = File::options().read(true).write(true).open(&path).unwrap();
        // Longer by a hole, shorter by a cut, and longer again: what was cut off must not come back.
        file.set_len(len as u64 + 10_000).unwrap();
        file.set_len(len as u64 / 2).unwrap();
        file.set_len(len as u64 + 5000).unwrap();
        let mut wanted = data::bytes(len as u64, 0, len / 2);
        wanted.resize(len + 5000, 0);
        assert!(fs::read(&path).unwrap() == wanted, "{len} bytes after truncates");
    }
    let file = File::options().read(true).write(true).create(true).truncate(true).open(dir.join("sparse")).unwrap();
    file.write_all_at(b"data", 1 << 20).unwrap();
    file.write_all_at(b"far", 1 << 33).unwrap();
    assert_eq!(file.metadata().unwrap().len(), (1 << 33) + 3);
    assert!(file.metadata().unwrap().blocks() < 1000, "holes take no space");
    let seek = |from| rustix::fs::seek(&file, from);
    assert_eq!(seek(Seeking::Hole(0)).unwrap(), 0);
    let first = seek(Seeking::Data(0)).unwrap();
    assert!(first <= 1 << 20 && first > (1 << 20) - 65_536, "data found at {first}");
    let hole = seek(Seeking::Hole(1 << 20)).unwrap();
    assert!(hole > 1 << 20 && hole <= (1 << 20) + 65_536, "hole found at {hole}");
    let second = seek(Seeking::Data(hole)).unwrap();
    assert!(second <= 1 << 33 && second > (1 << 33) - 65_536, "data found at {second}");
    assert_eq!(seek(Seeking::Hole(1 << 33)).unwrap(), (1 << 33) + 3, "the end is a hole");
    fails!(seek(Seeking::Data(1 << 34)), NXIO);
    let mut four = [1; 4];
    file.read_exact_at(&mut four, 1 << 30).unwrap();
    assert_eq!(four, [0; 4], "a hole reads as zeroes");
}

fn names(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fails!(fs::create_dir(dir), EXIST);
    fails!(fs::create_dir(dir.join("a/b")), NOENT);
    let longest = "n".repeat(255);
    fs::write(dir.join(&longest), "x").unwrap();
    fails!(fs::write(dir.join("n".repeat(256)), "x"), NAMETOOLONG);
    for odd in ["with space", "tab\there", "new\nline", "ä€😀", "-", "...", "\u{1}\u{7f}"] {
        fs::write(dir.join(odd), odd).unwrap();
        assert_eq!(fs::read_to_string(dir.join(odd)).unwrap(), odd);
    }
    // Enough for several leaves; each listed once.
    let many = dir.join("many");
    fs::create_dir(&many).unwrap();
    for index in 0..2000 {
        File::create(many.join(format!("entry number {index}"))).unwrap();
    }
    let mut listed: Vec<_> = fs::read_dir(&many).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 2000);
    for index in (0..2000).step_by(2) {
        fs::remove_file(many.join(format!("entry number {index}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&many).unwrap().count(), 1000);
    fails!(fs::remove_file(many.join("entry number 0")), NOENT);
    fails!(fs::remove_dir(&many), NOTEMPTY);
    fails!(fs::remove_file(&many), ISDIR);
    fails!(fs::remove_dir(dir.join(&longest)), NOTDIR);

    let links = |name: &str| dir.join(name).metadata().unwrap().nlink();
    fs::hard_link(dir.join("-"), dir.join("linked")).unwrap();
    fails!(fs::hard_link(dir.join("-"), dir.join("linked")), EXIST);
    fails!(fs::hard_link(&many, dir.join("dirlink")), PERM);
    assert_eq!((links("-"), links("linked")), (2, 2));
    assert_eq!(dir.join("-").metadata().unwrap().ino(), dir.join("linked").metadata().unwrap().ino());
    fs::remove_file(dir.join("-")).unwrap();
    assert_eq!(links("linked"), 1);
    let before = links("");
    fs::create_dir(dir.join("sub")).unwrap();
    assert_eq!(links(""), before + 1, "a subdirectory counts");
    fs::remove_dir(dir.join("sub")).unwrap();
    assert_eq!(links(""), before);
}

fn renames(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let at = |name: &str| dir.join(name);
    let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(at(name), name).unwrap();
    }
    fs::rename(at("a"), at("b")).unwrap();
    assert!(!at("a").exists());
    assert_eq!(text("b"), "a");
    let with = |flags, from: &str, to: &str| rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags);
    fails!(with(RenameFlags::NOREPLACE, "b", "c"), EXIST);
    with(RenameFlags::NOREPLACE, "b", "d").unwrap();
    with(RenameFlags::EXCHANGE, "c", "d").unwrap();
    assert_eq!((text("c"), text("d")), ("a".into(), "c".into()));
    fails!(with(RenameFlags::EXCHANGE, "c", "none"), NOENT);

    fs::create_dir_all(at("x/y")).unwrap();
    fs::create_dir(at("full")).unwrap();
    fs::write(at("full/f"), "").unwrap();
    fails!(fs::rename(at("x"), at("x/y/z")), INVAL);
    fails!(fs::rename(at("x"), at("full")), NOTEMPTY);
    fails!(fs::rename(at("x"), at("c")), NOTDIR);
    fails!(fs::rename(at("c"), at("x")), ISDIR);
    fs::create_dir(at("empty")).unwrap();
    let links = |name: &str| dir.join(name).metadata().unwrap().nlink();
    fs::rename(at("x/y"), at("empty")).unwrap();
    assert_eq!((links("x"), links("empty")), (2, 2));
    // Into another directory: its parent has to change, too.
    fs::rename(at("empty"), at("full/moved")).unwrap();
    assert_eq!(links("full"), 3);
    let parent = at("full/moved/..").metadata().unwrap().ino();
    assert_eq!(parent, at("full").metadata().unwrap().ino());
    // Two names of one file: nothing happens.
    fs::hard_link(at("c"), at("c2")).unwrap();
    fs::rename(at("c"), at("c2")).unwrap();
    assert!(at("c").exists() && at("c2").exists());
    // A directory and a file change places.
    with(RenameFlags::EXCHANGE, "full", "d").unwrap();
    assert!(at("d").is_dir() && at("full").is_file());
}

fn special_files(dir: &Path) {
    fs::create_dir(dir).unwrap();
    // A target has to fit beside the inode in its block.
    let longest = if kind() == Kind::Ext4 { 4095 } else { rustix::fs::statvfs(dir).unwrap().f_frsize as usize - 233 };
    let longest = longest.min(4095);
    if kind() == Kind::Lunfs && longest < 4000 {
        fails!(symlink("t".repeat(longest + 1), dir.join("too-long")), NAMETOOLONG);
    }
    for target in ["a", "/nowhere", &"t".repeat(longest)] {
        let path = dir.join(format!("link{}", target.len()));
        symlink(target, &path).unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
        assert_eq!(path.symlink_metadata().unwrap().len(), target.len() as u64);
    }
    symlink("loop", dir.join("loop")).unwrap();
    fails!(File::open(dir.join("loop")), LOOP);
    let node = |name: &str, kind, device| rustix::fs::mknodat(CWD, dir.join(name), kind, Mode::from(0o640), device);
    node("fifo", FileType::Fifo, 0).unwrap();
    node("socket", FileType::Socket, 0).unwrap();
    node("char", FileType::CharacterDevice, rustix::fs::makedev(1, 7)).unwrap();
    node("block", FileType::BlockDevice, rustix::fs::makedev(259, 70_000)).unwrap();
    let meta = |name: &str| dir.join(name).symlink_metadata().unwrap();
    assert!(meta("fifo").file_type().is_fifo() && meta("socket").file_type().is_socket());
    assert!(meta("char").file_type().is_char_device() && meta("block").file_type().is_block_device());
    assert_eq!(meta("char").rdev(), rustix::fs::makedev(1, 7));
    assert_eq!(meta("block").rdev(), rustix::fs::makedev(259, 70_000));
    assert_eq!(meta("block").mode() & 0o7777, 0o640 & !0o022);
}

fn attributes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let path = dir.join("f");
    fs::write(&path, "x").unwrap();
    for mode in [0o600, 0o4755, 0o2711, 0o1777, 0o000] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode);
    }
    std::os::unix::fs::chown(&path, Some(12), Some(4_000_000_000)).unwrap();
    assert_eq!((path.metadata().unwrap().uid(), path.metadata().unwrap().gid()), (12, 4_000_000_000));
    // Ownership by root keeps no set-uid bit.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::chown(&path, Some(13), None).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o4000, 0);

    let far = if kind() == Kind::Ext4 { 10_000_000_000 } else { 1_i64 << 35 };
    for (sec, nsec) in [(0, 0), (1_700_000_000, 123_456_789), (-1, 500_000_000), (-86_400, 0), (far, 1)] {
        let time = Timespec { tv_sec: sec, tv_nsec: nsec };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
        let meta = path.metadata().unwrap();
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (sec, nsec), "mtime of {sec}.{nsec}");
        assert_eq!((meta.atime(), meta.atime_nsec()), (sec, nsec), "atime of {sec}.{nsec}");
    }
    let changed = path.metadata().unwrap();
    fs::write(&path, "longer").unwrap();
    let after = path.metadata().unwrap();
    assert!(after.mtime() > 0 && after.mtime() < far, "writing sets the time of change to now");
    assert!((after.ctime(), after.ctime_nsec()) > (changed.ctime(), changed.ctime_nsec()));
    let before = dir.metadata().unwrap();
    crate::command::until("the clock moves on", std::time::Duration::from_secs(2), || {
        fs::write(dir.join("g"), "").unwrap();
        fs::remove_file(dir.join("g")).unwrap();
        let after = dir.metadata().unwrap();
        (after.mtime(), after.mtime_nsec()) > (before.mtime(), before.mtime_nsec())
    });
    let stat = rustix::fs::statvfs(dir).unwrap();
    assert!(stat.f_bfree > 0 && stat.f_bfree < stat.f_blocks && stat.f_bavail <= stat.f_bfree);
    assert_eq!(stat.f_namemax, 255);
}

fn open_without_a_name(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let path = dir.join("gone");
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all(&data::bytes(3, 0, 50_000)).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    file.write_all(&data::bytes(3, 50_000, 50_000)).unwrap();
    file.set_len(90_000).unwrap();
    file.sync_all().unwrap();
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut content).unwrap();
    assert!(content == data::bytes(3, 0, 90_000));
    // The name is free again, and means another file.
    fs::write(&path, "new").unwrap();
    assert_ne!(path.metadata().unwrap().ino(), file.metadata().unwrap().ino());

    // A directory that is removed while somebody is in it.
    let sub = dir.join("sub");
    fs::create_dir(&sub).unwrap();
    let handle = File::open(&sub).unwrap();
    fs::remove_dir(&sub).unwrap();
    fails!(rustix::fs::openat(&handle, "new", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)), NOENT);
}

fn mappings_and_direct_io(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let path = dir.join("mapped");
    fs::write(&path, data::bytes(4, 0, 20_000)).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut mapping = Mapping::shared(&file, 20_000);
    assert!(mapping.bytes() == data::bytes(4, 0, 20_000));
    mapping.write(10_000, b"through memory");
    mapping.sync();
    let mut seen = [0; 14];
    file.read_exact_at(&mut seen, 10_000).unwrap();
    assert_eq!(&seen, b"through memory");
    file.write_all_at(b"through write", 100).unwrap();
    assert_eq!(&mapping.bytes()[100..113], b"through write");
    drop(mapping);
    assert_eq!(path.metadata().unwrap().len(), 20_000, "a mapping does not change the size");

    let direct = OFlags::DIRECT.bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).custom_flags(direct);
    let file = options.open(dir.join("direct")).unwrap();
    let mut buffer = block::device::IoBuf::zeroed(1 << 16);
    data::fill(5, 0, &mut buffer);
    file.write_all_at(&buffer, 0).unwrap();
    file.write_all_at(&buffer, 1 << 16).unwrap();
    buffer.fill(0);
    file.read_exact_at(&mut buffer, 1 << 16).unwrap();
    assert_eq!(data::first_difference(5, 0, &buffer), None);
    assert_eq!(fs::read(dir.join("direct")).unwrap().len(), 1 << 17);
}

/// Runs a line of sh as an ordinary user; gives its exit status.
fn as_nobody(script: &str, dir: &Path) -> i32 {
    let args = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c"];
    let args = args.iter().map(std::ffi::OsStr::new).chain([script.as_ref(), "sh".as_ref(), dir.as_os_str()]);
    run("setpriv", args).status
}

fn permissions(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("secret"), "x").unwrap();
    fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.join("program"), "x").unwrap();
    fs::set_permissions(dir.join("program"), fs::Permissions::from_mode(0o6777)).unwrap();
    fs::create_dir(dir.join("sticky")).unwrap();
    fs::set_permissions(dir.join("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::write(dir.join("sticky/roots"), "x").unwrap();

    assert_ne!(as_nobody("cat \"$1/secret\" 2>/dev/null", dir), 0);
    assert_ne!(as_nobody(": > \"$1/new\" 2>/dev/null", dir), 0);
    assert_ne!(as_nobody("rm -f \"$1/sticky/roots\" 2>/dev/null", dir), 0);
    assert_eq!(as_nobody(": > \"$1/sticky/mine\"", dir), 0);
    assert_eq!(dir.join("sticky/mine").metadata().unwrap().uid(), 65534);
    // The kernel has the mode in its cache, and must not go on believing it.
    assert_eq!(dir.join("program").metadata().unwrap().mode() & 0o6000, 0o6000);
    assert_eq!(as_nobody("echo y >> \"$1/program\"", dir), 0);
    assert_eq!(dir.join("program").metadata().unwrap().mode() & 0o6000, 0, "writing takes set-uid and set-gid away");
    running_programs(dir);
    // A group directory hands its group on.
    fs::create_dir(dir.join("group")).unwrap();
    std::os::unix::fs::chown(dir.join("group"), None, Some(55)).unwrap();
    fs::set_permissions(dir.join("group"), fs::Permissions::from_mode(0o2775)).unwrap();
    fs::write(dir.join("group/f"), "").unwrap();
    fs::create_dir(dir.join("group/d")).unwrap();
    assert_eq!(dir.join("group/f").metadata().unwrap().gid(), 55);
    assert_eq!(dir.join("group/d").metadata().unwrap().gid(), 55);
    assert_eq!(dir.join("group/d").metadata().unwrap().mode() & 0o2000, 0o2000);
}

/// A program that runs is not written to, and not truncated before that is found out.
fn running_programs(dir: &Path) {
    let path = dir.join("running");
    fs::copy("/bin/sleep", &path).unwrap();
    let size = path.metadata().unwrap().len();
    let mut child = std::process::Command::new(&path).arg("600").spawn().unwrap();
    fails!(File::options().write(true).open(&path), TXTBSY);
    fails!(rustix::fs::open(&path, OFlags::RDONLY | OFlags::TRUNC, Mode::empty()), TXTBSY);
    assert_eq!(path.metadata().unwrap().len(), size);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What this version does not have says so, in the way that lets programs fall back.
fn what_is_not_there(dir: &Path) {
    fs::create_dir(dir).unwrap();
    if kind() == Kind::Ext4 {
        return;
    }
    let path = dir.join("f");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fails!(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::COLLAPSE_RANGE, 0, 4096), OPNOTSUPP);
    fails!(rustix::fs::open(dir, OFlags::TMPFILE | OFlags::WRONLY, Mode::from(0o600)), OPNOTSUPP);
    fails!(rustix::fs::ioctl_ficlone(&file, &file), OPNOTSUPP);
}

/// A range that is allocated, copied and punched, and flags. What they do in detail has suites of its own.
fn ranges_and_flags(dir: &Path) {
    use rustix::fs::{FallocateFlags, IFlags};
    fs::create_dir(dir).unwrap();
    let open = |name| File::options().read(true).write(true).create(true).truncate(true).open(dir.join(name)).unwrap();
    let (source, target) = (open("source"), open("target"));
    source.write_all_at(&[7; 100_000], 0).unwrap();
    rustix::fs::fallocate(&target, FallocateFlags::empty(), 0, 300_000).unwrap();
    assert_eq!(target.metadata().unwrap().len(), 300_000);
    let (mut from, mut to) = (0, 100_000);
    assert_eq!(
        rustix::fs::copy_file_range(&source, Some(&mut from), &target, Some(&mut to), 100_000).unwrap(),
        100_000
    );
    rustix::fs::fallocate(&target, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 150_000, 1000).unwrap();
    let content = fs::read(dir.join("target")).unwrap();
    let is_copied = |at: usize| (100_000..200_000).contains(&at) && !(150_000..151_000).contains(&at);
    assert!(content.iter().enumerate().all(|(at, byte)| *byte == if is_copied(at) { 7 } else { 0 }));
    let flags = rustix::fs::ioctl_getflags(&target).unwrap();
    rustix::fs::ioctl_setflags(&target, flags | IFlags::NOATIME).unwrap();
    assert_eq!(rustix::fs::ioctl_getflags(&target).unwrap(), flags | IFlags::NOATIME);
}
