//! Quotas: how many blocks each user and each group has, and how many they may have.
//!
//! ```text
//! transaction ─▶ charge: dinodes before and after ─▶ accounts: limits, promises ─▶ slots of the node's change file,
//!                                                       ▲                          in the same transaction
//!                                                       │                                 │ fold
//!                                                       └────────── quota file ◀──────────┘
//! ```
//!
//! Laws
//! * What somebody has is the sum of `di_blocks` over the inodes that belong to him; system files belong to nobody. So a
//!   transaction's changes follow from the dinodes in it, and no operation can forget to tell of a block.
//! * They are part of the transaction, as an addition to slots of the change file: a crash neither loses nor doubles them.
//! * Quota file plus all change files is the truth, in memory and on the disk. Folding moves amounts from one to the other
//!   in one transaction.
//! * A limit is checked, and what is about to be taken is promised, before anything of the transaction is applied: so the
//!   limit holds exactly, however many operations are under way, and an operation that is refused has done nothing.
//! * Memory: an account for each slot in use, and a limited number of others.
//!
//! Order of locks: [`Name::QUOTAS`] comes after all inodes, and before resource groups. Who holds it has his accounts in
//! memory already.

mod accounts;
mod changes;
pub(crate) mod charge;
pub(crate) mod file;
mod fold;
pub(crate) mod leftover;

pub(crate) use charge::Charge;

use parking_lot::Mutex;

use self::accounts::Accounts;
use self::changes::ChangeFile;
use crate::addr::InodeNo;
use crate::error::FsError;
use crate::glock::service::{Mode as LockMode, Name};
use crate::stage::Stage;
use crate::volume::Volume;

/// Whose quota: of a user or of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Of a user.
    User,
    /// Of a group.
    Group,
}

/// A user or a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaId {
    /// Which of the two.
    pub kind: Kind,
    /// The number.
    pub id: u32,
}

impl QuotaId {
    /// The user `id`.
    #[must_use]
    pub const fn user(id: u32) -> Self {
        Self { kind: Kind::User, id }
    }

    /// The group `id`.
    #[must_use]
    pub const fn group(id: u32) -> Self {
        Self { kind: Kind::Group, id }
    }
}

impl std::fmt::Display for QuotaId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::User => "user",
            Kind::Group => "group",
        };
        write!(f, "{kind} {}", self.id)
    }
}

/// What a mount does about quotas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing: what the volume says of usage is wrong from the first change on.
    #[default]
    Off,
    /// Counts what everybody has.
    Account,
    /// Counts, and keeps to the limits.
    On,
    /// The same, without lines in the log.
    Quiet,
}

impl Mode {
    /// Usage is counted.
    #[must_use]
    pub const fn accounts(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// Limits count.
    #[must_use]
    pub const fn enforces(self) -> bool {
        matches!(self, Self::On | Self::Quiet)
    }
}

/// A record of the quota file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Hard limit, in blocks; zero: none.
    pub limit_blocks: u64,
    /// From here on the log warns, in blocks; zero: never.
    pub warn_blocks: u64,
    /// In use, in blocks. Negative only where somebody else wrote it.
    pub value_blocks: i64,
}

/// What somebody may have, and has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Who.
    pub id: QuotaId,
    /// Hard limit, in blocks; zero: none.
    pub limit_blocks: u64,
    /// From here on the log warns, in blocks; zero: never.
    pub warn_blocks: u64,
    /// In use, in blocks.
    pub used_blocks: u64,
}

/// What [`set`] changes: whatever is `Some`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SetQuota {
    /// Hard limit, in blocks; zero: none.
    pub limit_blocks: Option<u64>,
    /// Warning limit, in blocks; zero: none.
    pub warn_blocks: Option<u64>,
    /// In use, in blocks: for whoever has counted it, while nobody changes the volume.
    pub used_blocks: Option<u64>,
}

/// The quotas of a mounted volume.
pub struct Quotas {
    mode: Mode,
    /// The quota file; `None` on a damaged volume, which can be mounted without quotas.
    file: Option<InodeNo>,
    changes: ChangeFile,
    accounts: Mutex<Accounts>,
    /// Held by whoever folds.
    folding: tokio::sync::Mutex<()>,
}

impl Quotas {
    /// With the blocks of the node's own change file, in order; none of them is needed where nothing is counted.
    pub(crate) fn new(
        mode: Mode,
        file: Option<InodeNo>,
        changes: InodeNo,
        blocks: Vec<crate::addr::BlockAddr>,
        block_size: crate::format::block_size::BlockSize,
    ) -> Self {
        let changes = ChangeFile::new(changes, blocks, block_size);
        let accounts = Mutex::new(Accounts::new(changes.slots()));
        Self { mode, file, changes, accounts, folding: tokio::sync::Mutex::default() }
    }

