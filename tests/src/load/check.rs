//! Whether what a crash has left keeps the promises of a [`History`].
#![allow(missing_docs)] // The fields of the variants name themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::history::{Change, FileId, FileState, History};
use super::names::{Names, Node};
use crate::data;

/// How strict the check is.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Bytes that were written but not yet synced may read as zero. The stand-in needs that (ext4 can make a longer
    /// size durable before the data of a block that it had already); lunfs does not.
    pub unsynced_may_be_zero: bool,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundEntry {
    /// A directory.
    Dir,
    /// A regular file.
    File { ino: u64, nlink: u64, mode: u32, content: Vec<u8> },
    /// A symbolic link and its target.
    Link(String),
}

/// What was found, by path relative to the root.
pub type Found = BTreeMap<String, FoundEntry>;

/// Reads everything below `root`.
#[track_caller]
#[must_use]
pub fn read_found(root: &Path) -> Found {
    let mut found = Found::new();
    let mut todo = vec![String::new()];
    while let Some(dir) = todo.pop() {
        let path = root.join(&dir);
        let entries = std::fs::read_dir(&path).unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
        for entry in entries {
            let entry = entry.unwrap_or_else(|error| panic!("list {}: {error}", path.display()));
            if crate::volume::is_foreign(&entry.file_name()) {
                continue;
            }
            let name = entry.file_name().into_string().expect("names of the load are text");
            let relative = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            let path = root.join(&relative);
            let fail = |what: &str, error: std::io::Error| -> ! { panic!("{what} {}: {error}", path.display()) };
            let meta = path.symlink_metadata().unwrap_or_else(|error| fail("stat", error));
            let kind = meta.file_type();
            let entry = if kind.is_dir() {
                todo.push(relative.clone());
                FoundEntry::Dir
            } else if kind.is_symlink() {
                FoundEntry::Link(path.read_link().unwrap().to_string_lossy().into_owned())
            } else {
                let content = std::fs::read(&path).unwrap_or_else(|error| fail("read", error));
                FoundEntry::File { ino: meta.ino(), nlink: meta.nlink(), mode: meta.mode() & 0o7777, content }
            };
            let before = found.insert(relative, entry);
            assert!(before.is_none(), "{} is listed twice", path.display());
        }
    }
    found
}

/// The state that is in force after a crash: names, and the contents of files.
pub(super) type State = (Names, BTreeMap<FileId, Vec<u8>>);

/// Checks one thread's part of what was found. Gives the names that are in force now and the contents of their files.
///
/// # Errors
/// What breaks the promises, for the history that comes closest.
pub(super) fn check(history: &History, found: &Found, rules: Rules) -> Result<State, Vec<String>> {
    let mine: BTreeMap<&str, &FoundEntry> =
        found.iter().filter(|(path, _)| history.owns(path)).map(|(path, entry)| (path.as_str(), entry)).collect();
    let mut names = history.synced.clone();
    // Names that fit count more than contents that do.
    let mut closest = ((true, usize::MAX), 0, Vec::new());
    for applied in 0..=history.pending.len() {
        if applied > 0 {
            names.apply(&history.pending[applied - 1].1);
        }
        let wrong = wrong_names(&names, &mine);
        let names_differ = !wrong.is_empty();
        let wrong = if wrong.is_empty() { wrong_contents(history, &names, &mine, rules) } else { wrong };
        if wrong.is_empty() {
            let contents = contents(&names, &mine);
            return Ok((names, contents));
        }
        if (names_differ, wrong.len()) < closest.0 {
            closest = ((names_differ, wrong.len()), applied, wrong);
        }
    }
    let ((_, count), applied, mut lines) = closest;
    lines.truncate(12);
    lines.insert(
        0,
        format!(
            "thread {}: no state that its history allows. Closest is the one after {applied} of {} operations that were \
             not yet promised, with {count} differences:",
            history.thread,
            history.pending.len()
        ),
    );
    let from = applied.saturating_sub(3);
    lines.extend(
        history
            .pending
            .iter()
            .enumerate()
            .skip(from)
            .take(8)
            .map(|(at, (number, event))| format!("  operation {} (number {number}, not promised): {event:?}", at + 1)),
    );
    Err(lines)
}

