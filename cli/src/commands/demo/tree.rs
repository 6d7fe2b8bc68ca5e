//! Trees of files: made, copied with everything that belongs to a file, and compared.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{AtFlags, CWD, Gid, Timespec, Timestamps, Uid};

use super::{content, interrupt};

/// Entries of the system's own files that are copied at most.
const SYSTEM_ENTRIES_MAX: u64 = 3000;
/// Bytes of the system's own files that are copied at most.
const SYSTEM_BYTES_MAX: u64 = 48 << 20;
/// Folders of the system to copy from: the first that is there.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/share", "/usr/lib", "/etc"];
/// Files of the large folder: enough to give its directory a hash table.
const MANY: u64 = 1500;
/// Sizes at which the way in which a file is kept changes, and some others, in bytes.
const SIZES: [usize; 12] = [0, 1, 3863, 3864, 3865, 4095, 4096, 4097, 65536, 1 << 20, 1_978_369, 9 << 20];

/// Makes a tree with some of everything below `dir`.
pub(super) fn generate(dir: &Path) -> anyhow::Result<()> {
    let make = || -> std::io::Result<()> {
        let mut seed = 0;
        let mut file = |path: PathBuf, len: usize| {
            seed += 1;
            interrupt::stop_if_asked();
            fs::write(path, content::bytes(seed, len))
        };
        let sizes = dir.join("sizes");
        fs::create_dir_all(&sizes)?;
        for len in SIZES {
            file(sizes.join(len.to_string()), len)?;
        }
        let many = dir.join("many");
        fs::create_dir(&many)?;
        for number in 0..MANY {
            file(many.join(format!("file {number}")), usize::try_from(number * 7 % 5000).unwrap_or(0))?;
        }
        let mut deep = dir.join("deep");
        for level in 0..20 {
            fs::create_dir(&deep)?;
            file(deep.join("file"), level * 100)?;
            deep.push("deeper");
        }
        names_and_links(&dir.join("names"), &sizes)
    };
    make().with_context(|| format!("making a tree in {}", dir.display()))
}

/// Names that are hard to get right, links, times and permissions.
fn names_and_links(dir: &Path, sizes: &Path) -> std::io::Result<()> {
    fs::create_dir(dir)?;
    let odd = [vec![b'x'; 255], b"new\nline".to_vec(), b" ".to_vec(), b"\xff\xfe".to_vec(), "gr\u{fc}n".into()];
    for name in odd {
        fs::write(dir.join(OsString::from_vec(name)), "odd")?;
    }
    symlink("../sizes/1", dir.join("link"))?;
    symlink("x".repeat(3000), dir.join("link to nowhere"))?;
    fs::hard_link(sizes.join("4097"), dir.join("second name"))?;
    for (name, mode, sec) in [("private", 0o600, -5_000_000_000), ("open", 0o777, 4_000_000_000), ("none", 0o400, 1)] {
        let path = dir.join(name);
        File::create(&path)?.write_all(name.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        set_mtime(&path, sec, 123_456_789)?;
    }
    Ok(())
}

fn set_mtime(path: &Path, sec: i64, nsec: i64) -> std::io::Result<()> {
    let time = Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What was copied, and from where.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pairs: Vec<(PathBuf, PathBuf)>,
    /// First copy of each file that has several names.
    names: HashMap<(u64, u64), PathBuf>,
    bytes: u64,
}

/// How much more may be copied.
struct Budget {
    entries: u64,
    bytes: u64,
    /// Leave out what cannot be read.
    lenient: bool,
}

impl Copied {
    pub(super) fn files(&self) -> usize {
        self.pairs.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies the whole of `from` to `to`.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> anyhow::Result<()> {
        self.tree(from, to, &mut Budget { entries: u64::MAX, bytes: u64::MAX, lenient: false })
    }

    /// Copies a part of this machine's own files to `to`, and says from where.
    pub(super) fn copy_some_of_system(&mut self, to: &Path) -> anyhow::Result<&'static str> {
        let Some(from) = SYSTEM_FOLDERS.into_iter().find(|folder| Path::new(folder).is_dir()) else {
            return Ok("nowhere, this machine has none");
        };
        let mut budget = Budget { entries: SYSTEM_ENTRIES_MAX, bytes: SYSTEM_BYTES_MAX, lenient: true };
        self.tree(Path::new(from), to, &mut budget)?;
        Ok(from)
    }

    fn tree(&mut self, from: &Path, to: &Path, budget: &mut Budget) -> anyhow::Result<()> {
        let meta = from.symlink_metadata().with_context(|| format!("looking at {}", from.display()))?;
        fs::create_dir(to).with_context(|| format!("making {}", to.display()))?;
        let mut entries = match fs::read_dir(from).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(_) if budget.lenient => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("listing {}", from.display())),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if budget.entries == 0 {
                break;
            }
            interrupt::stop_if_asked();
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().with_context(|| format!("looking at {}", from.display()))?;
            if kind.is_dir() {
                budget.entries -= 1;
                self.tree(&from, &to, budget)?;
            } else if kind.is_file() || kind.is_symlink() {
                self.file(from, to, budget)?;
            }
        }
        // Last, because what comes into a folder changes its time.
        dress(&meta, to).with_context(|| format!("copying {}", from.display()))?;
        self.pairs.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn file(&mut self, from: PathBuf, to: PathBuf, budget: &mut Budget) -> anyhow::Result<()> {
        let meta = from.symlink_metadata().with_context(|| format!("looking at {}", from.display()))?;
        if meta.len() > budget.bytes || (budget.lenient && meta.is_file() && File::open(&from).is_err()) {
            return Ok(());
        }
        let copy = || {
            if meta.is_symlink() {
                symlink(fs::read_link(&from)?, &to)?;
            } else if let Some(first) = self.names.get(&(meta.dev(), meta.ino())) {
                return fs::hard_link(first, &to);
            } else {
                fs::copy(&from, &to)?;
            }
            dress(&meta, &to)
        };
        copy().with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        budget.entries -= 1;
        budget.bytes -= meta.len();
        self.bytes += meta.len();
        if meta.nlink() > 1 && meta.is_file() {
            self.names.entry((meta.dev(), meta.ino())).or_insert_with(|| to.clone());
        }
        self.pairs.push((from, to));
        Ok(())
    }

    /// Compares every copy with what it is a copy of, and looks for what nobody copied.
    pub(super) fn compare(&self) -> anyhow::Result<()> {
        let mut listed = HashMap::<&Path, usize>::new();
        for (_, to) in &self.pairs {
            *listed.entry(to.parent().unwrap_or(to)).or_default() += 1;
        }
        for (from, to) in &self.pairs {
            interrupt::stop_if_asked();
            if let Some(difference) = differs(from, to)? {
                bail!("{} is not like {}: {difference}", to.display(), from.display());
            }
            if to.symlink_metadata()?.is_dir() {
                let names = fs::read_dir(to).with_context(|| format!("listing {}", to.display()))?.count();
                let wanted = listed.get(to.as_path()).copied().unwrap_or(0);
                if names != wanted {
                    bail!("{} has {names} entries, but {wanted} were copied", to.display());
                }
            }
        }
        Ok(())
    }
}

