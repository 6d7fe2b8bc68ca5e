//! Names: making, moving and taking them away, and the end of inodes without any.

use std::sync::Arc;

use super::{Id, Inode, ROOT, Surface, Tree};
use crate::access::{self, SEARCH, WRITE};
use crate::errno::{EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, Errno};
use crate::op::{Answer, Kind, Outcome, Path, Rename, User};

impl Tree {
    pub(super) fn create(&mut self, user: &User, path: &Path, kind: Kind, mode: u32, rdev: (u32, u32)) -> Outcome {
        let place = self.place(user, path)?;
        if self.step_down(user, place.dir, place.name)?.is_some() {
            return Err(EEXIST);
        }
        self.check(user, place.dir, WRITE | SEARCH)?;
        let device = matches!(kind, Kind::Char | Kind::Block);
        if device && self.kernel() && !user.is_root() {
            return Err(EPERM);
        }
        let dir = self.inode(place.dir);
        let group = if dir.mode & 0o2000 != 0 { dir.gid } else { user.gid };
        let mut inode = Inode::new(kind, mode, user.uid, group);
        match dir.default.filter(|_| kind != Kind::Symlink) {
            Some(default) => {
                let list = default.inherited(mode);
                inode.mode = (mode & !0o777) | list.mode();
                inode.access = Some(list);
                inode.default = (kind == Kind::Directory).then_some(default);
            }
            None if kind != Kind::Symlink => inode.mode = mode & !user.umask,
            None => {}
        }
        if kind == Kind::Directory && dir.mode & 0o2000 != 0 {
            inode.mode |= 0o2000;
        }
        inode.rdev = if device { rdev } else { (0, 0) };
        inode.parent = place.dir;
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Arc::new(inode));
        self.add_name(place.dir, place.name, id);
        if kind == Kind::Directory {
            self.edit(place.dir).nlink += 1;
        }
        Ok(Answer::Done)
    }

    fn add_name(&mut self, dir: Id, name: &str, id: Id) {
        let dir = self.edit(dir);
        dir.entries.insert(name.to_owned(), id);
        dir.mtime = None;
    }

    fn drop_name(&mut self, dir: Id, name: &str) {
        let dir = self.edit(dir);
        dir.entries.remove(name);
        dir.mtime = None;
    }

    /// A name of `id` is gone; it goes itself with its last name, unless it is open.
    fn unlinked(&mut self, id: Id) {
        let inode = self.edit(id);
        inode.nlink = if inode.kind == Kind::Directory { 0 } else { inode.nlink - 1 };
        self.reap(id);
    }

    fn reap(&mut self, id: Id) {
        if self.inode(id).nlink == 0 && !self.slots.contains(&Some(id)) {
            self.inodes.remove(&id);
        }
    }

    pub(super) fn close(&mut self, slot: usize) -> bool {
        let Some(id) = self.slots[slot].take() else { return false };
        self.reap(id);
        true
    }

    pub(super) fn link(&mut self, user: &User, from: &Path, to: &Path) -> Outcome {
        let (old, place) = (self.place(user, from)?, self.place(user, to)?);
        let id = self.step_down(user, old.dir, old.name)?.ok_or(ENOENT)?;
        if self.step_down(user, place.dir, place.name)?.is_some() {
            return Err(EEXIST);
        }
        if let Surface::Kernel { protected_hardlinks: true } = self.surface {
            access::check_link(user, self.inode(id))?;
        }
        self.check(user, place.dir, WRITE | SEARCH)?;
        if self.inode(id).kind == Kind::Directory {
            return Err(EPERM);
        }
        self.edit(id).nlink += 1;
        self.add_name(place.dir, place.name, id);
        Ok(Answer::Done)
    }

    pub(super) fn remove(&mut self, user: &User, path: &Path, directory: bool) -> Outcome {
        let place = self.place(user, path)?;
        let id = self.step_down(user, place.dir, place.name)?.ok_or(ENOENT)?;
        self.check_removal(user, place.dir, id)?;
        self.check_kinds(directory, id)?;
        if directory && !self.inode(id).entries.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.drop_name(place.dir, place.name);
        if directory {
            self.edit(place.dir).nlink -= 1;
        }
        self.unlinked(id);
        Ok(Answer::Done)
    }

    fn check_kinds(&self, directory: bool, id: Id) -> Result<(), Errno> {
        match (directory, self.inode(id).kind == Kind::Directory) {
            (true, false) => Err(ENOTDIR),
            (false, true) => Err(EISDIR),
            _ => Ok(()),
        }
    }

    /// `id` is `below`, or one of the directories that it is in.
    fn is_above(&self, id: Id, below: Id) -> bool {
        let mut at = below;
        loop {
            if at == id {
                return true;
            }
            if at == ROOT {
                return false;
            }
            at = self.inode(at).parent;
        }
    }

    pub(super) fn rename(&mut self, user: &User, from: &Path, to: &Path, mode: Rename) -> Outcome {
        let (old, new) = (self.place(user, from)?, self.place(user, to)?);
        self.check(user, old.dir, SEARCH)?;
        self.check(user, new.dir, SEARCH)?;
        let source = self.step_down(user, old.dir, old.name)?.ok_or(ENOENT)?;
        let target = self.step_down(user, new.dir, new.name)?;
        match (mode, target) {
            (Rename::NoReplace, Some(_)) => return Err(EEXIST),
            (Rename::Exchange, None) => return Err(ENOENT),
            _ => {}
        }
        let crosses = old.dir != new.dir;
        if crosses && self.is_above(source, new.dir) {
            return Err(EINVAL);
        }
        if let Some(target) = target.filter(|target| crosses && self.is_above(*target, old.dir)) {
            debug_assert!(target != source);
            return Err(if mode == Rename::Exchange { EINVAL } else { ENOTEMPTY });
        }
        if target == Some(source) {
            return Ok(Answer::Done);
        }
        let is_dir = |id: Id| self.inode(id).kind == Kind::Directory;
        let source_is_dir = is_dir(source);
        self.check_removal(user, old.dir, source)?;
        match target {
            None => self.check(user, new.dir, WRITE | SEARCH)?,
            Some(target) => {
                self.check_removal(user, new.dir, target)?;
                if mode != Rename::Exchange {
                    self.check_kinds(source_is_dir, target)?;
                }
            }
        }
        if crosses {
            // `..` changes.
            if source_is_dir {
                self.check(user, source, WRITE)?;
            }
            if let Some(target) = target.filter(|target| mode == Rename::Exchange && is_dir(*target)) {
                self.check(user, target, WRITE)?;
            }
        }
        match target {
            Some(target) if mode == Rename::Exchange => {
                let target_is_dir = is_dir(target);
                self.add_name(old.dir, old.name, target);
                self.add_name(new.dir, new.name, source);
                self.moved(source, source_is_dir, old.dir, new.dir);
                self.moved(target, target_is_dir, new.dir, old.dir);
                return Ok(Answer::Done);
            }
            Some(target) => {
                if source_is_dir && !self.inode(target).entries.is_empty() {
                    return Err(ENOTEMPTY);
                }
                if source_is_dir {
                    self.edit(new.dir).nlink -= 1;
                }
                self.unlinked(target);
            }
            None => {}
        }
        self.drop_name(old.dir, old.name);
        self.add_name(new.dir, new.name, source);
        self.moved(source, source_is_dir, old.dir, new.dir);
        Ok(Answer::Done)
    }

    fn moved(&mut self, id: Id, is_dir: bool, from: Id, to: Id) {
        if is_dir {
            self.edit(from).nlink -= 1;
            self.edit(to).nlink += 1;
            if from != to {
                self.edit(id).parent = to;
            }
        }
    }
}
