//! The gate that every change of the volume passes: it can be closed while the volume is frozen.
//!
//! Laws
//! * An operation, or each step of a long one, passes before its first lock and holds its passage to its end: who waits
//!   at the gate keeps nobody else from reading.
//! * Whoever holds a passage does not ask for another one: between the two somebody may want to close.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

use crate::error::FsError;

/// See the module.
#[derive(Debug, Default)]
pub struct Gate {
    passages: Arc<RwLock<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Open,
    /// Somebody is closing it.
    Closing,
    Closed(#[allow(dead_code)] OwnedRwLockWriteGuard<()>), // Opens the gate when it is dropped.
    /// It is not closed any more.
    OpenForGood,
}

/// The right to change the volume, until it is dropped.
#[derive(Debug)]
pub struct Passage<'a>(#[allow(dead_code)] RwLockReadGuard<'a, ()>); // Held, not read.

/// The gate while it is being closed: what changes are under way have ended, and no other begins. Opens it again unless
/// it is [`Closing::keep`]t.
#[derive(Debug)]
pub struct Closing<'a> {
    gate: &'a Gate,
    guard: Option<OwnedRwLockWriteGuard<()>>,
}

impl Gate {
    /// Waits until the gate is open.
    pub async fn pass(&self) -> Passage<'_> {
        Passage(self.passages.read().await)
    }

    /// Passes if that needs no waiting.
    pub fn try_pass(&self) -> Option<Passage<'_>> {
        self.passages.try_read().ok().map(Passage)
    }

    /// Lets nobody pass any more, and waits for those who are on their way.
    ///
    /// # Errors
    /// `Frozen` if it is closed or being closed, `Unmounting` after [`Gate::open_for_good`].
    pub async fn close(&self) -> Result<Closing<'_>, FsError> {
        {
            let mut state = self.state.lock();
            match *state {
                State::Open => *state = State::Closing,
                State::Closing | State::Closed(_) => return Err(FsError::Frozen),
                State::OpenForGood => return Err(FsError::Unmounting),
            }
        }
        let mut closing = Closing { gate: self, guard: None };
        closing.guard = Some(Arc::clone(&self.passages).write_owned().await);
        Ok(closing)
    }

    /// Opens it. Whether it was closed.
    pub fn open(&self) -> bool {
        let mut state = self.state.lock();
        if !matches!(*state, State::Closed(_)) {
            return false;
        }
        *state = State::Open;
        true
    }

    /// Opens it, and lets nobody close it any more.
    pub fn open_for_good(&self) {
        *self.state.lock() = State::OpenForGood;
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.state.lock(), State::Closed(_))
    }
}

impl Closing<'_> {
    /// Leaves the gate closed, unless it was to be open for good meanwhile.
    ///
    /// # Errors
    /// `Unmounting` then.
    pub fn keep(mut self) -> Result<(), FsError> {
        let mut state = self.gate.state.lock();
        match (&*state, self.guard.take()) {
            (State::Closing, Some(guard)) => *state = State::Closed(guard),
            _ => return Err(FsError::Unmounting),
        }
        Ok(())
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        if matches!(*state, State::Closing) {
            *state = State::Open;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::{FutureExt, poll_immediate};

    use super::*;

    #[test]
    fn a_closed_gate_is_passed_when_it_is_opened() {
        let gate = Gate::default();
        gate.close().now_or_never().unwrap().unwrap().keep().unwrap();
        assert!(gate.is_closed());
        assert!(gate.try_pass().is_none());
        assert!(matches!(gate.close().now_or_never().unwrap(), Err(FsError::Frozen)));
        let mut waiting = Box::pin(gate.pass());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(gate.open());
        assert!(!gate.open(), "it is open");
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn closing_waits_for_changes_under_way_and_is_taken_back_if_it_is_given_up() {
        let gate = Gate::default();
        let passage = gate.pass().now_or_never().unwrap();
        let mut closing = Box::pin(gate.close());
        assert!((&mut closing).now_or_never().is_none());
        assert!(gate.try_pass().is_none(), "whoever comes now waits");
        drop(passage);
        drop(closing.now_or_never().unwrap().unwrap());
        assert!(gate.try_pass().is_some());
        assert!(!gate.is_closed());
    }

    #[test]
    fn an_end_opens_the_gate_also_while_it_is_being_closed() {
        let gate = Gate::default();
        let passage = gate.pass().now_or_never().unwrap();
        let mut closing = Box::pin(gate.close());
        assert!(poll_immediate(&mut closing).now_or_never().unwrap().is_none());
        gate.open_for_good();
        drop(passage);
        let closing = closing.now_or_never().unwrap().unwrap();
        assert!(matches!(closing.keep(), Err(FsError::Unmounting)));
        assert!(gate.try_pass().is_some());
        assert!(matches!(gate.close().now_or_never().unwrap(), Err(FsError::Unmounting)));
    }
}
