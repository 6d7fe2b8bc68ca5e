//! Locks of files, as flock(2) and fcntl(2) ask for them.

/// A lock of a file, or a range of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Whose: locks of one owner do not exclude each other.
    pub owner: u64,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// What it excludes.
    pub kind: LockKind,
    /// Process that asked.
    pub pid: u32,
    /// Of flock(2); else of fcntl(2). The two do not see each other.
    pub flock: bool,
}

/// What a lock excludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Writers.
    Shared,
    /// Everybody.
    Exclusive,
    /// Nobody: the lock is given back.
    Unlock,
}