/// Owners can only be given away by root, who has all of them.
fn owners_count() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().nth(2) == Some("4294967295"))
        && rustix::process::geteuid().is_root()
}

/// Permissions that this user can set.
fn permissions(meta: &Metadata) -> u32 {
    meta.mode() & if owners_count() { 0o7777 } else { 0o777 }
}

/// Gives `to` the owner, permissions and time of `meta`.
fn dress(meta: &Metadata, to: &Path) -> std::io::Result<()> {
    if owners_count() {
        let (owner, group) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
        rustix::fs::chownat(CWD, to, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    if !meta.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(permissions(meta)))?;
    }
    set_mtime(to, meta.mtime(), meta.mtime_nsec())
}

/// In what `to` differs from `from`.
fn differs(from: &Path, to: &Path) -> anyhow::Result<Option<&'static str>> {
    let meta = |path: &Path| path.symlink_metadata().with_context(|| format!("looking at {}", path.display()));
    let (a, b) = (meta(from)?, meta(to)?);
    if a.file_type() != b.file_type() {
        return Ok(Some("another type"));
    }
    if owners_count() && (a.uid(), a.gid()) != (b.uid(), b.gid()) {
        return Ok(Some("another owner"));
    }
    if !a.is_symlink() && permissions(&a) != permissions(&b) {
        return Ok(Some("other permissions"));
    }
    if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
        return Ok(Some("another time"));
    }
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    if a.is_file() && (a.len() != b.len() || read(from)? != read(to)?) {
        return Ok(Some("other content"));
    }
    let target = |path: &Path| fs::read_link(path).map(OsString::from);
    if a.is_symlink() && target(from)? != target(to)? {
        return Ok(Some("another target"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_like_the_original_until_anything_is_changed() {
        let dir = std::env::temp_dir().join(format!("lunfs-demo-tree-{}", std::process::id()));
        let (from, to) = (dir.join("from"), dir.join("to"));
        generate(&from).unwrap();
        let mut copied = Copied::default();
        copied.copy(&from, &to).unwrap();
        copied.compare().unwrap();
        assert!(copied.files() > 1500 && copied.bytes() > 10 << 20);
        let copy_of = |wanted: &str| copied.pairs.iter().find(|(_, to)| to.ends_with(wanted)).unwrap().1.clone();
        assert_eq!(copy_of("second name").metadata().unwrap().nlink(), 2);

        let victim = copy_of("4097");
        let meta = victim.metadata().unwrap();
        fs::write(&victim, content::bytes(99, 4097)).unwrap();
        dress(&meta, &victim).unwrap();
        assert!(format!("{:#}", copied.compare().unwrap_err()).contains("other content"));
        fs::remove_file(copy_of("file 700")).unwrap();
        assert!(copied.compare().is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_nobody_copied_is_noticed() {
        let dir = std::env::temp_dir().join(format!("lunfs-demo-extra-{}", std::process::id()));
        fs::create_dir_all(dir.join("from")).unwrap();
        let mut copied = Copied::default();
        copied.copy(&dir.join("from"), &dir.join("to")).unwrap();
        let meta = dir.join("to").metadata().unwrap();
        fs::write(dir.join("to/extra"), "").unwrap();
        set_mtime(&dir.join("to"), meta.mtime(), meta.mtime_nsec()).unwrap();
        assert!(format!("{:#}", copied.compare().unwrap_err()).contains("1 entries"));
        fs::remove_dir_all(dir).unwrap();
    }
}