    /// What the mount does.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    fn file(&self) -> Result<InodeNo, FsError> {
        self.file.ok_or(FsError::Unsupported("quotas on a volume without a quota file"))
    }

    /// An operation was refused in the end: the log says so, once until there is room again.
    pub(crate) fn refused(&self, id: QuotaId) {
        if self.mode == Mode::Quiet {
            return;
        }
        let told = self.accounts.lock().tell_exceeded(id);
        if let Some(quota) = told {
            tracing::warn!("quota exceeded: {}", line(&quota));
        }
    }

    fn warn(&self, quota: &Quota) {
        if self.mode == Mode::On {
            tracing::warn!("quota warning: {}", line(quota));
        }
    }
}

fn line(quota: &Quota) -> String {
    let Quota { id, limit_blocks, warn_blocks, used_blocks } = quota;
    format!("{id} has {used_blocks} blocks (limit {limit_blocks}, warning from {warn_blocks})")
}

/// What `id` may have, and has.
///
/// # Errors
/// `Unsupported` without a quota file; errors of reading.
pub async fn get(volume: &Volume, id: QuotaId) -> Result<Quota, FsError> {
    let held = accounts::hold(volume, &[id]).await?;
    let quota = volume.quotas.accounts.lock().quota(id);
    drop(held);
    quota.ok_or(FsError::Bug("an account that is held has gone"))
}

/// The first user or group from `from` on that has anything, or a limit.
///
/// # Errors
/// `Unsupported` without a quota file; errors of reading.
pub async fn next(volume: &Volume, from: QuotaId) -> Result<Option<Quota>, FsError> {
    let mut from = from;
    loop {
        let recorded = {
            let _lock = volume.glocks.lock(Name::QUOTAS, LockMode::Shared).await?;
            let dinode = volume.dinode(volume.quotas.file()?).await?;
            file::next(&*volume.cache, &dinode, from, volume.disk.block_count()).await?
        };
        let pending = volume.quotas.accounts.lock().next_changed(from);
        let first = match (recorded, pending) {
            (Some(recorded), Some(pending)) => recorded.min(pending),
            (recorded, pending) => match recorded.or(pending) {
                Some(first) => first,
                None => return Ok(None),
            },
        };
        let quota = get(volume, first).await?;
        // What is pending may be just what takes the rest away.
        if (quota.limit_blocks, quota.warn_blocks, quota.used_blocks) != (0, 0, 0) {
            return Ok(Some(quota));
        }
        let Some(id) = first.id.checked_add(1) else { return Ok(None) };
        from = QuotaId { id, ..first };
    }
}

/// Changes limits, or sets what is in use.
///
/// # Errors
/// `Unsupported` without a quota file, `OutOfRange` for more blocks than there can be, `NoSpace` for its record,
/// `ReadOnly`; errors of reading and of the journal.
pub async fn set(volume: &Volume, id: QuotaId, change: &SetQuota) -> Result<Quota, FsError> {
    volume.check_writable()?;
    let signed = |blocks: Option<u64>| {
        blocks.map(i64::try_from).transpose().map_err(|_| FsError::OutOfRange("more blocks than a volume can have"))
    };
    signed(change.limit_blocks)?;
    signed(change.warn_blocks)?;
    if change.used_blocks.is_some() && !volume.quotas.mode().accounts() {
        // What is still in the change files is not known, and would be added to it later.
        return Err(FsError::Unsupported("setting what is in use, on a mount that does not count"));
    }
    let used = signed(change.used_blocks)?;
    let ino = volume.quotas.file()?;
    let held = accounts::hold(volume, &[id]).await?;
    {
        let _lock = volume.glocks.lock(Name::QUOTAS, LockMode::Exclusive).await?;
        let mut stage = Stage::new(volume, ino);
        let (old, pending) =
            volume.quotas.accounts.lock().record(id).ok_or(FsError::Bug("an account that is held has gone"))?;
        let record = Record {
            limit_blocks: change.limit_blocks.unwrap_or(old.limit_blocks),
            warn_blocks: change.warn_blocks.unwrap_or(old.warn_blocks),
            // What is pending is added to it one day.
            value_blocks: used.map_or(old.value_blocks, |used| used.saturating_sub(pending)),
        };
        file::write(&mut stage, ino, &[(id, record)]).await?;
        stage.set_quota(id, 0, record);
        stage.commit().await?;
    }
    let quota = volume.quotas.accounts.lock().quota(id);
    drop(held);
    quota.ok_or(FsError::Bug("an account that is held has gone"))
}

/// Moves everything that is pending into the quota file. Where there is no room for that it stays where it is, which is as
/// good.
///
/// # Errors
/// `ReadOnly`; device errors, `Corrupt`, `Withdrawn`.
pub async fn sync(volume: &Volume) -> Result<(), FsError> {
    volume.check_writable()?;
    fold::fold(volume).await
}
