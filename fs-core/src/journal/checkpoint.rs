//! Writing committed blocks in place, so that the log behind them can be used again.

use std::sync::Arc;

use super::log::{CHECKPOINT_BLOCKS_MAX, Journal, less_remaining};
use crate::addr::BlockAddr;
use crate::blocks::BlockImage;
use crate::error::FsError;

impl Journal {
    /// Writes committed images in place, oldest flushes first, as many as one turn allows. Returns whether there are
    /// more.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn checkpoint(&self) -> Result<bool, FsError> {
        let _turn = self.checkpointing.lock().await;
        let (batch, more) = {
            let state = self.state.lock();
            let mut numbers = state.flushed.iter().map(|flushed| (flushed.number, flushed.remaining));
            let (mut upto, mut count) = (0, 0);
            for (number, remaining) in numbers.by_ref() {
                upto = number;
                count += remaining;
                if count >= CHECKPOINT_BLOCKS_MAX {
                    break;
                }
            }
            let batch: Vec<(BlockAddr, BlockImage, u64)> = state
                .due
                .iter()
                .filter(|(_, due)| due.flush <= upto)
                .map(|(addr, due)| (*addr, Arc::clone(&due.image), due.flush))
                .collect();
            (batch, numbers.next().is_some())
        };
        if batch.is_empty() {
            return Ok(false);
        }
        let mut blocks: Vec<(BlockAddr, BlockImage)> =
            batch.iter().map(|(addr, image, _)| (*addr, Arc::clone(image))).collect();
        if mistake!(CheckpointForgetsBlock) {
            blocks.pop();
        }
        self.disk.write_sorted(&blocks).await?;
        self.disk.flush().await?;
        let mut state = self.state.lock();
        let state = &mut *state;
        for (addr, _, flush) in batch {
            if state.due.get(&addr).is_some_and(|due| due.flush == flush) {
                state.due.remove(&addr);
                self.cache.unpin(addr);
                less_remaining(&mut state.flushed, flush);
            }
        }
        if state.sealed.is_none() {
            // While a flush is under way its header has its tail already; the next one moves it on.
            let head = self.map.advance(state.next, self.map.blocks() - 1);
            self.move_tail(state, head);
        }
        Ok(more)
    }

    pub(super) async fn checkpoint_all(&self) -> Result<(), FsError> {
        while self.checkpoint().await? {}
        Ok(())
    }
}
