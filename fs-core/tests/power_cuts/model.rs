//! What one worker did to its directory, operation by operation, and which states may be there after a crash.
//!
//! The log commits in order, so names and sizes are those after some number of operations, and at least after those
//! that were made durable; attributes go with them. Content of files is written in place and may be newer than that, but never older than the
//! last fsync of the file, nor than what made a byte part of the file.

use std::collections::BTreeMap;

use fs_core::addr::InodeNo;

/// An object of the model; an index into [`History::objects`].
pub(crate) type Id = usize;

/// Extended attributes of a file.
pub(crate) type Attributes = BTreeMap<String, Vec<u8>>;

/// Names: directory and name, to what they name.
pub(crate) type Names = BTreeMap<(Id, String), Id>;

pub(crate) struct Object {
    pub(crate) ino: Option<InodeNo>,
    pub(crate) directory: bool,
    /// The operation after which the object had this content; of files.
    pub(crate) versions: Vec<(usize, Vec<u8>)>,
    /// The operation after which it had these attributes; of files.
    pub(crate) attributes: Vec<(usize, Attributes)>,
    /// The last operation that touched it.
    pub(crate) touched: usize,
    /// Content up to this operation was made durable.
    pub(crate) synced: usize,
}

/// What a worker did. Object 0 is its directory.
pub(crate) struct History {
    pub(crate) objects: Vec<Object>,
    /// Names after each operation that was started.
    pub(crate) states: Vec<Names>,
    /// Operations that have returned.
    pub(crate) done: usize,
    /// Operations that are durable for sure.
    pub(crate) durable: usize,
    /// When the objects that the last operation touches were touched before.
    before: Vec<(Id, usize)>,
}

impl History {
    pub(crate) fn new(root: InodeNo) -> Self {
        let root =
            Object { ino: Some(root), directory: true, versions: vec![], attributes: vec![], touched: 0, synced: 0 };
        Self { objects: vec![root], states: vec![Names::new()], done: 0, durable: 0, before: vec![] }
    }

    pub(crate) fn names(&self) -> &Names {
        self.states.last().unwrap()
    }

    /// The next operation starts: it leaves these names, and touches these objects.
    pub(crate) fn start(&mut self, names: Names, touched: &[Id]) -> usize {
        assert_eq!(self.states.len(), self.done + 1);
        self.states.push(names);
        let operation = self.done + 1;
        self.before = touched.iter().map(|id| (*id, self.objects[*id].touched)).collect();
        for id in touched {
            self.objects[*id].touched = operation;
        }
        operation
    }

    /// It had no effect, and nothing of it happened.
    pub(crate) fn undo(&mut self) {
        assert_eq!(self.states.len(), self.done + 2);
        self.states.pop();
        let done = self.done;
        for object in &mut self.objects {
            object.versions.retain(|(operation, _)| *operation <= done);
            object.attributes.retain(|(operation, _)| *operation <= done);
        }
        for (id, touched) in std::mem::take(&mut self.before) {
            self.objects[id].touched = touched;
        }
    }

    pub(crate) fn finish(&mut self) {
        self.done += 1;
        assert_eq!(self.states.len(), self.done + 1);
    }

    pub(crate) fn content(&self, id: Id) -> &[u8] {
        self.objects[id].versions.last().map_or(&[], |(_, content)| content)
    }

    pub(crate) fn set_content(&mut self, id: Id, operation: usize, content: Vec<u8>) {
        self.objects[id].versions.push((operation, content));
    }

    /// Attributes of a file after `operation`.
    pub(crate) fn attributes_at(&self, id: Id, operation: usize) -> Attributes {
        let versions = &self.objects[id].attributes;
        versions.iter().rev().find(|(at, _)| *at <= operation).map(|(_, found)| found.clone()).unwrap_or_default()
    }

    pub(crate) fn set_attributes(&mut self, id: Id, operation: usize, attributes: Attributes) {
        self.objects[id].attributes.push((operation, attributes));
    }

    /// An fsync that began when `upto` operations were done has returned.
    pub(crate) fn fsynced(&mut self, id: Id, touched: usize, upto: usize) {
        self.durable = self.durable.max(touched);
        self.objects[id].synced = self.objects[id].synced.max(upto);
    }

    pub(crate) fn synced(&mut self, upto: usize) {
        self.durable = self.durable.max(upto);
        for object in &mut self.objects {
            object.synced = object.synced.max(upto);
        }
    }

    /// Content of a file after `operation`.
    fn content_at(&self, id: Id, operation: usize) -> &[u8] {
        let versions = &self.objects[id].versions;
        versions.iter().rev().find(|(at, _)| *at <= operation).map_or(&[], |(_, content)| content)
    }

    /// Why `found` cannot be the content of a file when names and sizes are those after `operation`.
    pub(crate) fn check_content(&self, id: Id, operation: usize, found: &[u8]) -> Result<(), String> {
        let object = &self.objects[id];
        let size = self.content_at(id, operation).len();
        if found.len() != size {
            return Err(format!("size {} instead of {size}", found.len()));
        }
        let versions = &object.versions;
        let first = versions.iter().rposition(|(at, _)| *at <= object.synced.min(operation)).unwrap_or(0);
        let last = versions.iter().rposition(|(at, _)| *at <= operation).unwrap_or(0);
        for (offset, byte) in found.iter().enumerate() {
            // The version that made the byte part of the file.
            let born = (first..=last).rev().take_while(|index| versions[*index].1.len() > offset).last();
            let from = born.unwrap_or(last);
            let allowed =
                versions[from..].iter().any(|(_, content)| content.get(offset).copied().unwrap_or(0) == *byte);
            if !allowed {
                let history: Vec<_> =
                    versions.iter().map(|(at, content)| (*at, content.len(), content.get(offset).copied())).collect();
                return Err(format!(
                    "byte {offset} is {byte}; synced {}, state {operation}, versions {history:?}, from {from}",
                    object.synced
                ));
            }
        }
        Ok(())
    }
}
