//! One thread of the mixed load.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::history::{Change, FileId, History, Key};
use super::names::{Event, Node};
use crate::data;
use crate::rng::Rng;

/// Beyond this many names, a thread rather removes than creates.
const NAMES_MAX: usize = 120;
/// Longest file of the load, in bytes.
const SIZE_MAX: u64 = 400 << 10;
/// Files kept open between operations.
const OPEN_MAX: usize = 6;

/// What the threads of a load share.
#[derive(Debug, Default)]
pub struct Shared {
    /// The crash has begun: errors are expected from now on.
    pub crashed: AtomicBool,
    /// A crash may come at any moment: errors end a thread quietly.
    pub tolerant: AtomicBool,
    /// Operations that were acknowledged.
    pub operations: AtomicU64,
    /// Syncs among them.
    pub syncs: AtomicU64,
}

/// One thread of the load.
pub struct Worker<'a> {
    history: History,
    rng: Rng,
    root: &'a Path,
    shared: &'a Shared,
    open: Vec<(FileId, File)>,
    orphans: Vec<File>,
    at: String,
}

impl<'a> Worker<'a> {
    /// Goes on where `history` ends.
    #[must_use]
    pub fn new(history: History, seed: u64, root: &'a Path, shared: &'a Shared) -> Self {
        let rng = Rng::new(seed ^ (history.thread << 40));
        Self { history, rng, root, shared, open: Vec::new(), orphans: Vec::new(), at: String::new() }
    }

    /// Works until the crash, or until `limit` operations of all threads are done.
    ///
    /// # Panics
    /// When an operation fails before the crash.
    #[must_use]
    pub fn run(mut self, limit: u64) -> History {
        while self.shared.operations.load(Ordering::Relaxed) < limit {
            self.at.clear();
            match self.step() {
                Ok(()) => drop(self.shared.operations.fetch_add(1, Ordering::Relaxed)),
                Err(_) if self.shared.crashed.load(Ordering::SeqCst) => break,
                Err(_) if self.shared.tolerant.load(Ordering::SeqCst) => break,
                Err(error) => panic!("thread {}: {} failed: {error}", self.history.thread, self.at),
            }
            if self.shared.crashed.load(Ordering::Relaxed) {
                break;
            }
        }
        self.history
    }

    fn step(&mut self) -> io::Result<()> {
        let crowded = self.history.now.paths.len() > NAMES_MAX;
        match self.rng.below(100) {
            0..=13 if !crowded => self.create(),
            0..=19 => self.unlink(),
            20..=32 => self.append(),
            33..=41 => self.overwrite(),
            42..=46 => self.truncate(),
            47..=55 => self.rename(),
            56..=58 => self.exchange(),
            59..=61 if !crowded => self.link(),
            62..=63 if !crowded => self.symlink(),
            64..=66 if !crowded => self.mkdir(),
            59..=67 => self.rmdir(),
            68..=70 => self.chmod(),
            71..=73 => self.replace(),
            74..=77 => self.write_synchronously(),
            78..=82 => self.fdatasync(),
            83..=87 => self.fsync_dir(),
            _ => self.fsync(),
        }
    }

    fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn saying(&mut self, what: &str, path: &str) {
        self.at = format!("{what} {path}");
    }

    /// Asks for a change of names, and records it before and after.
    fn change_names(&mut self, event: Event, act: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        self.at = format!("{event:?}");
        self.history.begin(event);
        act(self.root)?;
        self.history.done();
        Ok(())
    }

    /// A directory to put something into; the shared one half the time.
    fn a_dir(&mut self) -> String {
        let dirs = self.paths(|node| matches!(node, Node::Dir(_)));
        if self.rng.chance(40) {
            return "shared".to_owned();
        }
        let own = self.history.own();
        if self.rng.chance(50) { own } else { self.rng.pick(&dirs).cloned().unwrap_or(own) }
    }

