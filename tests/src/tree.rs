//! What a directory tree looks like, so that two can be compared.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Everything about one entry that has to survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u64,
    /// Size, in bytes.
    pub size: u64,
    /// Space in use, in units of 512 bytes.
    pub sectors: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime: i128,
    /// Device number of device nodes.
    pub rdev: u64,
    /// Hash of the content, or the target of a symbolic link.
    pub content: String,
}

/// A tree, by path relative to its root, which is ".".
pub type Tree = BTreeMap<PathBuf, Entry>;

/// Reads a whole tree, contents included.
#[track_caller]
#[must_use]
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut todo = vec![PathBuf::from(".")];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let meta = path.symlink_metadata().unwrap_or_else(|error| panic!("stat {}: {error}", path.display()));
        if meta.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
            for entry in entries {
                let entry = entry.unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
                if !crate::volume::is_foreign(&entry.file_name()) {
                    todo.push(relative.join(entry.file_name()));
                }
            }
        }
        let before = tree.insert(relative, describe(&path, &meta));
        assert!(before.is_none(), "{} is listed twice", path.display());
    }
    tree
}

fn describe(path: &Path, meta: &std::fs::Metadata) -> Entry {
    let kind = meta.file_type();
    let content = if kind.is_file() {
        hash_file(path)
    } else if kind.is_symlink() {
        std::fs::read_link(path).unwrap().to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let device = kind.is_block_device() || kind.is_char_device();
    Entry {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        nlink: meta.nlink(),
        size: meta.size(),
        sectors: meta.blocks(),
        mtime: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        rdev: if device { meta.rdev() } else { 0 },
        content,
    }
}

/// A hash of a file's content.
#[track_caller]
#[must_use]
pub fn hash_file(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap_or_else(|error| panic!("open {}: {error}", path.display()));
    let mut hasher = SipHasher24::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        if count == 0 {
            let hash = hasher.finish128();
            return format!("{:016x}{:016x}", hash.h1, hash.h2);
        }
        hasher.write(&buffer[..count]);
    }
}

/// What differs, one line each; empty if nothing does.
#[must_use]
pub fn differences(left: &Tree, right: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, entry) in left {
        match right.get(path) {
            None => lines.push(format!("{} is only in the first", path.display())),
            Some(other) if other != entry => {
                lines.push(format!("{} differs:\n    {entry:?}\n    {other:?}", path.display()));
            }
            Some(_) => {}
        }
    }
    for path in right.keys().filter(|path| !left.contains_key(*path)) {
        lines.push(format!("{} is only in the second", path.display()));
    }
    lines
}

/// Asserts that two trees are the same.
#[track_caller]
pub fn assert_same(what: &str, left: &Tree, right: &Tree) {
    let lines = differences(left, right);
    let shown = lines.len().min(20);
    assert!(lines.is_empty(), "{what}: {} differences\n{}", lines.len(), lines[..shown].join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn sample(name: &str) -> (Scratch, Tree) {
        let scratch = Scratch::new(name);
        std::fs::create_dir(scratch.path("d")).unwrap();
        std::fs::write(scratch.path("d/f"), "one").unwrap();
        std::os::unix::fs::symlink("d/f", scratch.path("l")).unwrap();
        let tree = read(scratch.dir());
        (scratch, tree)
    }

    #[test]
    fn the_same_tree_has_no_differences() {
        let (scratch, tree) = sample("tree-same");
        assert_eq!(tree.len(), 4);
        assert_same("read twice", &tree, &read(scratch.dir()));
    }

    #[test]
    fn a_change_of_content_mode_name_or_target_is_seen() {
        let (scratch, tree) = sample("tree-changes");
        let file = scratch.path("d/f");
        let mtime = file.metadata().unwrap().modified().unwrap();
        let changed = |expected: usize| assert_eq!(differences(&tree, &read(scratch.dir())).len(), expected);

        std::fs::write(&file, "two").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
        changed(1);
        std::fs::write(&file, "one").unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(mtime).unwrap();
        changed(0);
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        changed(1);
        std::fs::remove_file(scratch.path("l")).unwrap();
        // The file's mode, the missing link, and the root's time.
        changed(3);
    }
}
