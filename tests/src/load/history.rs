//! What one thread has done, and which of it is promised.
#![allow(missing_docs)] // The fields of the variants name themselves.

use std::collections::BTreeMap;

use super::names::{Event, Names, Node, parent};
use crate::data;

/// A file of the record; not its inode number.
pub type FileId = u64;

/// What can be made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// A file.
    File(FileId),
    /// The entries of a directory.
    Dir(u64),
}

/// The directory of a thread's own, as a [`Key::Dir`].
pub(super) const OWN: u64 = 0;
/// The directory in which all threads work.
pub(super) const SHARED: u64 = 1;

/// A change of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Data number `id` was written.
    Write { id: u64, at: u64, len: u64 },
    /// The size was set.
    Truncate { to: u64 },
}

/// What is known of a file's content.
#[derive(Debug, Clone, Default)]
pub struct FileState {
    /// As it was at the last acknowledged fsync.
    pub base: Vec<u8>,
    /// As it is for somebody who reads it now.
    pub current: Vec<u8>,
    /// What was done since that fsync, the operation under way included.
    pub changes: Vec<Change>,
}

impl FileState {
    /// Makes a change in `current`.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Write { id, at, len } => {
                let (start, end) = (at as usize, (at + len) as usize);
                if self.current.len() < end {
                    self.current.resize(end, 0);
                }
                data::fill(id, at, &mut self.current[start..end]);
            }
            Change::Truncate { to } => self.current.resize(to as usize, 0),
        }
    }
}

/// An operation that was asked for and not yet answered.
#[derive(Debug, Clone)]
struct UnderWay {
    /// What it touches.
    keys: Vec<Key>,
    /// What it does to a file's content.
    change: Option<(FileId, Change)>,
}

/// The record of one thread.
#[derive(Debug, Clone)]
pub struct History {
    /// Which thread.
    pub thread: u64,
    /// The names that are promised.
    pub synced: Names,
    /// What was done since, in order, with a number each; the operation under way included.
    pub pending: Vec<(u64, Event)>,
    /// The names as the thread sees them.
    pub now: Names,
    /// The files.
    pub files: BTreeMap<FileId, FileState>,
    /// The last change that touched each.
    touched: BTreeMap<Key, u64>,
    under_way: Option<UnderWay>,
    /// Everything that was done since the last crash, for whoever looks for the cause of a failure.
    log: Vec<String>,
    next_number: u64,
    next_id: u64,
}

impl History {
    /// A thread that has done nothing yet.
    #[must_use]
    pub fn new(thread: u64) -> Self {
        Self {
            thread,
            synced: Names::default(),
            pending: Vec::new(),
            now: Names::default(),
            files: BTreeMap::new(),
            touched: BTreeMap::new(),
            under_way: None,
            log: Vec::new(),
            next_number: 1,
            next_id: (thread + 1) << 32,
        }
    }

    /// A number that no file, directory or data had before.
    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The directory of the thread's own.
    #[must_use]
    pub fn own(&self) -> String {
        format!("t{}", self.thread)
    }

    /// Whether a path belongs to this thread.
    #[must_use]
    pub fn owns(&self, path: &str) -> bool {
        path.starts_with(&format!("t{}/", self.thread)) || path.starts_with(&format!("shared/t{}-", self.thread))
    }

    /// The key of a directory by its path.
    #[must_use]
    pub fn dir_key(&self, dir: &str) -> Key {
        if dir == "shared" {
            return Key::Dir(SHARED);
        }
        match self.now.paths.get(dir) {
            Some(Node::Dir(id)) => Key::Dir(*id),
            _ => Key::Dir(OWN),
        }
    }

    fn node_key(&self, path: &str) -> Option<Key> {
        match self.now.paths.get(path)? {
            Node::File(file) => Some(Key::File(*file)),
            Node::Dir(_) | Node::Link(_) => None,
        }
    }

