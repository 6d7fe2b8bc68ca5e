//! Names of users and groups.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use fs_core::quota::{Kind, QuotaId};

/// Names that the files of this machine have. Others are asked for one by one.
pub(super) struct Names(BTreeMap<QuotaId, String>);

/// Name and number in a line of passwd(5) or group(5): they are at the same places.
fn parse(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name, fields.nth(1)?.parse().ok()?))
}

const fn database(kind: Kind) -> &'static str {
    match kind {
        Kind::User => "passwd",
        Kind::Group => "group",
    }
}

impl Names {
    pub(super) fn read() -> Self {
        let mut names = BTreeMap::new();
        for kind in [Kind::User, Kind::Group] {
            let text = std::fs::read(format!("/etc/{}", database(kind))).unwrap_or_default();
            for (name, id) in String::from_utf8_lossy(&text).lines().filter_map(parse) {
                names.entry(QuotaId { kind, id }).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    pub(super) fn name(&self, id: QuotaId) -> Option<String> {
        self.0.get(&id).cloned()
    }

    /// Whom `text`, a number or a name, means.
    pub(super) fn id(&self, kind: Kind, text: &str) -> anyhow::Result<QuotaId> {
        if let Ok(id) = text.parse() {
            return Ok(QuotaId { kind, id });
        }
        let known = self.0.iter().find(|(id, name)| id.kind == kind && *name == text).map(|(id, _)| *id);
        known.or_else(|| ask(kind, text)).ok_or_else(|| {
            let what = if kind == Kind::User { "user" } else { "group" };
            anyhow::anyhow!("there is no {what} {text:?} on this machine; give its number")
        })
    }
}

/// Who comes from a directory service is known to getent(1).
fn ask(kind: Kind, name: &str) -> Option<QuotaId> {
    let answer = Command::new("getent").arg("--").args([database(kind), name]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    // It takes numbers for numbers, and cuts off what is too large.
    let (_, id) = text.lines().filter_map(parse).find(|(found, _)| *found == name)?;
    Some(QuotaId { kind, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_files_are_understood() {
        assert_eq!(parse("root:x:0:0:root:/root:/bin/sh"), Some(("root", 0)));
        assert_eq!(parse("staff:x:50:"), Some(("staff", 50)));
        for wrong in ["", "#", "+::::::", "a:b", "a:x:y:"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_need_no_name() {
        let names = Names::read();
        assert_eq!(names.id(Kind::Group, "4000000000").unwrap(), QuotaId::group(4_000_000_000));
        assert_eq!(names.id(Kind::User, "root").unwrap(), QuotaId::user(0));
        assert_eq!(names.name(QuotaId::user(0)).as_deref(), Some("root"));
        for wrong in ["4294967296", "-1", "no such user"] {
            assert!(names.id(Kind::User, wrong).is_err(), "{wrong}");
        }
    }
}
