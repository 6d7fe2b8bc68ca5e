//! Groups of the process behind a request, which FUSE does not send.

use fs_core::attr::Setgid;

/// The attribute for which it matters who sets it.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// What becomes of the setgid bit when process `pid` sets this attribute, where the kernel does not say so.
pub(super) fn setgid(name: &[u8], pid: u32) -> Setgid {
    if name == ACCESS_LIST { Setgid::KeepIfMember(of_process(pid)) } else { Setgid::Keep }
}

/// The supplementary groups of process `pid`; none if it cannot be found, for example in another process namespace.
pub(super) fn of_process(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse(&status)
}

fn parse(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or_default().split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status_of_a_process() {
        assert_eq!(parse("Gid:\t1\t2\t3\t4\nGroups:\t4 24 1000 \nNStgid:\t1\n"), [4, 24, 1000]);
        assert!(parse("Name:\tx\nGroups:\t\n").is_empty());
        assert!(of_process(u32::MAX).is_empty());
        let own: Vec<u32> = rustix::process::getgroups().unwrap().into_iter().map(|group| group.as_raw()).collect();
        assert_eq!(of_process(std::process::id()), own);
    }
}
