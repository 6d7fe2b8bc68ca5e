//! The names of one thread, and the operations that change them.
#![allow(missing_docs)] // The fields of the variants name themselves.

use std::collections::BTreeMap;

use super::history::FileId;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A directory, with a number that renames leave alone.
    Dir(u64),
    /// A regular file.
    File(FileId),
    /// A symbolic link and its target.
    Link(String),
}

/// A change of names, modes or sizes: what goes through the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file came to be.
    Create { path: String, file: FileId, mode: u32 },
    /// A directory came to be.
    Mkdir { path: String, dir: u64 },
    /// A symbolic link came to be.
    Symlink { path: String, target: String },
    /// A file got another name.
    Link { from: String, to: String },
    /// A name of a file or symbolic link went away.
    Unlink { path: String },
    /// An empty directory went away.
    Rmdir { path: String },
    /// A name changed; what had the new name before lost it.
    Rename { from: String, to: String },
    /// Two names changed places.
    Exchange { a: String, b: String },
    /// Permissions changed.
    Chmod { file: FileId, mode: u32 },
    /// The size of a file changed, which is in the journal but not among the names.
    Size,
}

/// Paths relative to the root, and the permissions of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// What each path stands for.
    pub paths: BTreeMap<String, Node>,
    /// Permissions of each file, whether it has names or not.
    pub modes: BTreeMap<FileId, u32>,
}

impl Names {
    /// Makes a change that is known to be possible.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Create { path, file, mode } => {
                self.paths.insert(path.clone(), Node::File(*file));
                self.modes.insert(*file, *mode);
            }
            Event::Mkdir { path, dir } => drop(self.paths.insert(path.clone(), Node::Dir(*dir))),
            Event::Symlink { path, target } => drop(self.paths.insert(path.clone(), Node::Link(target.clone()))),
            Event::Link { from, to } => {
                let node = self.paths[from].clone();
                self.paths.insert(to.clone(), node);
            }
            Event::Unlink { path } | Event::Rmdir { path } => drop(self.paths.remove(path)),
            Event::Rename { from, to } => {
                let moved = self.take(from);
                self.take(to);
                self.put(from, to, moved);
            }
            Event::Exchange { a, b } => {
                let (from_a, from_b) = (self.take(a), self.take(b));
                self.put(a, b, from_a);
                self.put(b, a, from_b);
            }
            Event::Chmod { file, mode } => drop(self.modes.insert(*file, *mode)),
            Event::Size => {}
        }
    }

    /// Takes out a name and everything below it.
    fn take(&mut self, path: &str) -> Vec<(String, Node)> {
        let below = format!("{path}/");
        let gone = |key: &String| key == path || key.starts_with(&below);
        let keys: Vec<String> = self.paths.keys().filter(|key| gone(key)).cloned().collect();
        keys.into_iter().map(|key| self.paths.remove_entry(&key).unwrap()).collect()
    }

    /// Puts back what was taken from `from`, at `to`.
    fn put(&mut self, from: &str, to: &str, taken: Vec<(String, Node)>) {
        for (key, node) in taken {
            self.paths.insert(format!("{to}{}", &key[from.len()..]), node);
        }
    }

    /// Whether a directory has entries.
    #[must_use]
    pub fn has_entries(&self, dir: &str) -> bool {
        let below = format!("{dir}/");
        self.paths.range(below.clone()..).next().is_some_and(|(key, _)| key.starts_with(&below))
    }

    /// How many names a file has.
    #[must_use]
    pub fn links(&self, file: FileId) -> u64 {
        self.paths.values().filter(|node| **node == Node::File(file)).count() as u64
    }
}

/// The directory part of a path.
#[must_use]
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