    /// What an operation touches: the inodes whose own fsync has to wait for it.
    fn touches(&self, event: &Event) -> Vec<Key> {
        let dir_of = |path: &str| self.dir_key(parent(path));
        let mut keys = match event {
            Event::Create { path, file, .. } => vec![dir_of(path), Key::File(*file)],
            Event::Mkdir { path, dir } => vec![dir_of(path), Key::Dir(*dir)],
            Event::Symlink { path, .. } | Event::Unlink { path } | Event::Rmdir { path } => vec![dir_of(path)],
            // The directory of the old name does not change.
            Event::Link { from, to } => {
                let mut keys = vec![dir_of(to)];
                keys.extend(self.node_key(from));
                keys
            }
            Event::Rename { from, to } => {
                let mut keys = vec![dir_of(from), dir_of(to)];
                keys.extend(self.node_key(from));
                keys
            }
            Event::Exchange { a, b } => {
                let mut keys = vec![dir_of(a), dir_of(b)];
                keys.extend(self.node_key(a));
                keys.extend(self.node_key(b));
                keys
            }
            Event::Chmod { file, .. } => vec![Key::File(*file)],
            Event::Size => vec![],
        };
        keys.dedup();
        keys
    }

    /// An operation on names is about to be asked for.
    pub fn begin(&mut self, event: Event) {
        let keys = self.touches(&event);
        if let Event::Create { file, .. } = &event {
            self.files.insert(*file, FileState::default());
        }
        self.log.push(format!("{}: {event:?}", self.next_number));
        self.pending.push((self.next_number, event));
        self.under_way = Some(UnderWay { keys, change: None });
    }

    /// A change of content is about to be asked for.
    pub fn begin_change(&mut self, file: FileId, change: Change) {
        let state = self.files.get_mut(&file).expect("only known files are changed");
        state.changes.push(change);
        let size = state.current.len() as u64;
        let resizes = match change {
            Change::Write { at, len, .. } => at + len > size,
            Change::Truncate { to } => to != size,
        };
        // An overwrite changes nothing but times, which need not reach the journal before their fsync.
        let keys = if resizes { vec![Key::File(file)] } else { vec![] };
        self.log.push(format!("{}: file {file}: {change:?}, was {size} bytes long", self.next_number));
        self.pending.push((self.next_number, Event::Size));
        self.under_way = Some(UnderWay { keys, change: Some((file, change)) });
    }

    /// What was begun has succeeded.
    pub fn done(&mut self) {
        let UnderWay { keys, change } = self.under_way.take().expect("something was begun");
        if let Some((file, change)) = change {
            self.files.get_mut(&file).unwrap().apply(change);
        }
        let (number, event) = self.pending.last().expect("what was begun is pending");
        self.now.apply(event);
        for key in keys {
            self.touched.insert(key, *number);
        }
        self.next_number += 1;
    }

    /// The content and size of a file are promised from now on.
    pub fn content_acknowledged(&mut self, file: FileId) {
        self.log.push(format!("   content of file {file} acknowledged"));
        let state = self.files.get_mut(&file).unwrap();
        state.base.clone_from(&state.current);
        state.changes.clear();
    }

    /// Everything that was done to a file's inode, or to a directory's entries, is promised from now on; and so is all
    /// that went into the journal before.
    pub fn inode_acknowledged(&mut self, key: Key) {
        let upto = self.touched.get(&key).copied().unwrap_or(0);
        self.log.push(format!("   {key:?} acknowledged, and all up to {upto}"));
        let split = self.pending.partition_point(|(number, _)| *number <= upto);
        for (_, event) in self.pending.drain(..split) {
            self.synced.apply(&event);
        }
        if let Key::File(file) = key {
            self.content_acknowledged(file);
        }
    }

    /// What was done since the last crash, a line each.
    #[must_use]
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// What a crash has left is the truth from now on.
    pub fn restart(&mut self, names: Names, contents: BTreeMap<FileId, Vec<u8>>) {
        self.log.clear();
        self.pending.clear();
        self.touched.clear();
        self.under_way = None;
        self.next_number += 1;
        self.files = contents
            .into_iter()
            .map(|(file, content)| (file, FileState { base: content.clone(), current: content, changes: Vec::new() }))
            .collect();
        self.synced = names.clone();
        self.now = names;
    }
}