fn wrong_names(names: &Names, found: &BTreeMap<&str, &FoundEntry>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ino_of = BTreeMap::new();
    for (path, node) in &names.paths {
        let Some(entry) = found.get(path.as_str()) else {
            wrong.push(format!("  {path} is missing ({node:?})"));
            continue;
        };
        match (node, entry) {
            (Node::Dir(_), FoundEntry::Dir) => {}
            (Node::Link(target), FoundEntry::Link(found)) if target == found => {}
            (Node::File(file), FoundEntry::File { ino, nlink, mode, .. }) => {
                if ino_of.insert(*file, *ino).is_some_and(|other| other != *ino) {
                    wrong.push(format!("  {path} is another file than the other names of file {file}"));
                }
                let (links, permissions) = (names.links(*file), names.modes[file]);
                if (*nlink, *mode) != (links, permissions) {
                    wrong.push(format!(
                        "  {path} has {nlink} links and mode {mode:o}, should have {links} and {permissions:o}"
                    ));
                }
            }
            _ => wrong.push(format!("  {path} should be {node:?}, is {}", brief(entry))),
        }
    }
    let distinct: BTreeSet<u64> = ino_of.values().copied().collect();
    if distinct.len() != ino_of.len() {
        wrong.push("  different files share an inode".to_owned());
    }
    for (path, entry) in found.iter().filter(|(path, _)| !names.paths.contains_key(**path)) {
        wrong.push(format!("  {path} should not exist ({})", brief(entry)));
    }
    wrong
}

fn brief(entry: &FoundEntry) -> String {
    match entry {
        FoundEntry::File { ino, content, .. } => format!("file with inode {ino} and {} bytes", content.len()),
        other => format!("{other:?}"),
    }
}

fn wrong_contents(history: &History, names: &Names, found: &BTreeMap<&str, &FoundEntry>, rules: Rules) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, node) in &names.paths {
        if let (Node::File(file), FoundEntry::File { content, .. }) = (node, found[path.as_str()])
            && let Err(line) = explain(&history.files[file], content, rules)
        {
            wrong.push(format!("  {path} (file {file}): {line}"));
        }
    }
    wrong
}

fn contents(names: &Names, found: &BTreeMap<&str, &FoundEntry>) -> BTreeMap<FileId, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for (path, node) in &names.paths {
        if let (Node::File(file), FoundEntry::File { content, .. }) = (node, found[path.as_str()]) {
            contents.insert(*file, content.clone());
        }
    }
    contents
}

/// Whether what is known of a file explains a content.
///
/// # Errors
/// What does not fit.
fn explain(state: &FileState, content: &[u8], rules: Rules) -> Result<(), String> {
    let mut size = state.base.len() as u64;
    let mut sizes = vec![size..=size];
    // From where on a hole may have been made.
    let mut zero_from = u64::MAX;
    for change in &state.changes {
        match *change {
            Change::Write { at, len, .. } => {
                let end = size.max(at + len);
                sizes.push(size..=end);
                if at > size {
                    zero_from = zero_from.min(size);
                }
                size = end;
            }
            Change::Truncate { to } => {
                sizes.push(to..=to);
                zero_from = zero_from.min(size.min(to));
                size = to;
            }
        }
    }
    let found = content.len() as u64;
    if !sizes.iter().any(|range| range.contains(&found)) {
        let base = state.base.len();
        return Err(format!("{found} bytes long; {base} were promised, and since then: {:?}", state.changes));
    }
    let promised = &state.base;
    for (index, byte) in content.iter().enumerate() {
        if promised.get(index) == Some(byte) {
            continue;
        }
        let at = index as u64;
        let zero_is_fine = at >= zero_from || (rules.unsynced_may_be_zero && index >= promised.len());
        if *byte == 0 && zero_is_fine {
            continue;
        }
        let written = |change: &Change| match *change {
            Change::Write { id, at: start, len } => (start..start + len).contains(&at) && data::byte(id, at) == *byte,
            Change::Truncate { .. } => false,
        };
        if !state.changes.iter().any(written) {
            return Err(format!(
                "byte {at} is {byte:#04x}; promised was {:02x?}, and nothing later wrote that ({:?})",
                promised.get(index),
                state.changes
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_test.rs"]
mod tests;
