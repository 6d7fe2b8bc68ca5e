//! What may be there after a cut.
//!
//! One worker's steps follow each other, and all changes of metadata go through one log in order. So names, attributes,
//! and the content of small files, which is metadata as well, are those after some number of the worker's steps: at least
//! as many as were made durable, at most as many as were begun. Content of files is written in place and may be newer than that;
//! but each byte is one that the file had at or after its last fsync, and at or after the step that made it part of the file,
//! since data is on the disk before what refers to it. Nothing else ever appears.
//!
//! What is made durable
//! * by fsync and O_SYNC: all content of the inode, and all steps up to the last one that changed it, its names, or (of a
//!   directory) its entries;
//! * by syncfs: all steps of all workers that had ended when it began; by unmounting: everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use posix_model::op::Kind;
use posix_model::tree::{Id, Inode, Tree};

use super::see::difference;

/// A promise, which holds for cuts at or after a position of the log.
struct Promise {
    from: usize,
    /// So many steps are durable.
    steps: usize,
    /// The content of one file, or of all, as it was after so many steps.
    content: (Option<Id>, usize),
}

/// Contents, each with the first state that has it.
type Versions = Vec<(usize, Arc<Vec<u8>>)>;

/// When a step was begun, and when it had ended.
struct Span {
    begun: usize,
    ended: Option<usize>,
}

/// The steps of one worker. State `k` is that after `k` steps.
pub(crate) struct Story {
    states: Vec<Tree>,
    spans: Vec<Span>,
    promises: Vec<Promise>,
    /// The last step that changed an inode.
    touched: BTreeMap<Id, usize>,
    /// Contents of files. Known when the story is over.
    versions: BTreeMap<Id, Versions>,
}

/// What holds for the volume as a whole.
#[derive(Default)]
pub(crate) struct Whole {
    /// From here on it is unmounted.
    pub(crate) clean_at: Option<usize>,
}

/// The states that are possible after a cut.
pub(crate) struct Possible {
    pub(crate) durable: usize,
    pub(crate) begun: usize,
    cut: usize,
}

impl Story {
    pub(crate) fn new(tree: Tree) -> Self {
        Self {
            states: vec![tree],
            spans: Vec::new(),
            promises: Vec::new(),
            touched: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn tree(&self) -> &Tree {
        self.states.last().unwrap()
    }

    pub(crate) fn state(&self, number: usize) -> &Tree {
        &self.states[number]
    }

    /// Steps that have ended.
    pub(crate) fn done(&self) -> usize {
        self.spans.iter().filter(|span| span.ended.is_some()).count()
    }

    /// The next step is begun, and will leave this.
    pub(crate) fn begin(&mut self, tree: Tree, position: usize) {
        self.states.push(tree);
        self.spans.push(Span { begun: position, ended: None });
    }

    pub(crate) fn end(&mut self, position: usize) {
        let number = self.spans.len();
        self.spans.last_mut().unwrap().ended = Some(position);
        let (before, after) = (&self.states[number - 1], &self.states[number]);
        let old: BTreeMap<Id, &Arc<Inode>> = before.inodes().collect();
        let new: BTreeMap<Id, &Arc<Inode>> = after.inodes().collect();
        let same = |id: &Id, inode: &Arc<Inode>| old.get(id).is_some_and(|other| Arc::ptr_eq(other, inode));
        let changed = new.iter().filter(|(id, inode)| !same(id, inode)).map(|(id, _)| *id);
        let gone = old.keys().filter(|id| !new.contains_key(id)).copied();
        let touched: Vec<Id> = changed.chain(gone).collect();
        self.touched.extend(touched.into_iter().map(|id| (id, number)));
    }

    /// The step has ended, and left something else than was expected.
    pub(crate) fn end_as(&mut self, tree: Tree, position: usize) {
        *self.states.last_mut().unwrap() = tree;
        self.end(position);
    }

    /// An fsync of `id`, the step that has just ended.
    pub(crate) fn fsynced(&mut self, id: Id, from: usize) {
        let steps = self.touched.get(&id).copied().unwrap_or(0);
        self.promises.push(Promise { from, steps, content: (Some(id), self.spans.len()) });
    }

    /// All of the first `steps` is durable.
    pub(crate) fn synced(&mut self, steps: usize, from: usize) {
        self.promises.push(Promise { from, steps, content: (None, steps) });
    }

    pub(crate) fn all_durable(&mut self, from: usize) {
        self.synced(self.spans.len(), from);
    }

    /// No step will follow.
    pub(crate) fn finish(&mut self) {
        for (number, tree) in self.states.iter().enumerate() {
            for (id, inode) in tree.inodes().filter(|(_, inode)| inode.kind == Kind::File) {
                let versions = self.versions.entry(id).or_default();
                if versions.last().is_none_or(|(_, last)| !Arc::ptr_eq(last, &inode.content)) {
                    versions.push((number, Arc::clone(&inode.content)));
                }
            }
        }
    }

    /// The states that are possible when the power goes after `cut` events.
    pub(crate) fn possible(&self, cut: usize) -> Possible {
        let promised = self.promises.iter().filter(|promise| promise.from <= cut).map(|promise| promise.steps);
        let begun = self.spans.iter().take_while(|span| span.begun <= cut).count();
        Possible { durable: promised.max().unwrap_or(0), begun, cut }
    }

    /// Up to which step the content of a file is durable.
    fn synced_content(&self, id: Id, cut: usize) -> usize {
        let of_file = |promise: &&Promise| promise.from <= cut && promise.content.0.is_none_or(|file| file == id);
        self.promises.iter().filter(of_file).map(|promise| promise.content.1).max().unwrap_or(0)
    }

    /// Why `found` cannot be the content of a file in state `state`.
    pub(crate) fn check_content(&self, possible: &Possible, state: usize, id: Id, found: &[u8]) -> Result<(), String> {
        let wanted = &self.states[state].inode(id).content;
        if **wanted == found {
            return Ok(());
        }
        if wanted.len() != found.len() {
            return Err(difference(wanted, found));
        }
        let versions = &self.versions[&id];
        let upto = |step: usize| versions.partition_point(|(at, _)| *at <= step).saturating_sub(1);
        let synced = self.synced_content(id, possible.cut).min(state);
        let (first, last, end) = (upto(synced), upto(state), upto(possible.begun));
        for (offset, byte) in found.iter().enumerate() {
            if wanted[offset] == *byte {
                continue;
            }
            // The version that made the byte part of the file for good.
            let born = (first..=last).rev().take_while(|version| versions[*version].1.len() > offset).last();
            let allowed = versions[born.unwrap_or(last)..=end]
                .iter()
                .any(|(_, content)| content.get(offset).copied().unwrap_or(0) == *byte);
            if !allowed {
                let values: Vec<_> =
                    versions.iter().map(|(at, content)| (*at, content.len(), content.get(offset).copied())).collect();
                return Err(format!(
                    "byte {offset} is {byte:#x} in state {state}; content durable up to step {synced}; step, size and \
                     byte of its versions: {values:?}"
                ));
            }
        }
        Ok(())
    }
}
