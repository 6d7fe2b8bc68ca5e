//! Quotas, as [`crate::quota`] asks for them: root may do everything, others may see what is theirs.

use fs_core::quota::{Kind, Mode, Quota, QuotaId, SetQuota};
use zerocopy::{FromBytes, IntoBytes};

use super::{Handlers, refused};
use crate::kernel::{Errno, Process};
use crate::quota::{Record, command, kind, mode, set};

fn is_root(process: Process) -> Result<(), Errno> {
    if process.caller.uid == 0 { Ok(()) } else { Err(Errno::PERM) }
}

/// Whom a record is about.
fn id_of(record: &Record) -> Result<QuotaId, Errno> {
    match record.kind {
        kind::USER => Ok(QuotaId::user(record.id)),
        kind::GROUP => Ok(QuotaId::group(record.id)),
        _ => Err(Errno::INVAL),
    }
}

fn may_see(id: QuotaId, process: Process) -> Result<(), Errno> {
    let is_own = match id.kind {
        Kind::User => process.caller.uid == id.id,
        Kind::Group => process.is_member(id.id),
    };
    if is_own { Ok(()) } else { is_root(process) }
}

fn change(record: &Record) -> Result<SetQuota, Errno> {
    if record.set & !(set::LIMIT | set::WARN | set::USED) != 0 {
        return Err(Errno::INVAL);
    }
    let given = |bit, value| (record.set & bit != 0).then_some(value);
    Ok(SetQuota {
        limit_blocks: given(set::LIMIT, record.limit_blocks),
        warn_blocks: given(set::WARN, record.warn_blocks),
        used_blocks: given(set::USED, record.used_blocks),
    })
}

#[allow(clippy::missing_errors_doc)] // all return what the operation's error says
impl Handlers {
    /// The commands of [`crate::quota::command`], on any directory or file of the volume.
    pub(super) async fn quota_ioctl(&self, command: u32, data: &[u8], process: Process) -> Result<Vec<u8>, Errno> {
        let record = || Record::read_from_bytes(data).map_err(|_| Errno::INVAL);
        match command {
            command::GET => {
                let id = id_of(&record()?)?;
                may_see(id, process)?;
                Ok(self.quota_record(&self.fs.quota(id).await.map_err(refused)?))
            }
            command::NEXT => {
                is_root(process)?;
                let found = self.fs.quota_next(id_of(&record()?)?).await.map_err(refused)?;
                Ok(self.quota_record(&found.ok_or(Errno::NOENT)?))
            }
            command::SET => {
                is_root(process)?;
                let record = record()?;
                let set = self.fs.set_quota(id_of(&record)?, &change(&record)?).await.map_err(refused)?;
                Ok(self.quota_record(&set))
            }
            command::SYNC => {
                is_root(process)?;
                self.fs.sync_quotas().await.map_err(refused)?;
                Ok(Vec::new())
            }
            _ => Err(Errno::NOTTY),
        }
    }

    fn quota_record(&self, quota: &Quota) -> Vec<u8> {
        let record = Record {
            kind: match quota.id.kind {
                Kind::User => kind::USER,
                Kind::Group => kind::GROUP,
            },
            id: quota.id.id,
            limit_blocks: quota.limit_blocks,
            warn_blocks: quota.warn_blocks,
            used_blocks: quota.used_blocks,
            set: 0,
            mode: match self.fs.quota_mode() {
                Mode::Off => mode::OFF,
                Mode::Account => mode::ACCOUNT,
                Mode::On => mode::ON,
                Mode::Quiet => mode::QUIET,
            },
        };
        record.as_bytes().to_vec()
    }
}
