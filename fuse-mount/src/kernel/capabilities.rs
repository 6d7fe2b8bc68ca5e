//! Capabilities of the process behind a request, which FUSE does not send.

use std::os::unix::fs::MetadataExt;

use fs_core::attr::Capabilities;

/// Numbers of capabilities (capabilities(7)).
const FOWNER: u32 = 3;
const LINUX_IMMUTABLE: u32 = 9;
const SYS_ADMIN: u32 = 21;

/// What process `pid` of user `uid` may do. Where it cannot be looked at (it is in another process namespace, or gone),
/// root may do everything, and others nothing. What it may do in a user namespace of its own does not count.
pub(super) fn of(pid: u32, uid: u32) -> Capabilities {
    let unknown = if uid == 0 { Capabilities::ALL } else { Capabilities::default() };
    if pid == 0 {
        return unknown;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return unknown };
    if user_namespace(&pid.to_string()) != user_namespace("self") {
        return Capabilities::default();
    }
    parse(&status).unwrap_or(unknown)
}

/// Which user namespace a process is in.
fn user_namespace(process: &str) -> Option<(u64, u64)> {
    let namespace = std::fs::metadata(format!("/proc/{process}/ns/user")).ok()?;
    Some((namespace.dev(), namespace.ino()))
}

fn parse(status: &str) -> Option<Capabilities> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(line.trim(), 16).ok()?;
    let has = |number: u32| effective >> number & 1 != 0;
    Some(Capabilities { owner: has(FOWNER), immutable: has(LINUX_IMMUTABLE), system: has(SYS_ADMIN) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_of_a_process() {
        assert_eq!(parse("CapPrm:\t0\nCapEff:\t000001ffffffffff\n"), Some(Capabilities::ALL));
        assert_eq!(parse("CapEff:\t0000000000000000\n"), Some(Capabilities::default()));
        let one = Capabilities { immutable: true, ..Capabilities::default() };
        assert_eq!(parse("CapEff:\t0000000000000200\n"), Some(one));
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[test]
    fn of_a_process_that_cannot_be_seen_only_root_has_any() {
        assert_eq!(of(0, 0), Capabilities::ALL);
        assert_eq!(of(u32::MAX, 1000), Capabilities::default());
    }
}