    /// A name that is free.
    fn new_path(&mut self) -> String {
        let dir = self.a_dir();
        let id = self.history.new_id() & 0xFFFF_FFFF;
        let padding = if self.rng.chance(10) { "x".repeat(self.rng.below(200) as usize) } else { String::new() };
        match dir.as_str() {
            "shared" => format!("shared/t{}-{id}{padding}", self.history.thread),
            _ => format!("{dir}/{id}{padding}"),
        }
    }

    fn paths(&self, wanted: impl Fn(&Node) -> bool) -> Vec<String> {
        self.history.now.paths.iter().filter(|(_, node)| wanted(node)).map(|(path, _)| path.clone()).collect()
    }

    fn a_file(&mut self) -> Option<(String, FileId)> {
        let files = self.paths(|node| matches!(node, Node::File(_)));
        let path = self.rng.pick(&files)?.clone();
        let Node::File(file) = self.history.now.paths[&path] else { return None };
        Some((path, file))
    }

    fn size(&self, file: FileId) -> u64 {
        self.history.files[&file].current.len() as u64
    }

    /// A length as files have them: mostly small, often at a boundary of blocks.
    fn a_length(&mut self) -> u64 {
        match self.rng.below(10) {
            0..=3 => self.rng.within(1..3000),
            4..=5 => 4096 * self.rng.within(1..9),
            6..=7 => self.rng.within(1..40_000),
            8 => 512 * self.rng.within(1..9) - self.rng.below(2),
            _ => self.rng.within(40_000..150_000),
        }
    }

    /// Takes an open file out of the pool, or opens it.
    fn open(&mut self, path: &str, file: FileId) -> io::Result<File> {
        if let Some(at) = self.open.iter().position(|(id, _)| *id == file) {
            return Ok(self.open.swap_remove(at).1);
        }
        self.saying("open", path);
        OpenOptions::new().read(true).write(true).open(self.full(path))
    }

    /// Keeps a file open for later, half the time.
    fn keep(&mut self, file: FileId, handle: File) {
        if self.rng.chance(50) {
            if self.open.len() >= OPEN_MAX {
                let at = self.rng.below(OPEN_MAX as u64) as usize;
                self.open.swap_remove(at);
            }
            self.open.push((file, handle));
        }
    }

    fn write_data(&mut self, handle: &File, file: FileId, at: u64, len: u64) -> io::Result<()> {
        let id = self.history.new_id();
        self.at = format!("write of {len} bytes at {at} to file {file}");
        self.history.begin_change(file, Change::Write { id, at, len });
        let bytes = data::bytes(id, at, len as usize);
        let count = handle.write_at(&bytes, at)?;
        if count != bytes.len() {
            return Err(io::Error::other(format!("only {count} of {len} bytes were written")));
        }
        self.history.done();
        Ok(())
    }

    fn create(&mut self) -> io::Result<()> {
        let path = self.new_path();
        let handle = self.create_at(&path)?;
        let Node::File(file) = self.history.now.paths[&path] else { unreachable!("just created") };
        if self.rng.chance(80) {
            let len = self.a_length();
            self.write_data(&handle, file, 0, len)?;
        }
        self.keep(file, handle);
        Ok(())
    }

