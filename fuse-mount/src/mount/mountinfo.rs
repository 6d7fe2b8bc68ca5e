//! What is mounted where: /proc/self/mountinfo.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::mount::syscall::FsType;

/// The number of a mounted filesystem: what `stat` shows as the device of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FsId {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for FsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which filesystem.
    pub fs: FsId,
    /// Where.
    pub point: PathBuf,
    /// Type with its subtype.
    pub kind: String,
    /// What was mounted.
    pub source: PathBuf,
}

impl Mount {
    /// Whether a daemon of lunfs is or was behind it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        [FsType::Fuse, FsType::FuseBlk].iter().any(|kind| self.kind == kind.name())
    }
}

/// All mounts that this process sees, in the order in which they cover each other.
///
/// # Errors
/// When /proc is not there.
pub fn read() -> io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// Whether a process whose mounts may be looked at sees the filesystem.
#[must_use]
pub fn is_in_any_namespace(fs: FsId) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes
        .flatten()
        .filter_map(|process| std::fs::read(process.path().join("mountinfo")).ok())
        .any(|text| parse(&text).iter().any(|mount| mount.fs == fs))
}

/// The mount that is visible at `point`.
#[must_use]
pub fn at<'a>(mounts: &'a [Mount], point: &Path) -> Option<&'a Mount> {
    mounts.iter().rev().find(|mount| mount.point == point)
}

/// Lines that do not look as documented are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// `36 35 98:0 /root /mount/point rw,noatime shared:1 master:2 - type source options`
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = fields.nth(2)?;
    let point = fields.nth(1)?;
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = fields.next()?;
    let source = fields.next()?;
    let (major, minor) = std::str::from_utf8(number).ok()?.split_once(':')?;
    Some(Mount {
        fs: FsId { major: major.parse().ok()?, minor: minor.parse().ok()? },
        point: unescape(point),
        kind: String::from_utf8_lossy(unescape(kind).as_os_str().as_bytes()).into_owned(),
        source: unescape(source),
    })
}

/// Space, tab, line feed and backslash stand there as `\` and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        40 22 0:35 / /mnt/a\\040b\\134c rw shared:9 master:3 - fuse.lunfs /dev/sdb rw,user_id=0\n\
        41 22 0:36 / /mnt/a\\040b\\134c rw - tmpfs none rw\n\
        not a line\n\
        42 22 0:x / /y rw - tmpfs none rw\n";

    #[test]
    fn lines_are_taken_apart_and_unescaped() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 3);
        let ours = &mounts[1];
        assert_eq!(ours.fs, FsId { major: 0, minor: 35 });
        assert_eq!(ours.point, Path::new("/mnt/a b\\c"));
        assert_eq!(ours.source, Path::new("/dev/sdb"));
        assert!(ours.is_ours() && !mounts[0].is_ours());
        let on_a_device =
            parse(b"43 22 8:16 / /mnt rw - fuseblk.lunfs /dev/sdb rw\n44 22 8:32 / /x rw - fuseblk /dev/sdc rw");
        assert!(on_a_device[0].is_ours() && !on_a_device[1].is_ours());
    }

    #[test]
    fn the_last_mount_covers_the_others() {
        let mounts = parse(TEXT);
        assert_eq!(at(&mounts, Path::new("/mnt/a b\\c")).unwrap().kind, "tmpfs");
        assert_eq!(at(&mounts, Path::new("/nowhere")), None);
    }

    #[test]
    fn the_real_one_has_a_root() {
        let mounts = read().unwrap();
        let root = at(&mounts, Path::new("/")).unwrap();
        assert!(is_in_any_namespace(root.fs));
        assert!(!is_in_any_namespace(FsId { major: 0, minor: u32::MAX }));
    }
}
