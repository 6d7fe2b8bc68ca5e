//! Blocks that a bitmap calls used, and that nobody refers to.

use super::Checker;
use super::map::GroupMap;
use super::rule::Rule;
use crate::format::rgrp::BlockState;

/// Reports every such block of the volume, neighbours together.
pub(super) fn check(checker: &Checker<'_>) {
    for group in checker.map.groups.iter().filter(|group| group.known) {
        let mut run: Option<(u32, u32)> = None;
        for index in 0..group.place.data {
            let leaked = group.state(index) == BlockState::Used && !group.is_claimed(index);
            match (&mut run, leaked) {
                (Some((_, count)), true) => *count += 1,
                (None, true) => run = Some((index, 1)),
                (Some(_), false) => report(checker, group, run.take()),
                (None, false) => {}
            }
        }
        report(checker, group, run);
    }
}

fn report(checker: &Checker<'_>, group: &GroupMap, run: Option<(u32, u32)>) {
    if let Some((index, count)) = run {
        checker.tally.at(group.place.block_at(index), Rule::Leaked { count });
    }
}
