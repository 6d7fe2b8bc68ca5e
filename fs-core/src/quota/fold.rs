//! Folding: what is pending goes from the change file into the quota file.

use super::{QuotaId, Record, accounts, file};
use crate::addr::InodeNo;
use crate::blocks::Edit;
use crate::error::FsError;
use crate::format::dinode::flags;
use crate::format::meta::BlockKind;
use crate::glock::service::{Mode as LockMode, Name};
use crate::stage::Stage;
use crate::volume::Volume;

/// Records that one transaction changes at most.
const RECORDS_MAX: usize = 64;
/// Blocks in the log that such a transaction may take before it ends; a record takes two, with the way to them and the
/// bitmaps of what is allocated.
const LOG_BLOCKS_MAX: usize = 96;

/// Moves everything that was pending when it was called into the quota file. What there is no room for stays pending.
///
/// # Errors
/// Device errors, `Corrupt`, `Withdrawn`.
pub(super) async fn fold(volume: &Volume) -> Result<(), FsError> {
    let quotas = &volume.quotas;
    let _turn = quotas.folding.lock().await;
    let due = quotas.accounts.lock().changed();
    if due.is_empty() {
        return Ok(());
    }
    let ino = quotas.file()?;
    let mut left = due.as_slice();
    while !left.is_empty() {
        let (done, result) = fold_some(volume, ino, left, RECORDS_MAX).await;
        match result {
            Ok(()) => {}
            // Alone, each finds out whether its block is there.
            Err(FsError::NoSpace) if done > 1 => fold_each(volume, ino, left.get(..done).unwrap_or_default()).await?,
            Err(FsError::NoSpace) => tracing::debug!("no room in the quota file; the change file keeps it"),
            Err(error) => return Err(error),
        }
        left = left.get(done..).unwrap_or_default();
    }
    Ok(())
}

async fn fold_each(volume: &Volume, ino: InodeNo, ids: &[QuotaId]) -> Result<(), FsError> {
    for id in ids {
        match fold_some(volume, ino, std::slice::from_ref(id), 1).await.1 {
            Ok(()) | Err(FsError::NoSpace) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Folds the first of `ids`, as many as one transaction takes. Returns how many these are.
async fn fold_some(volume: &Volume, ino: InodeNo, ids: &[QuotaId], max: usize) -> (usize, Result<(), FsError>) {
    let mut taken = 0;
    let result = async {
        // First: who is not in memory is read under the lock.
        let _held = accounts::hold(volume, ids.get(..max).unwrap_or(ids)).await?;
        let _lock = volume.glocks.lock(Name::QUOTAS, LockMode::Exclusive).await?;
        let mut stage = Stage::new(volume, ino);
        let mut dinode = volume.dinode(ino).await?;
        dinode.flags |= flags::JDATA;
        for id in ids.iter().take(max) {
            taken += 1;
            let known = volume.quotas.accounts.lock().record(*id);
            // Who has nothing pending any more may be gone from memory.
            let Some((old, change)) = known.filter(|(_, change)| *change != 0) else { continue };
            // Never below zero: somebody has been mounted here who did not count.
            let value_blocks = old.value_blocks.saturating_add(change).max(0);
            let record = Record { value_blocks, ..old };
            file::write_one(&mut stage, &mut dinode, *id, &record).await?;
            stage.set_quota(*id, change.saturating_neg(), record);
            if stage.log_blocks() > LOG_BLOCKS_MAX {
                break;
            }
        }
        dinode.write_to(stage.edit(ino.addr(), BlockKind::DINODE).await?);
        stage.commit().await?;
        Ok(())
    };
    let result = result.await;
    (taken.max(1), result)
}
