//! Changes of bitmaps, gathered by one transaction.

use std::collections::BTreeSet;

use super::rgrps::BitRun;
use crate::addr::BlockAddr;
use crate::format::rgrp::BlockState;

/// Runs of blocks and what they become, and the header blocks that this changes.
#[derive(Debug, Default)]
pub struct Runs {
    list: Vec<BitRun>,
    headers: BTreeSet<BlockAddr>,
}

impl Runs {
    /// Adds `run`, which changes `headers`. A block that is freed next to the run before it, on either side (files are
    /// freed from their end), makes that run longer: returns true then, and the group has one run less to keep track of.
    pub fn add(&mut self, run: BitRun, headers: impl IntoIterator<Item = BlockAddr>) -> bool {
        self.headers.extend(headers);
        if let Some(last) = self.list.last_mut()
            && (last.group, last.to, run.to) == (run.group, BlockState::Free, BlockState::Free)
        {
            let below = run.index + run.len == last.index;
            if below || last.index + last.len == run.index {
                last.index = last.index.min(run.index);
                last.len += run.len;
                return true;
            }
        }
        self.list.push(run);
        false
    }

    /// The runs.
    #[must_use]
    pub fn list(&self) -> &[BitRun] {
        &self.list
    }

    /// How many header blocks of resource groups change.
    #[must_use]
    pub fn headers_len(&self) -> usize {
        self.headers.len()
    }

    /// Takes the runs out.
    pub fn clear(&mut self) {
        self.list.clear();
        self.headers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed(group: usize, index: u32) -> BitRun {
        BitRun { group, index, len: 1, to: BlockState::Free }
    }

    #[test]
    fn neighbours_that_are_freed_make_one_run_in_either_direction() {
        for rising in [true, false] {
            let mut runs = Runs::default();
            for step in 0..1000 {
                let index = if rising { 100 + step } else { 1099 - step };
                let merged = runs.add(freed(3, index), [BlockAddr(7), BlockAddr(7 + u64::from(index / 500))]);
                assert_eq!(merged, step > 0);
            }
            assert_eq!(runs.list(), [BitRun { group: 3, index: 100, len: 1000, to: BlockState::Free }]);
            assert_eq!(runs.headers_len(), 3);
        }
    }

    #[test]
    fn what_is_no_neighbour_or_not_freed_is_a_run_of_its_own() {
        let mut runs = Runs::default();
        let used = BitRun { to: BlockState::Used, ..freed(0, 11) };
        for run in [freed(0, 10), freed(0, 12), freed(1, 11), used, BitRun { index: 10, ..used }, freed(0, 9)] {
            assert!(!runs.add(run, []));
        }
        assert_eq!(runs.list().len(), 6);
    }
}
