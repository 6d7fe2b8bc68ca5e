//! Which inodes somebody outside holds on to, and which of them have no names any more.

use std::collections::{BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;

use crate::addr::InodeNo;

/// References to inodes. An inode without names is freed when the last of them is given back.
#[derive(Debug, Default)]
pub struct Refs {
    inner: Mutex<Inner>,
    /// Rung when an inode can be freed.
    pub wake: tokio::sync::Notify,
}

#[derive(Debug, Default)]
struct Inner {
    held: HashMap<InodeNo, Held>,
    /// Inodes to be freed, each once.
    orphans: VecDeque<InodeNo>,
    queued: BTreeSet<InodeNo>,
}

impl Inner {
    fn queue(&mut self, ino: InodeNo) {
        if self.queued.insert(ino) {
            self.orphans.push_back(ino);
        }
    }
}

#[derive(Debug, Default)]
struct Held {
    count: u64,
    unlinked: bool,
}

impl Refs {
    /// One more reference to `ino`.
    pub fn take(&self, ino: InodeNo) {
        self.inner.lock().held.entry(ino).or_default().count += 1;
    }

    /// One more reference to `ino`, for as long as the value lives.
    pub fn hold(&self, ino: InodeNo) -> Hold<'_> {
        self.take(ino);
        Hold { refs: self, ino }
    }

    /// Gives `count` references back.
    pub fn put(&self, ino: InodeNo, count: u64) {
        let mut inner = self.inner.lock();
        let Some(held) = inner.held.get_mut(&ino) else { return };
        held.count = held.count.saturating_sub(count);
        if held.count > 0 {
            return;
        }
        let unlinked = held.unlinked;
        inner.held.remove(&ino);
        if unlinked {
            inner.queue(ino);
            self.wake.notify_one();
        }
    }

    /// The inode has no names any more: it is to be freed when nobody holds it.
    pub fn unlinked(&self, ino: InodeNo) {
        let mut inner = self.inner.lock();
        if let Some(held) = inner.held.get_mut(&ino) {
            held.unlinked = true;
        } else {
            inner.queue(ino);
            self.wake.notify_one();
        }
    }

    /// An inode that can be freed now. One that was found without names on the disk may be in use all the same: it is
    /// freed when its last user gives it back.
    pub fn next_orphan(&self) -> Option<InodeNo> {
        let mut inner = self.inner.lock();
        loop {
            let ino = inner.orphans.pop_front()?;
            inner.queued.remove(&ino);
            match inner.held.get_mut(&ino) {
                Some(held) => held.unlinked = true,
                None => return Some(ino),
            }
        }
    }

    /// Nobody will ask for these inodes any more: those without names become free to be deleted.
    pub fn drop_all(&self) {
        let mut inner = self.inner.lock();
        let mut unlinked: Vec<InodeNo> =
            inner.held.drain().filter(|(_, held)| held.unlinked).map(|(ino, _)| ino).collect();
        unlinked.sort_unstable();
        unlinked.into_iter().for_each(|ino| inner.queue(ino));
    }
}

/// A reference that an operation has for itself.
#[derive(Debug)]
#[must_use]
pub struct Hold<'a> {
    refs: &'a Refs,
    ino: InodeNo,
}

impl Hold<'_> {
    /// The reference is somebody else's from now on.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.refs.put(self.ino, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_freed_once_and_not_while_it_is_held() {
        let (refs, ino) = (Refs::default(), InodeNo::FIRST);
        refs.unlinked(ino);
        // A search of the disk finds it as well.
        refs.unlinked(ino);
        assert_eq!(refs.next_orphan(), Some(ino));
        assert_eq!(refs.next_orphan(), None);
        refs.take(ino);
        refs.unlinked(ino);
        assert_eq!(refs.next_orphan(), None);
        refs.put(ino, 1);
        assert_eq!(refs.next_orphan(), Some(ino));
        assert_eq!(refs.next_orphan(), None);
    }
}
