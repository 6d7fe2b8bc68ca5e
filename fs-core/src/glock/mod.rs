//! Glocks: the cluster's locks as this node sees them.
//!
//! Two layers in one object. The node's grant (`granted`) says what the cluster allows this node; it stays until
//! another node asks. The holders say which operations of this node use the lock right now; they queue in order of
//! arrival, so none starves.
//!
//! Order of acquisition: freeze < rename < directories (ancestor first, else by number) < files (by number) <
//! quota < resource groups (rising address) < journal space.
//!
//! What is an ancestor, or a directory, the disk says, and it may lie. So, for every operation:
//! * who only looks has one inode locked at a time; a reference keeps the next one alive meanwhile;
//! * who needs a directory and what it names waits for the second only once it has seen, with no other inode locked,
//!   that the second is no directory, or that `..` leads from it to the first and on to the root
//!   ([`crate::ops::child`]).
//!
//! Invariants
//! * What is cached under a glock is valid exactly while `granted` covers it.
//! * Exclusive holders are alone; shared holders share.

pub mod service;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::FsError;
use service::{LockService, Mode, Name};

/// Glocks without holders that are kept, so that their grants need not be asked for again.
const IDLE_MAX: usize = 16384;

/// All glocks of a node.
pub struct Glocks {
    service: Arc<dyn LockService>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    glocks: HashMap<Name, Arc<Glock>>,
    idle: VecDeque<Name>,
}

struct Glock {
    name: Name,
    state: Mutex<State>,
}

struct State {
    /// What the cluster has granted to this node.
    granted: Mode,
    shared: usize,
    exclusive: bool,
    waiting: VecDeque<(Mode, oneshot::Sender<()>)>,
    /// Operations that have this object in their hands, holders and waiters; an unused one may leave the table.
    users: usize,
    /// Stands in the table's queue of idle glocks.
    idle: bool,
}

impl State {
    fn admits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => !self.exclusive && self.shared == 0,
            _ => !self.exclusive,
        }
    }

    fn admit(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive = true,
            _ => self.shared += 1,
        }
    }

    fn leave(&mut self, mode: Mode) {
        match mode {
            Mode::Exclusive => self.exclusive = false,
            _ => self.shared = self.shared.saturating_sub(1),
        }
    }

    /// Admits from the front of the queue who may come in now.
    fn admit_waiting(&mut self) {
        while let Some((mode, _)) = self.waiting.front() {
            let mode = *mode;
            if !self.admits(mode) {
                return;
            }
            let Some((_, wake)) = self.waiting.pop_front() else { return };
            self.admit(mode);
            if wake.send(()).is_err() {
                // The waiter gave up.
                self.leave(mode);
            }
        }
    }
}

impl Glocks {
    /// The glocks of a node whose cluster locks come from `service`.
    #[must_use]
    pub fn new(service: Arc<dyn LockService>) -> Self {
        Self { service, table: Mutex::default() }
    }

    /// Holds the glock `name` in `mode`. The lock is given back when the guard is dropped.
    ///
    /// # Errors
    /// What the lock service says.
    pub async fn lock(&self, name: Name, mode: Mode) -> Result<GlockGuard<'_>, FsError> {
        self.lock_as(name, mode, mode).await
    }

    /// The same, but `None` instead of waiting for other operations of this node.
    ///
    /// # Errors
    /// What the lock service says.
    pub async fn try_lock(&self, name: Name, mode: Mode) -> Result<Option<GlockGuard<'_>>, FsError> {
        let glock = self.take(name);
        let admitted = {
            let mut state = glock.state.lock();
            let admitted = state.waiting.is_empty() && state.admits(mode);
            if admitted {
                state.admit(mode);
            }
            admitted
        };
        if !admitted {
            self.put(&glock);
            return Ok(None);
        }
        self.granted(GlockGuard { glocks: self, glock, mode }, mode).await.map(Some)
    }

    /// The node holds the glock exclusively; its own operations share it, and exclude each other by finer means.
    ///
    /// # Errors
    /// What the lock service says.
    pub async fn lock_for_node(&self, name: Name) -> Result<GlockGuard<'_>, FsError> {
        self.lock_as(name, Mode::Shared, Mode::Exclusive).await
    }

    /// `mode` among the operations of this node, `grant` among nodes.
    async fn lock_as(&self, name: Name, mode: Mode, grant: Mode) -> Result<GlockGuard<'_>, FsError> {
        let glock = self.take(name);
        let wait = {
            let mut state = glock.state.lock();
            if state.waiting.is_empty() && state.admits(mode) {
                state.admit(mode);
                None
            } else {
                let (wake, wait) = oneshot::channel();
                state.waiting.push_back((mode, wake));
                Some(wait)
            }
        };
        let guard = match wait {
            None => GlockGuard { glocks: self, glock, mode },
            Some(wait) => Waiter { glocks: self, glock, mode, done: false, wait }.admitted().await,
        };
        self.granted(guard, grant).await
    }

    /// The holder of `guard` gets the cluster's grant, unless the node has it already.
    async fn granted<'a>(&self, guard: GlockGuard<'a>, grant: Mode) -> Result<GlockGuard<'a>, FsError> {
        let granted = guard.glock.state.lock().granted;
        if !granted.covers(grant) {
            self.service.acquire(guard.name(), grant).await?;
            guard.glock.state.lock().granted = grant;
        }
        Ok(guard)
    }

    fn take(&self, name: Name) -> Arc<Glock> {
        let mut table = self.table.lock();
        let glock = table.glocks.entry(name).or_insert_with(|| {
            Arc::new(Glock {
                name,
                state: Mutex::new(State {
                    granted: Mode::Unlocked,
                    shared: 0,
                    exclusive: false,
                    waiting: VecDeque::new(),
                    users: 0,
                    idle: false,
                }),
            })
        });
        glock.state.lock().users += 1;
        Arc::clone(glock)
    }

    /// One user less. A glock without users queues up as idle; the oldest idle ones beyond the limit are given back.
    fn put(&self, glock: &Glock) {
        let mut table = self.table.lock();
        {
            let mut state = glock.state.lock();
            state.users -= 1;
            if state.users > 0 || state.idle {
                return;
            }
            state.idle = true;
        }
        table.idle.push_back(glock.name);
        while table.idle.len() > IDLE_MAX {
            let Some(name) = table.idle.pop_front() else { break };
            let unused = table.glocks.get(&name).is_some_and(|glock| {
                let mut state = glock.state.lock();
                state.idle = false;
                state.users == 0
            });
            if unused {
                table.glocks.remove(&name);
                self.service.release(name);
            }
        }
    }
}

