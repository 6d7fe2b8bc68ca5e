//! Quotas of a mounted volume, asked for from outside: ioctls that its daemon answers. FUSE passes quotactl(2) on to nobody.
//!
//! An ioctl reaches the daemon through any file or directory of the mount, and carries with it who asks. Numbers are the
//! machine's own: both sides are the same program.

// An ioctl cannot be said in safe Rust.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Updater, opcode};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What is asked, and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// One of [`kind`].
    pub kind: u32,
    /// Number of the user or group.
    pub id: u32,
    /// Hard limit, in blocks; zero: none.
    pub limit_blocks: u64,
    /// From here on the log warns, in blocks; zero: never.
    pub warn_blocks: u64,
    /// In use, in blocks.
    pub used_blocks: u64,
    /// Which of the three [`command::SET`] is to change: bits of [`set`].
    pub set: u32,
    /// Answers: one of [`mode`].
    pub mode: u32,
}

/// Whose a record is.
pub mod kind {
    /// A user's.
    pub const USER: u32 = 0;
    /// A group's.
    pub const GROUP: u32 = 1;
}

/// Bits of [`Record::set`](super::Record).
pub mod set {
    /// The limit.
    pub const LIMIT: u32 = 1;
    /// Where warnings begin.
    pub const WARN: u32 = 2;
    /// What is in use.
    pub const USED: u32 = 4;
}

/// What the mount does about quotas.
pub mod mode {
    /// Nothing.
    pub const OFF: u32 = 0;
    /// Counts.
    pub const ACCOUNT: u32 = 1;
    /// Counts, and keeps to limits.
    pub const ON: u32 = 2;
    /// The same, without lines in the log.
    pub const QUIET: u32 = 3;
}

/// The ioctls.
pub mod command {
    use super::{Opcode, Record, opcode};

    /// In a range of letter `L` that nothing in Linux uses (ioctl-number.rst).
    const LETTER: u8 = b'L';

    /// The record of one user or group. Everybody may ask for his own.
    pub const GET: Opcode = opcode::read_write::<Record>(LETTER, 0x71);
    /// The first one of the kind, from the number on, that is not empty; ENOENT behind the last one. For root.
    pub const NEXT: Opcode = opcode::read_write::<Record>(LETTER, 0x72);
    /// Changes what `set` names; answers with the record as it is then. For root.
    pub const SET: Opcode = opcode::read_write::<Record>(LETTER, 0x73);
    /// Brings the quota file up to date. For root.
    pub const SYNC: Opcode = opcode::none(LETTER, 0x74);
}

/// A mounted volume.
#[derive(Debug)]
pub struct Mounted(File);

impl Mounted {
    /// The volume that `path` is in, by a directory or file of it.
    ///
    /// # Errors
    /// Those of opening it.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Any of the first three commands.
    fn call<const COMMAND: Opcode>(&self, mut record: Record) -> io::Result<Record> {
        // SAFETY: these commands read and write one `Record`, as their numbers say, and all bytes of one are fine.
        unsafe { rustix::ioctl::ioctl(&self.0, Updater::<COMMAND, Record>::new(&mut record))? };
        Ok(record)
    }

    /// See [`command::GET`].
    ///
    /// # Errors
    /// Those of the ioctl; ENOTTY outside of our mounts.
    pub fn get(&self, kind: u32, id: u32) -> io::Result<Record> {
        self.call::<{ command::GET }>(Record { kind, id, ..Record::default() })
    }

    /// See [`command::NEXT`].
    ///
    /// # Errors
    /// As [`Self::get`]; EPERM for others than root.
    pub fn next(&self, kind: u32, id: u32) -> io::Result<Option<Record>> {
        match self.call::<{ command::NEXT }>(Record { kind, id, ..Record::default() }) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(None),
            found => found.map(Some),
        }
    }

    /// See [`command::SET`].
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn set(&self, record: Record) -> io::Result<Record> {
        self.call::<{ command::SET }>(record)
    }

    /// See [`command::SYNC`].
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: this command has no argument.
        unsafe { rustix::ioctl::ioctl(&self.0, NoArg::<{ command::SYNC }>::new())? };
        Ok(())
    }
}

const _: () = assert!(size_of::<Record>() == 40);
