//! One worker: random operations in its directory, each told to the history before it is begun.

use std::sync::Arc;

use fs_core::addr::InodeNo;
use fs_core::attr::{Allocation, Caller, Capabilities, InodeFlags, RenameMode, SetAttr, SetXattr, WriteFlags};
use fs_core::error::FsError;
use fs_core::fs::Fs;
use fs_core::ops::copy::Spot;
use parking_lot::Mutex;

use super::Random;
use super::model::{Attributes, History, Id, Object};

const ROOT: Caller = Caller { uid: 0, gid: 0, umask: 0 };
/// Users and groups that own files.
const OWNERS: u64 = 5;

/// The histories of all workers.
pub(crate) type World = Arc<Mutex<Vec<History>>>;

pub(crate) struct Worker {
    pub(crate) fs: Arc<Fs>,
    pub(crate) world: World,
    pub(crate) number: usize,
    pub(crate) random: Random,
    /// Largest file, in bytes.
    pub(crate) file_bytes: u64,
    pub(crate) block_bytes: u64,
    /// The volume is nearly full: operations may fail, but then have done nothing.
    pub(crate) full: bool,
}

type Done = Result<(), FsError>;

impl Worker {
    fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.world.lock()[self.number])
    }

    pub(crate) async fn run(mut self, operations: u64) {
        for _ in 0..operations {
            match self.step().await {
                Ok(()) => {}
                Err(FsError::NoSpace) if self.full => self.with(History::undo),
                // The power is gone.
                Err(FsError::Withdrawn | FsError::Device(_) | FsError::DiscardFailed(_)) => return,
                Err(error) => panic!("{error:?}"),
            }
            if self.random.below(4) == 0 {
                for _ in 0..self.random.below(30) {
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    fn ino(&self, id: Id) -> InodeNo {
        self.with(|history| history.objects[id].ino.unwrap())
    }

    /// A random name that exists, of a directory or not.
    fn existing(&mut self, directory: bool) -> Option<((Id, String), Id)> {
        let all: Vec<_> = self.with(|history| {
            let fits = |id: &Id| history.objects[*id].directory == directory;
            history.names().iter().filter(|(_, id)| fits(id)).map(|(name, id)| (name.clone(), *id)).collect()
        });
        (!all.is_empty()).then(|| self.random.pick(&all).clone())
    }

    fn directory(&mut self) -> Id {
        if self.random.below(3) == 0 { self.existing(true).map_or(0, |(_, id)| id) } else { 0 }
    }

    fn new_name(&mut self) -> Option<(Id, String)> {
        let dir = self.directory();
        let number = self.random.below(400);
        let name = if number.is_multiple_of(7) { format!("a long name, {number:0>180}") } else { format!("n{number}") };
        let free = self.with(|history| !history.names().contains_key(&(dir, name.clone())));
        free.then_some((dir, name))
    }

    async fn step(&mut self) -> Done {
        match self.random.below(100) {
            0..18 => self.create(false).await,
            18..22 => self.create(true).await,
            22..40 => self.write().await,
            40..43 => self.copy().await,
            43..50 => self.attribute().await,
            50..55 => self.truncate().await,
            55..60 => self.allocate().await,
            60..68 => self.rename().await,
            68..72 => self.link().await,
            72..82 => self.unlink().await,
            82..85 => self.rmdir().await,
            85..97 => self.fsync().await,
            97 => self.sync().await,
            98 if self.random.below(3) == 0 => self.trim().await,
            98 => self.change_way().await,
            _ => self.read().await,
        }
    }

    fn owner(&mut self) -> u32 {
        self.random.below(OWNERS) as u32 * 1000
    }

    async fn create(&mut self, directory: bool) -> Done {
        let Some((dir, name)) = self.new_name() else { return Ok(()) };
        let id = self.with(|history| {
            let id = history.objects.len();
            let mut names = history.names().clone();
            names.insert((dir, name.clone()), id);
            let versions = vec![(history.done + 1, vec![])];
            history.objects.push(Object { ino: None, directory, versions, attributes: vec![], touched: 0, synced: 0 });
            history.start(names, &[dir, id]);
            id
        });
        let parent = self.ino(dir);
        let maker = Caller { uid: self.owner(), gid: self.owner(), umask: 0 };
        let attr = if directory {
            self.fs.mkdir(parent, name.as_bytes(), 0o755, maker).await?
        } else {
            self.fs.mknod(parent, name.as_bytes(), 0o100_644, (0, 0), maker).await?
        };
        self.with(|history| {
            history.objects[id].ino = Some(attr.ino);
            history.finish();
        });
        Ok(())
    }

    async fn write(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let size = self.with(|history| history.content(id).len() as u64);
        let offset = match self.random.below(4) {
            0 => size,
            1 => self.random.below(size + 1),
            2 => self.random.below(self.file_bytes),
            _ => self.random.below(size + 1) / self.block_bytes * self.block_bytes,
        };
        let limit = *self.random.pick(&[20, self.block_bytes, self.block_bytes * 3, 40 * self.block_bytes]);
        let mut len = 1 + self.random.below(limit);
        if self.random.below(4) == 0 {
            len = len.next_multiple_of(self.block_bytes);
        }
        if self.full {
            // One block, so that it is written or not.
            len = 1 + len % (self.block_bytes - offset % self.block_bytes);
        }
        if offset + len > self.file_bytes {
            return Ok(());
        }
        let fill = self.random.below(250) as u8 + 1;
        let data: Vec<u8> = (0..len).map(|at| fill.wrapping_add((at / 97) as u8).max(1)).collect();
        self.with(|history| {
            let names = history.names().clone();
            let mut content = history.content(id).to_vec();
            content.resize(content.len().max((offset + len) as usize), 0);
            content[offset as usize..][..data.len()].copy_from_slice(&data);
            let operation = history.start(names, &[id]);
            history.set_content(id, operation, content);
        });
        let flags = WriteFlags { sync: self.random.below(12) == 0, ..WriteFlags::default() };
        let done = self.fs.write(self.ino(id), offset, data, flags, ROOT).await?;
        assert_eq!(u64::from(done), len);
        self.with(|history| {
            history.finish();
            if flags.sync {
                history.fsynced(id, history.done, history.done);
            }
        });
        Ok(())
    }

    async fn allocate(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let offset = self.random.below(self.file_bytes);
        let limit = *self.random.pick(&[20, self.block_bytes * 3, 40 * self.block_bytes]);
        let mut len = 1 + self.random.below(limit);
        if self.full {
            // One block, so that it is done or not.
            len = 1 + len % (self.block_bytes - offset % self.block_bytes);
        }
        let keep_size = self.random.below(2) == 0;
        let how = *self.random.pick(&[
            Allocation::Allocate { keep_size },
            Allocation::Zero { keep_size },
            Allocation::Punch,
            Allocation::Punch,
        ]);
        let (start, end) = (offset as usize, (offset + len) as usize);
        self.with(|history| {
            let names = history.names().clone();
            let mut content = history.content(id).to_vec();
            if !keep_size && how != Allocation::Punch {
                content.resize(content.len().max(end), 0);
            }
            let stop = end.min(content.len());
            if start < stop && !matches!(how, Allocation::Allocate { .. }) {
                content[start..stop].fill(0);
            }
            let operation = history.start(names, &[id]);
            history.set_content(id, operation, content);
        });
        self.fs.fallocate(self.ino(id), offset, len, how, ROOT, &|| true).await?;
        self.with(History::finish);
        Ok(())
    }

    /// Content goes through the log from now on, or past it.
    async fn change_way(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let wanted = if self.random.below(3) > 0 { InodeFlags::JOURNALED } else { InodeFlags::default() };
        self.fs.set_flags(self.ino(id), wanted, InodeFlags::JOURNALED, ROOT, Capabilities::ALL).await
    }

    async fn trim(&mut self) -> Done {
        let (start, len) = (self.random.below(40 << 20), self.random.below(40 << 20));
        let min = *self.random.pick(&[0, 4096, 1 << 20]);
        self.fs.trim(start, len, min, Capabilities::ALL, &|| true).await?;
        Ok(())
    }

    /// Within the target: a copy that makes it larger does so step by step.
    async fn copy(&mut self) -> Done {
        let (Some((_, source)), Some((_, target))) = (self.existing(false), self.existing(false)) else {
            return Ok(());
        };
        let sizes = self.with(|history| [source, target].map(|id| history.content(id).len() as u64));
        if self.full || source == target || sizes.contains(&0) {
            return Ok(());
        }
        let (from, to) = (self.random.below(sizes[0]), self.random.below(sizes[1]));
        let len = (1 + self.random.below(self.file_bytes)).min(sizes[0] - from).min(sizes[1] - to);
        self.with(|history| {
            let names = history.names().clone();
            let mut content = history.content(target).to_vec();
            let copied = &history.content(source)[from as usize..(from + len) as usize];
            content[to as usize..(to + len) as usize].copy_from_slice(copied);
            let operation = history.start(names, &[target]);
            history.set_content(target, operation, content);
        });
        let spots = [(source, from), (target, to)].map(|(id, offset)| Spot { ino: self.ino(id), offset });
        assert_eq!(self.fs.copy_range(spots[0], spots[1], len, ROOT, &|| true).await?, len);
        self.with(History::finish);
        Ok(())
    }

    async fn attribute(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let name = format!("user.{}{}", self.random.below(8), "n".repeat(90));
        let len = *self.random.pick(&[0, 30, self.block_bytes / 3, self.block_bytes * 3 / 2, 9 * self.block_bytes]);
        let value = vec![self.random.below(256) as u8; len as usize];
        let (attributes, remove) = self.with(|history| {
            let mut attributes = history.attributes_at(id, history.done);
            let remove = len == 0 && attributes.remove(&name).is_some();
            if !remove {
                attributes.insert(name.clone(), value.clone());
            }
            (attributes, remove)
        });
        self.with(|history| {
            let operation = history.start(history.names().clone(), &[id]);
            history.set_attributes(id, operation, attributes);
        });
        if remove {
            self.fs.removexattr(self.ino(id), name.as_bytes()).await?;
        } else {
            self.fs.setxattr(self.ino(id), name.as_bytes(), &value, &SetXattr::default(), ROOT).await?;
        }
        self.with(History::finish);
        Ok(())
    }

    async fn truncate(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let size = self.with(|history| history.content(id).len() as u64);
        let new = match self.random.below(4) {
            0 => 0,
            1 => (size + self.random.below(5 * self.block_bytes)).min(self.file_bytes),
            _ => self.random.below(size + 1),
        };
        self.with(|history| {
            let names = history.names().clone();
            let mut content = history.content(id).to_vec();
            content.resize(new as usize, 0);
            let operation = history.start(names, &[id]);
            history.set_content(id, operation, content);
        });
        // Sometimes it gets another owner in the same moment.
        let gives_away = self.random.below(3) == 0;
        let (uid, gid) = if gives_away { (Some(self.owner()), Some(self.owner())) } else { (None, None) };
        let change = SetAttr { size_bytes: Some(new), uid, gid, ..SetAttr::default() };
        self.fs.setattr(self.ino(id), &change, ROOT).await?;
        self.with(History::finish);
        Ok(())
    }

    async fn rename(&mut self) -> Done {
        let directory = self.random.below(4) == 0;
        let Some((from, id)) = self.existing(directory) else { return Ok(()) };
        let replaced = if !directory && self.random.below(3) == 0 { self.existing(false) } else { None };
        let (to, target) = match replaced {
            Some((to, target)) => (to, Some(target)),
            None => match self.new_name() {
                Some(to) => (to, None),
                None => return Ok(()),
            },
        };
        if target == Some(id) || to.0 == id {
            return Ok(());
        }
        self.with(|history| {
            let mut names = history.names().clone();
            names.remove(&from);
            names.insert(to.clone(), id);
            let mut touched = vec![from.0, to.0, id];
            touched.extend(target);
            history.start(names, &touched);
        });
        let (old, new) = (self.ino(from.0), self.ino(to.0));
        let result = self.fs.rename(old, from.1.as_bytes(), new, to.1.as_bytes(), RenameMode::Replace, ROOT).await;
        if matches!(result, Err(FsError::Invalid(_))) {
            // A directory into itself.
            self.with(History::undo);
            return Ok(());
        }
        result?;
        self.with(History::finish);
        if let Some(target) = target {
            self.forget_unnamed(target);
        }
        Ok(())
    }

    async fn link(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let Some((dir, name)) = self.new_name() else { return Ok(()) };
        self.with(|history| {
            let mut names = history.names().clone();
            names.insert((dir, name.clone()), id);
            history.start(names, &[dir, id]);
        });
        let ino = self.ino(id);
        self.fs.link(ino, self.ino(dir), name.as_bytes(), ROOT).await?;
        self.fs.forget(ino, 1);
        self.with(History::finish);
        Ok(())
    }

    async fn unlink(&mut self) -> Done {
        let Some((at, id)) = self.existing(false) else { return Ok(()) };
        self.with(|history| {
            let mut names = history.names().clone();
            names.remove(&at);
            history.start(names, &[at.0, id]);
        });
        self.fs.unlink(self.ino(at.0), at.1.as_bytes()).await?;
        self.with(History::finish);
        self.forget_unnamed(id);
        Ok(())
    }

    /// Mostly, files without names are not open either.
    fn forget_unnamed(&mut self, id: Id) {
        let unnamed = self.with(|history| history.names().values().all(|other| *other != id));
        if unnamed && self.random.below(4) > 0 {
            self.fs.forget(self.ino(id), 1);
        }
    }

    async fn rmdir(&mut self) -> Done {
        let Some((at, id)) = self.existing(true) else { return Ok(()) };
        if self.with(|history| history.names().keys().any(|(dir, _)| *dir == id)) {
            return Ok(());
        }
        self.with(|history| {
            let mut names = history.names().clone();
            names.remove(&at);
            history.start(names, &[at.0, id]);
        });
        self.fs.rmdir(self.ino(at.0), at.1.as_bytes()).await?;
        self.with(History::finish);
        self.fs.forget(self.ino(id), 1);
        Ok(())
    }

    async fn fsync(&mut self) -> Done {
        let directory = self.random.below(5) == 0;
        let Some((_, id)) = self.existing(directory) else { return Ok(()) };
        let (touched, upto) = self.with(|history| (history.objects[id].touched, history.done));
        self.fs.fsync(self.ino(id)).await?;
        self.with(|history| history.fsynced(id, touched, upto));
        Ok(())
    }

    async fn sync(&mut self) -> Done {
        let upto: Vec<usize> = self.world.lock().iter().map(|history| history.done).collect();
        if self.random.below(2) == 0 {
            self.fs.sync_quotas().await?;
        }
        self.fs.sync().await?;
        for (history, upto) in self.world.lock().iter_mut().zip(upto) {
            history.synced(upto);
        }
        Ok(())
    }

    async fn read(&mut self) -> Done {
        let Some((_, id)) = self.existing(false) else { return Ok(()) };
        let found = read_all(&self.fs, self.ino(id)).await?;
        self.with(|history| assert!(found == history.content(id), "content of object {id}"));
        Ok(())
    }
}

pub(crate) async fn read_all(fs: &Fs, ino: InodeNo) -> Result<Vec<u8>, FsError> {
    let mut content = Vec::new();
    loop {
        let piece = fs.read(ino, content.len() as u64, 1 << 20).await?;
        if piece.is_empty() {
            return Ok(content);
        }
        content.extend_from_slice(&piece);
    }
}

pub(crate) async fn attributes(fs: &Fs, ino: InodeNo) -> Result<Attributes, FsError> {
    let mut found = Attributes::new();
    for name in fs.listxattr(ino, ROOT).await?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        found.insert(String::from_utf8(name.to_vec()).unwrap(), fs.getxattr(ino, name).await?);
    }
    Ok(found)
}
