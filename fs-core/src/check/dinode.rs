//! Rules of a single dinode: what can be said of one block and its state in the bitmap.

use super::rule::Rule;
use super::walk::Walk;
use crate::attr::FileKind;
use crate::error::CorruptKind;
use crate::format::dinode::{Dinode, flags};
use crate::format::rgrp::BlockState;

/// Checks all rules of the dinode that `walk` is about. False when its content cannot be followed.
pub(super) fn check(walk: &Walk<'_>, state: BlockState, igeneration: u64) -> bool {
    let dinode = walk.dinode;
    goal(walk, dinode);
    state_and_links(walk, dinode, state);
    generation(walk, dinode, igeneration);
    truncation(walk, dinode);
    directory(walk, dinode);
    shape(walk, dinode)
}

/// `fsck.gfs2` wants it behind the superblock and on the volume.
fn goal(walk: &Walk<'_>, dinode: &Dinode) {
    if !walk.reader().is_inside(dinode.goal) {
        walk.report(Rule::Goal { goal: dinode.goal });
    }
}

/// An inode is marked unlinked when it has lost its last name. That is legal: the next mount frees it.
fn state_and_links(walk: &Walk<'_>, dinode: &Dinode, state: BlockState) {
    if state != BlockState::Unlinked {
        return;
    }
    if dinode.nlink == 0 {
        walk.report(Rule::Orphan);
    } else {
        walk.report(Rule::UnlinkedHasLinks { nlink: dinode.nlink });
    }
}

/// Files that mkfs made have none.
fn generation(walk: &Walk<'_>, dinode: &Dinode, igeneration: u64) {
    if dinode.generation != 0 && dinode.generation >= igeneration {
        walk.report(Rule::GenerationAhead { generation: dinode.generation, next: igeneration });
    }
}

fn truncation(walk: &Walk<'_>, dinode: &Dinode) {
    if dinode.flags & flags::TRUNC_IN_PROG != 0 {
        walk.report(Rule::TruncationUnfinished);
    }
}

fn directory(walk: &Walk<'_>, dinode: &Dinode) {
    if dinode.kind != FileKind::Directory {
        return;
    }
    if !dinode.is_journaled() {
        walk.report(Rule::DirectoryNotJournaled);
    }
    if !dinode.is_hashed() && dinode.size != walk.reader().size().stuffed_bytes_max() as u64 {
        walk.report(Rule::LinearDirectorySize { size: dinode.size });
    }
}

/// Height, size and depth fit each other.
fn shape(walk: &Walk<'_>, dinode: &Dinode) -> bool {
    match dinode.check_shape(walk.reader().size()) {
        Ok(()) => true,
        // Entries of a linear directory are where they are, whatever it says of its size.
        Err(CorruptKind::StuffedSize { .. }) if dinode.kind == FileKind::Directory => true,
        Err(kind) => {
            walk.report(kind);
            // Without a tree that the format allows there is nothing to follow.
            !matches!(kind, CorruptKind::DinodeHeight { .. } | CorruptKind::DirectoryDepth { .. })
        }
    }
}
