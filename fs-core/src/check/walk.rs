//! One inode under examination: what is known of it, and how findings about it are made.

use super::Checker;
use super::map::Claim;
use super::read::{Image, Reader};
use super::rule::{Finding, Rule};
use crate::addr::BlockAddr;
use crate::error::CorruptKind;
use crate::format::dinode::Dinode;
use crate::format::meta::BlockKind;
use crate::format::rgrp::BlockState;

/// An inode, and the blocks that it was found to have.
pub(super) struct Walk<'a> {
    pub(super) checker: &'a Checker<'a>,
    pub(super) dinode: &'a Dinode,
    /// The block of the dinode.
    pub(super) image: &'a Image,
    /// Blocks found, the dinode included.
    pub(super) blocks: u64,
    /// Part of the inode could not be followed: sums over it mean nothing.
    pub(super) broken: bool,
    /// All was said when the inode was examined the first time: nothing is reported, nothing claimed.
    quiet: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(checker: &'a Checker<'a>, dinode: &'a Dinode, image: &'a Image, quiet: bool) -> Self {
        Self { checker, dinode, image, blocks: 1, broken: false, quiet }
    }

    pub(super) fn reader(&self) -> &'a Reader {
        &self.checker.reader
    }

    /// A rule is broken by the dinode.
    pub(super) fn report(&self, rule: impl Into<Rule>) {
        self.report_at(self.dinode.ino.addr(), rule);
    }

    /// A rule is broken by another block of the inode.
    pub(super) fn report_at(&self, block: BlockAddr, rule: impl Into<Rule>) {
        self.send(&Finding::new(rule.into(), block).of(self.dinode.ino));
    }

    /// A rule is broken by the entry `name` in one of the directory's blocks.
    pub(super) fn report_name(&self, block: BlockAddr, name: &[u8], rule: impl Into<Rule>) {
        self.send(&Finding::new(rule.into(), block).of(self.dinode.ino).named(name));
    }

    fn send(&self, finding: &Finding) {
        if !self.quiet {
            self.checker.tally.report(finding);
        }
    }

    /// The inode refers to `addr` in its block `from`. True when that can be followed.
    pub(super) fn claim(&mut self, addr: BlockAddr, from: BlockAddr) -> bool {
        self.blocks = self.blocks.saturating_add(1);
        if !self.reader().is_inside(addr) {
            self.broken = true;
            self.report_at(from, CorruptKind::PointerRange { target: addr });
            return false;
        }
        if self.quiet {
            return true;
        }
        let claim = self.checker.map.claim(addr);
        if self.checker.shared.refer(addr, self.dinode.ino, claim == Claim::Twice) {
            self.broken |= claim == Claim::Twice;
            return claim != Claim::Twice;
        }
        let rule = match claim {
            Claim::Fine => return true,
            Claim::Twice => Rule::ReferencedTwice { other: None },
            Claim::State(state) => Rule::ReferencedState { state },
            Claim::Outside => Rule::ReferencedOutside,
        };
        self.report_at(addr, rule);
        // A block that is only marked wrongly may be followed all the same. One that is used twice has been, perhaps as
        // part of a circle.
        let follow = matches!(rule, Rule::ReferencedState { state: BlockState::Free });
        self.broken |= !follow;
        follow
    }

    /// Checks a block that was read. Gives it back when its content can be used.
    pub(super) fn checked(&mut self, addr: BlockAddr, image: Option<Image>, kind: BlockKind) -> Option<Image> {
        let Some(image) = image else {
            self.broken = true;
            self.report_at(addr, Rule::Unreadable);
            return None;
        };
        match self.reader().check(addr, &image, kind) {
            Ok(()) => Some(image),
            Err(rule) => {
                self.report_at(addr, rule);
                // A checksum says that something is wrong, and not what.
                if matches!(rule, CorruptKind::BadChecksum { .. }) {
                    return Some(image);
                }
                self.broken = true;
                None
            }
        }
    }
}
