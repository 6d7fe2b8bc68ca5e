//! Writing file data, which goes to its place without passing through the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::log::{DATA_BLOCKS_MAX, Journal};
use crate::addr::{BlockAddr, InodeNo};
use crate::blocks::BlockImage;
use crate::cache::AddrMap;
use crate::error::FsError;

impl Journal {
    /// Writes the data of one inode, or of all, that is dirty now to its place. It is durable after
    /// [`Journal::flush_data`].
    pub(super) async fn write_data(&self, only: Option<InodeNo>) -> Result<(), FsError> {
        let mut todo: Vec<(BlockAddr, InodeNo)> = {
            let state = self.state.lock();
            let of = |ino: InodeNo, addrs: &BTreeSet<BlockAddr>| -> Vec<_> {
                addrs.iter().map(|addr| (*addr, ino)).collect()
            };
            match only {
                Some(ino) => state.dirty.get(&ino).map(|addrs| of(ino, addrs)).unwrap_or_default(),
                None => state.dirty.iter().flat_map(|(ino, addrs)| of(*ino, addrs)).collect(),
            }
        };
        todo.sort_unstable();
        for piece in todo.chunks(DATA_BLOCKS_MAX) {
            let _turn = self.writing_data.lock().await;
            let blocks: Vec<(BlockAddr, BlockImage)> = {
                let state = self.state.lock();
                piece
                    .iter()
                    .filter(|(addr, ino)| state.dirty.get(ino).is_some_and(|dirty| dirty.contains(addr)))
                    .filter_map(|(addr, _)| Some((*addr, self.cache.get(*addr)?)))
                    .collect()
            };
            self.disk.write_sorted(&blocks).await?;
            self.data_is_written(&piece.iter().copied().collect(), &blocks);
        }
        Ok(())
    }

    /// Blocks that still hold what was written are clean now.
    pub(super) fn data_is_written(&self, inodes: &AddrMap<BlockAddr, InodeNo>, blocks: &[(BlockAddr, BlockImage)]) {
        if blocks.is_empty() {
            return;
        }
        // First of all: who finds a block clean has to know that a flush may be due for it.
        self.data_written.fetch_add(1, Ordering::AcqRel);
        let mut state = self.state.lock();
        for (addr, written) in blocks {
            let unchanged = self.cache.get(*addr).is_some_and(|image| Arc::ptr_eq(&image, written));
            if let Some(ino) = inodes.get(addr).filter(|_| unchanged)
                && let Some(dirty) = state.dirty.get_mut(ino)
                && dirty.remove(addr)
            {
                if dirty.is_empty() {
                    state.dirty.remove(ino);
                }
                state.dirty_count -= 1;
                self.cache.unpin(*addr);
            }
        }
    }

    /// Makes written file data durable, unless a flush of the device has done so meanwhile.
    pub(super) async fn flush_data(&self) -> Result<(), FsError> {
        let written = self.data_written.load(Ordering::Acquire);
        if self.data_flushed.load(Ordering::Acquire) < written && !mistake!(DataNotFlushed) {
            self.disk.flush().await?;
            self.data_flushed.fetch_max(written, Ordering::AcqRel);
        }
        Ok(())
    }
}
