//! Names against inodes: what each inode and each entry adds to the sums of [`super::map`], and whether every directory
//! is below the root.

use super::Checker;
use super::directory::Dots;
use super::entries::Entry;
use super::map::mix;
use super::rule::{Finding, Rule};
use crate::addr::{BlockAddr, InodeNo};
use crate::format::dinode::Dinode;

/// A directory, for the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Directory {
    pub(super) ino: InodeNo,
    /// Where its `..` leads; zero: it has none.
    pub(super) parent: u64,
}

/// What an entry has to say of an inode.
fn identity(target: u64, formal: u64, kind: u16) -> u64 {
    mix(target, formal, u64::from(kind))
}

/// An inode counts its names.
pub(super) fn add_inode(checker: &Checker<'_>, dinode: &Dinode) {
    let own = identity(dinode.ino.get(), dinode.formal, dinode.kind.dirent_number());
    checker.map.add_name(dinode.ino.addr(), own.wrapping_mul(u64::from(dinode.nlink)));
}

/// An entry of directory `dir`. `.` has been compared with the directory itself, and counts as what it should be.
pub(super) fn add_entry(checker: &Checker<'_>, dir: &Dinode, entry: &Entry<'_>) {
    if entry.is_dot() {
        return;
    }
    let target = BlockAddr(entry.target);
    let name = identity(entry.target, entry.formal, entry.kind);
    if !checker.map.add_name(target, name.wrapping_neg()) {
        let rule = Rule::EntryDangling { target: entry.target };
        checker.tally.report(&Finding::new(rule, entry.block).of(dir.ino).named(entry.name));
        return;
    }
    if !entry.is_dot_dot() && entry.is_directory() {
        checker.map.add_parent(target, mix(entry.target, dir.ino.get(), 0).wrapping_neg());
    }
}

/// A directory, when all its entries have been added.
pub(super) fn add_directory(checker: &Checker<'_>, dir: &Dinode, dots: Dots) {
    let own = identity(dir.ino.get(), dir.formal, dir.kind.dirent_number());
    checker.map.add_name(dir.ino.addr(), own.wrapping_neg());
    let parent = dots.parent.unwrap_or(0);
    if !checker.is_top(dir.ino) {
        checker.map.add_parent(dir.ino.addr(), mix(dir.ino.get(), parent, 0));
    }
    checker.directories.lock().push(Directory { ino: dir.ino, parent });
}

/// What is known of the way up from a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Unknown,
    /// On the way that is being walked.
    Here,
    /// It ends: at the top, or at something that other rules report.
    Ends,
}

/// Every directory is below the root or the master directory: nobody is below themselves. That `..` is right is a rule
/// of its own.
pub(super) fn circles(checker: &Checker<'_>, directories: &[Directory]) {
    let find = |ino: u64| directories.binary_search_by_key(&ino, |directory| directory.ino.get()).ok();
    let mut ways = vec![Way::Unknown; directories.len()];
    let mut path = Vec::new();
    for start in 0..directories.len() {
        let mut at = Some(start);
        while let Some(index) = at
            && let Some(directory) = directories.get(index)
        {
            match ways.get_mut(index) {
                Some(way @ Way::Unknown) if !checker.is_top(directory.ino) => *way = Way::Here,
                Some(Way::Here) => {
                    checker.tally.report(&Finding::new(Rule::DirectoryCircle, directory.ino.addr()).of(directory.ino));
                    break;
                }
                _ => break,
            }
            path.push(index);
            at = find(directory.parent);
        }
        for index in path.drain(..) {
            if let Some(way) = ways.get_mut(index) {
                *way = Way::Ends;
            }
        }
    }
}