    fn create_at(&mut self, path: &str) -> io::Result<File> {
        let file = self.history.new_id();
        let mode = *self.rng.pick(&[0o600, 0o640, 0o644]).unwrap();
        let full = self.full(path);
        let mut handle = None;
        self.change_names(Event::Create { path: path.to_owned(), file, mode }, |_| {
            let options = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&full)?;
            handle = Some(options);
            Ok(())
        })?;
        Ok(handle.unwrap())
    }

    fn append(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let size = self.size(file);
        if size > SIZE_MAX {
            return self.truncate_to(&path, file, 0);
        }
        let handle = self.open(&path, file)?;
        // A gap now and then, so that holes are made by writing, too.
        let gap = if self.rng.chance(10) { self.a_length() } else { 0 };
        let len = self.a_length();
        self.write_data(&handle, file, size + gap, len)?;
        self.keep(file, handle);
        Ok(())
    }

    fn overwrite(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let size = self.size(file);
        if size == 0 {
            return self.append();
        }
        let handle = self.open(&path, file)?;
        let at = self.rng.below(size);
        let len = self.a_length().min(size - at);
        self.write_data(&handle, file, at, len)?;
        self.keep(file, handle);
        Ok(())
    }

    fn truncate(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let size = self.size(file);
        let to = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(size + 1),
            _ => (size + self.a_length()).min(SIZE_MAX),
        };
        self.truncate_to(&path, file, to)
    }

    fn truncate_to(&mut self, path: &str, file: FileId, to: u64) -> io::Result<()> {
        let handle = self.open(path, file)?;
        self.at = format!("truncate of {path} to {to}");
        self.history.begin_change(file, Change::Truncate { to });
        handle.set_len(to)?;
        self.history.done();
        self.keep(file, handle);
        Ok(())
    }

    fn unlink(&mut self) -> io::Result<()> {
        let candidates = self.paths(|node| !matches!(node, Node::Dir(_)));
        let Some(path) = self.rng.pick(&candidates).cloned() else { return self.create() };
        if let Node::File(file) = self.history.now.paths[&path] {
            let last = self.history.now.links(file) == 1;
            let handle = self.open(&path, file)?;
            if last && self.rng.chance(30) {
                // Stays open without a name: an orphan for the crash to find.
                self.orphans.push(handle);
                if self.orphans.len() > 3 {
                    self.orphans.remove(0);
                }
            } else if !last {
                self.keep(file, handle);
            }
        }
        let full = self.full(&path);
        self.change_names(Event::Unlink { path }, |_| std::fs::remove_file(full))
    }

    fn rename(&mut self) -> io::Result<()> {
        let all: Vec<String> = self.history.now.paths.keys().cloned().collect();
        let Some(from) = self.rng.pick(&all).cloned() else { return self.create() };
        let is_dir = matches!(self.history.now.paths[&from], Node::Dir(_));
        let files = self.paths(|node| !matches!(node, Node::Dir(_)));
        // Directories keep to free names below the thread's own directory, files may also replace others.
        let to = if is_dir {
            format!("{}/d{}", self.history.own(), self.history.new_id() & 0xFFFF_FFFF)
        } else if self.rng.chance(40) {
            self.rng.pick(&files).cloned().unwrap_or_default()
        } else {
            self.new_path()
        };
        let paths = &self.history.now.paths;
        if to.is_empty() || paths.get(&to) == paths.get(&from) {
            return self.create();
        }
        let (old, new) = (self.full(&from), self.full(&to));
        self.change_names(Event::Rename { from, to }, |_| std::fs::rename(old, new))
    }

    fn exchange(&mut self) -> io::Result<()> {
        let files = self.paths(|node| !matches!(node, Node::Dir(_)));
        let (a, b) = (self.rng.pick(&files).cloned(), self.rng.pick(&files).cloned());
        let (Some(a), Some(b)) = (a, b) else { return self.create() };
        if a == b || self.history.now.paths[&a] == self.history.now.paths[&b] {
            return self.create();
        }
        let (one, two) = (self.full(&a), self.full(&b));
        self.change_names(Event::Exchange { a, b }, |_| {
            Ok(rustix::fs::renameat_with(CWD, one, CWD, two, RenameFlags::EXCHANGE)?)
        })
    }

    fn link(&mut self) -> io::Result<()> {
        let Some((from, _)) = self.a_file() else { return self.create() };
        let to = self.new_path();
        let (old, new) = (self.full(&from), self.full(&to));
        self.change_names(Event::Link { from, to }, |_| std::fs::hard_link(old, new))
    }

    fn symlink(&mut self) -> io::Result<()> {
        let path = self.new_path();
        let target = format!("somewhere/{}", "y".repeat(self.rng.below(300) as usize));
        let (text, full) = (target.clone(), self.full(&path));
        self.change_names(Event::Symlink { path, target }, |_| std::os::unix::fs::symlink(text, full))
    }

    fn mkdir(&mut self) -> io::Result<()> {
        let path = format!("{}/d{}", self.history.own(), self.history.new_id() & 0xFFFF_FFFF);
        let dir = self.history.new_id();
        let full = self.full(&path);
        self.change_names(Event::Mkdir { path, dir }, |_| std::fs::create_dir(full))
    }

    fn rmdir(&mut self) -> io::Result<()> {
        let dirs = self.paths(|node| matches!(node, Node::Dir(_)));
        let empty: Vec<String> = dirs.into_iter().filter(|dir| !self.history.now.has_entries(dir)).collect();
        let Some(path) = self.rng.pick(&empty).cloned() else { return self.unlink() };
        let full = self.full(&path);
        self.change_names(Event::Rmdir { path }, |_| std::fs::remove_dir(full))
    }

    fn chmod(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let mode = *self.rng.pick(&[0o600, 0o755, 0o444, 0o1644]).unwrap();
        let full = self.full(&path);
        self.change_names(Event::Chmod { file, mode }, |_| {
            std::fs::set_permissions(full, std::fs::Permissions::from_mode(mode))
        })
    }

    /// What editors do: write a new file, sync it, rename it over the old one, sync the directory.
    fn replace(&mut self) -> io::Result<()> {
        let Some((old, _)) = self.a_file() else { return self.create() };
        let new = self.new_path();
        let handle = self.create_at(&new)?;
        let Node::File(file) = self.history.now.paths[&new] else { unreachable!("just created") };
        let len = self.a_length();
        self.write_data(&handle, file, 0, len)?;
        self.sync_file(&handle, file)?;
        let (from, to) = (self.full(&new), self.full(&old));
        let dir = super::names::parent(&old).to_owned();
        self.change_names(Event::Rename { from: new, to: old }, |_| std::fs::rename(from, to))?;
        self.sync_dir(&dir)
    }

    /// A write with O_SYNC to a file of which everything else is promised already: then all of it is promised.
    fn write_synchronously(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        if !self.history.files[&file].changes.is_empty() {
            let handle = self.open(&path, file)?;
            self.sync_file(&handle, file)?;
        }
        let size = self.size(file);
        let at = if size > SIZE_MAX || self.rng.chance(50) { self.rng.below(size.max(1)) } else { size };
        let len = self.a_length();
        self.saying("open with O_SYNC", &path);
        let sync = rustix::fs::OFlags::SYNC.bits() as i32;
        let handle = OpenOptions::new().write(true).custom_flags(sync).open(self.full(&path))?;
        self.write_data(&handle, file, at, len)?;
        self.history.content_acknowledged(file);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_file(&mut self, handle: &File, file: FileId) -> io::Result<()> {
        self.at = format!("fsync of file {file}");
        handle.sync_all()?;
        self.history.inode_acknowledged(Key::File(file));
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fsync(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let handle = self.open(&path, file)?;
        self.sync_file(&handle, file)?;
        self.keep(file, handle);
        Ok(())
    }

    fn fdatasync(&mut self) -> io::Result<()> {
        let Some((path, file)) = self.a_file() else { return self.create() };
        let handle = self.open(&path, file)?;
        self.saying("fdatasync", &path);
        handle.sync_data()?;
        // Content and size, but nothing about names.
        self.history.content_acknowledged(file);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        self.keep(file, handle);
        Ok(())
    }

    fn fsync_dir(&mut self) -> io::Result<()> {
        let dir = self.a_dir();
        self.sync_dir(&dir)
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        self.saying("fsync of directory", dir);
        File::open(self.full(dir))?.sync_all()?;
        let key = self.history.dir_key(dir);
        self.history.inode_acknowledged(key);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
