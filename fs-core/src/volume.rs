//! What all operations of a mounted volume share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::addr::InodeNo;
use crate::alloc::rgrps::Rgrps;
use crate::alloc::trim::Quiet;
use crate::attr::{Attr, Timestamp};
use crate::blocks::Blocks;
use crate::cache::Cache;
use crate::dir::CookieKey;
use crate::disk::Disk;
use crate::env::Env;
use crate::error::{CorruptKind, FsError};
use crate::format::block_size::BlockSize;
use crate::format::dinode::{Dinode, flags};
use crate::format::log::StatfsDelta;
use crate::format::meta::BlockKind;
use crate::format::superblock::Superblock;
use crate::fs::MountOptions;
use crate::gate::Gate;
use crate::glock::service::{Mode, Name};
use crate::glock::{GlockGuard, Glocks};
use crate::inode::refs::Refs;
use crate::journal::log::Journal;
use crate::quota::Quotas;
use parking_lot::Mutex;

/// A mounted volume.
pub struct Volume {
    /// The device in blocks.
    pub disk: Arc<Disk>,
    /// Blocks in memory.
    pub cache: Arc<Cache>,
    /// Locks.
    pub glocks: Arc<Glocks>,
    /// Allocation.
    pub rgrps: Arc<Rgrps>,
    /// The node's log.
    pub journal: Journal,
    /// Time.
    pub env: Arc<dyn Env>,
    /// The superblock.
    pub superblock: Superblock,
    /// How it was mounted.
    pub options: MountOptions,
    /// Nothing is written any more, or not now: see [`Volume::is_read_only`].
    pub read_only: AtomicBool,
    /// What every change passes.
    pub gate: Gate,
    /// Inodes that somebody outside holds on to.
    pub refs: Refs,
    /// Makes directory cookies.
    pub cookies: CookieKey,
    /// The statfs file: its inode, and its content as of the last fold. What this node has changed since is the
    /// journal's.
    pub statfs_file: InodeNo,
    /// See `statfs_file`.
    pub statfs_master: Mutex<StatfsDelta>,
    /// What users and groups have, and may have.
    pub quotas: Quotas,
    /// The label. The superblock above has the one with which the volume was mounted.
    pub label: Mutex<String>,
    /// Held by whoever changes the label.
    pub labelling: tokio::sync::Mutex<()>,
    /// Between whoever has free blocks out of reach to discard them, and whoever finds no space and looks again.
    pub trimming: Quiet,
    /// Held by whoever frees inodes without names.
    pub deleting: tokio::sync::Mutex<()>,
}

impl Volume {
    /// Block size.
    #[must_use]
    pub fn block_size(&self) -> BlockSize {
        self.disk.block_size()
    }

    /// The committed dinode of `ino`. Its lock is held.
    ///
    /// # Errors
    /// `Corrupt`; errors of reading.
    pub async fn dinode(&self, ino: InodeNo) -> Result<Dinode, FsError> {
        let block = self.cache.meta(ino.addr(), BlockKind::DINODE).await?;
        Dinode::parse(ino, &block, self.block_size())
    }

    /// Locks an inode that somebody holds on to, or that a locked directory names, and reads it.
    ///
    /// # Errors
    /// `Corrupt`; errors of reading.
    pub async fn lock_inode(&self, ino: InodeNo, mode: Mode) -> Result<(GlockGuard<'_>, Dinode), FsError> {
        let guard = self.glocks.lock(Name::inode(ino), mode).await?;
        let dinode = self.dinode(ino).await?;
        Ok((guard, dinode))
    }

    /// What was done to the inode just now is durable on return, if it is one of those for which that is asked
    /// (chattr +S): the content of a file, the names of a directory.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn settle(&self, dinode: &Dinode) -> Result<(), FsError> {
        if dinode.flags & flags::SYNC != 0 { self.journal.sync_inode(dinode.ino).await } else { Ok(()) }
    }

    /// # Errors
    /// `ReadOnly` on a read-only mount, `Withdrawn`.
    pub fn check_writable(&self) -> Result<(), FsError> {
        self.disk.health.check()?;
        if self.is_read_only() { Err(FsError::ReadOnly) } else { Ok(()) }
    }

    /// Whether it is mounted read-only now: that can change while it is mounted, if it was not so from the start.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// What `stat` says of an inode.
    #[must_use]
    pub fn attr(&self, dinode: &Dinode) -> Attr {
        let sectors_per_block = self.block_size().bytes_u64() / 512;
        Attr {
            ino: dinode.ino,
            generation: dinode.generation,
            kind: dinode.kind,
            permissions: dinode.permissions,
            nlink: dinode.nlink,
            uid: dinode.uid,
            gid: dinode.gid,
            rdev: dinode.rdev,
            size_bytes: dinode.size,
            sectors: dinode.blocks.saturating_mul(sectors_per_block),
            block_size_bytes: self.block_size().bytes_u32(),
            atime: dinode.atime,
            mtime: dinode.mtime,
            ctime: dinode.ctime,
        }
    }

    /// The volume's counters, as this node knows them.
    #[must_use]
    pub fn counts(&self) -> StatfsDelta {
        let (master, local) = (*self.statfs_master.lock(), self.journal.local());
        StatfsDelta {
            total: master.total.saturating_add(local.total),
            free: master.free.saturating_add(local.free),
            dinodes: master.dinodes.saturating_add(local.dinodes),
        }
    }

    /// Frees the inodes that nobody uses any more. Returns whether there was one, or somebody else was busy with it: on
    /// return, all that waited before the call is freed.
    ///
    /// # Errors
    /// Device errors, `Corrupt`, `Withdrawn`.
    pub async fn delete_orphans(&self) -> Result<bool, FsError> {
        let turn = self.deleting.try_lock();
        let mut found = turn.is_err();
        let _turn = match turn {
            Ok(turn) => turn,
            Err(_) => self.deleting.lock().await,
        };
        while let Some(ino) = self.refs.next_orphan() {
            crate::inode::delete::delete(self, ino).await?;
            found = true;
        }
        Ok(found)
    }

    /// Makes room where that is possible: frees inodes that nobody uses any more, and lets go of blocks whose freeing
    /// is not durable yet. Returns whether there was anything to do.
    ///
    /// # Errors
    /// Device errors, `Withdrawn`.
    pub async fn reclaim(&self) -> Result<bool, FsError> {
        let mut found = self.delete_orphans().await?;
        if self.journal.has_pending_frees() {
            self.journal.sync().await?;
            found = true;
        }
        // Also if somebody else is about it.
        self.journal.discard_freed().await?;
        Ok(found)
    }
}

/// # Errors
/// `TooManyLinks`.
pub fn one_more_link(dinode: &mut Dinode) -> Result<(), FsError> {
    dinode.nlink = dinode.nlink.checked_add(1).ok_or(FsError::TooManyLinks)?;
    Ok(())
}

/// # Errors
/// `DinodeLinks` when there is none to take away.
pub fn one_link_less(dinode: &mut Dinode) -> Result<(), FsError> {
    let nlink = dinode.nlink;
    dinode.nlink = nlink.checked_sub(1).ok_or(CorruptKind::DinodeLinks { nlink }.at(dinode.ino.addr()))?;
    Ok(())
}

/// The inode and its content changed at `now`.
pub const fn touch(dinode: &mut Dinode, now: Timestamp) {
    dinode.mtime = now;
    dinode.ctime = now;
}
