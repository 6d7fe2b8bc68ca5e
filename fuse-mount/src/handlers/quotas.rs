//! Quotas, as [`crate::quota`] asks for them: who has CAP_SYS_ADMIN may do everything, others may see what is theirs.

use fs_core::quota::{Kind, Mode, Quota, QuotaId, SetQuota};
use zerocopy::{FromBytes, IntoBytes};

use super::{Handlers, refused};
use crate::kernel::{Asker, Errno};
use crate::quota::{Record, command, kind, mode, set};

/// As quotactl(2) asks for it.
fn may_administer(asker: Asker) -> Result<(), Errno> {
    if asker.capabilities.system { Ok(()) } else { Err(Errno::PERM) }
}

/// Whom a record is about.
fn id_of(record: &Record) -> Result<QuotaId, Errno> {
    match record.kind {
        kind::USER => Ok(QuotaId::user(record.id)),
        kind::GROUP => Ok(QuotaId::group(record.id)),
        _ => Err(Errno::INVAL),
    }
}

fn may_see(id: QuotaId, asker: Asker) -> Result<(), Errno> {
    let is_own = match id.kind {
        Kind::User => asker.process.caller.uid == id.id,
        Kind::Group => asker.process.is_member(id.id),
    };
    if is_own { Ok(()) } else { may_administer(asker) }
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
    pub(super) async fn quota_ioctl(&self, command: u32, data: &[u8], asker: Asker) -> Result<Vec<u8>, Errno> {
        let record = || Record::read_from_bytes(data).map_err(|_| Errno::INVAL);
        match command {
            command::GET => {
                let id = id_of(&record()?)?;
                may_see(id, asker)?;
                Ok(self.quota_record(&self.fs.quota(id).await.map_err(refused)?))
            }
            command::NEXT => {
                may_administer(asker)?;
                let found = self.fs.quota_next(id_of(&record()?)?).await.map_err(refused)?;
                Ok(self.quota_record(&found.ok_or(Errno::NOENT)?))
            }
            command::SET => {
                may_administer(asker)?;
                let record = record()?;
                let set = self.fs.set_quota(id_of(&record)?, &change(&record)?).await.map_err(refused)?;
                Ok(self.quota_record(&set))
            }
            command::SYNC => {
                may_administer(asker)?;
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