/// An operation in the queue of a glock.
struct Waiter<'a> {
    glocks: &'a Glocks,
    glock: Arc<Glock>,
    mode: Mode,
    /// Admitted: the guard answers for the lock now.
    done: bool,
    wait: oneshot::Receiver<()>,
}

impl<'a> Waiter<'a> {
    async fn admitted(mut self) -> GlockGuard<'a> {
        // The sender lives in the queue until it has admitted us, so this cannot fail.
        let _ = (&mut self.wait).await;
        let glock = Arc::clone(&self.glock);
        self.done = true;
        GlockGuard { glocks: self.glocks, glock, mode: self.mode }
    }
}

impl Drop for Waiter<'_> {
    /// An operation that gives up: it may have been admitted without knowing it yet.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.wait.close();
        {
            let mut state = self.glock.state.lock();
            if self.wait.try_recv().is_ok() {
                state.leave(self.mode);
            }
            state.admit_waiting();
        }
        self.glocks.put(&self.glock);
    }
}

/// Holds a glock.
#[must_use]
pub struct GlockGuard<'a> {
    glocks: &'a Glocks,
    glock: Arc<Glock>,
    mode: Mode,
}

impl GlockGuard<'_> {
    /// Which lock.
    #[must_use]
    pub fn name(&self) -> Name {
        self.glock.name
    }

    /// In which mode.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }
}

impl Drop for GlockGuard<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.glock.state.lock();
            state.leave(self.mode);
            state.admit_waiting();
        }
        self.glocks.put(&self.glock);
    }
}

#[cfg(test)]
mod tests {
    use super::service::{Kind, LocalLocks};
    use super::*;

    fn name(number: u64) -> Name {
        Name { kind: Kind::Inode, number }
    }

    #[tokio::test]
    async fn shared_holders_share_and_an_exclusive_one_waits_for_all_of_them() {
        let glocks = Glocks::new(Arc::new(LocalLocks));
        let first = glocks.lock(name(1), Mode::Shared).await.unwrap();
        let second = glocks.lock(name(1), Mode::Shared).await.unwrap();
        let mut exclusive = Box::pin(glocks.lock(name(1), Mode::Exclusive));
        assert!(futures_util::poll!(&mut exclusive).is_pending());
        // Who comes after an exclusive waiter waits behind it.
        let mut third = Box::pin(glocks.lock(name(1), Mode::Shared));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(first);
        assert!(futures_util::poll!(&mut exclusive).is_pending());
        drop(second);
        let exclusive = exclusive.await.unwrap();
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(exclusive);
        let _third = third.await.unwrap();
    }

    #[tokio::test]
    async fn who_does_not_want_to_wait_overtakes_nobody_and_leaves_nothing() {
        let glocks = Glocks::new(Arc::new(LocalLocks));
        let first = glocks.try_lock(name(1), Mode::Shared).await.unwrap().unwrap();
        let mut exclusive = Box::pin(glocks.lock(name(1), Mode::Exclusive));
        assert!(futures_util::poll!(&mut exclusive).is_pending());
        assert!(glocks.try_lock(name(1), Mode::Shared).await.unwrap().is_none());
        drop(first);
        let exclusive = exclusive.await.unwrap();
        assert!(glocks.try_lock(name(1), Mode::Exclusive).await.unwrap().is_none());
        drop(exclusive);
        assert!(glocks.try_lock(name(1), Mode::Exclusive).await.unwrap().is_some());
        assert_eq!(glocks.table.lock().glocks[&name(1)].state.lock().users, 0);
    }

    #[tokio::test]
    async fn a_waiter_that_gives_up_blocks_nobody() {
        let glocks = Glocks::new(Arc::new(LocalLocks));
        let first = glocks.lock(name(1), Mode::Shared).await.unwrap();
        let mut gone = Box::pin(glocks.lock(name(1), Mode::Exclusive));
        assert!(futures_util::poll!(&mut gone).is_pending());
        let mut third = Box::pin(glocks.lock(name(1), Mode::Shared));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(gone);
        drop(first);
        let _third = third.await.unwrap();
        assert_eq!(glocks.table.lock().glocks.len(), 1);
    }

    #[tokio::test]
    async fn idle_locks_stay_granted_up_to_a_limit() {
        let glocks = Glocks::new(Arc::new(LocalLocks));
        for number in 0..(IDLE_MAX as u64 + 1000) {
            let _guard = glocks.lock(name(number), Mode::Shared).await.unwrap();
        }
        assert_eq!(glocks.table.lock().glocks.len(), IDLE_MAX);
    }
}
