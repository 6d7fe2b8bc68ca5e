//! Freed blocks are told to the device before they can be had again, if that is asked for.

use std::sync::atomic::Ordering;

use super::log::{Journal, State};
use crate::alloc::rgrps::BitRun;
use crate::error::{FsError, one_line};

/// Runs that wait to be discarded at most; what is freed beyond that can be had again without.
const WAITING_MAX: usize = 65_536;

impl Journal {
    /// Whether blocks that are freed from now on are discarded.
    pub fn set_discards(&self, on: bool) {
        self.discards.store(on, Ordering::Relaxed);
    }

    /// The transaction that freed these blocks is durable. They can be had again, if need be once they are discarded.
    pub(super) fn freed(&self, state: &mut State, runs: &[BitRun]) {
        if self.discards.load(Ordering::Relaxed) && state.to_discard.len() < WAITING_MAX {
            state.to_discard.extend_from_slice(runs);
            if !runs.is_empty() {
                self.pressure.notify_one();
            }
        } else {
            self.rgrps.release(runs);
        }
    }

    /// Discards what was freed and is durable, and lets it go. On return, all that waited before the call can be had
    /// again. A device that fails to discard is not asked again: nothing is lost by that.
    ///
    /// # Errors
    /// `Withdrawn`.
    pub async fn discard_freed(&self) -> Result<(), FsError> {
        let _turn = self.discarding.lock().await;
        let runs = std::mem::take(&mut self.state.lock().to_discard);
        let mut sorted = runs.clone();
        sorted.sort_unstable_by_key(|run| (run.group, run.index));
        let mut result = Ok(());
        let mut rest = sorted.as_slice();
        while let Some((first, _)) = rest.split_first() {
            // Neighbours are one request.
            let mut end = first.index;
            let count = rest.iter().take_while(|run| {
                let next = run.group == first.group && run.index == end;
                if next {
                    end += run.len;
                }
                next
            });
            let count = count.count().max(1);
            rest = rest.get(count..).unwrap_or_default();
            let Some(place) = self.rgrps.place(first.group) else { continue };
            if !self.discards.load(Ordering::Relaxed) {
                break;
            }
            match self.disk.discard(place.block_at(first.index), u64::from(end - first.index)).await {
                Ok(()) => {}
                Err(error @ FsError::DiscardFailed(_)) => {
                    tracing::warn!("freed blocks are not discarded any more: {}", one_line(&error));
                    self.set_discards(false);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.rgrps.release(&runs);
        result
    }
}
