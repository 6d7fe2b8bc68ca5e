//! Mounting without being root: in a user and mount namespace of our own, where the host allows it.

// `unshare` is only safe while a process has one thread, which is what is so at the place where it is called.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, anyhow};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::place::Place;

/// Checks that FUSE is to be had at all.
pub(super) fn check_fuse() -> anyhow::Result<()> {
    let opened = fs::File::options().read(true).write(true).open("/dev/fuse");
    match opened {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(anyhow!(
            "this user may not open /dev/fuse; run it as root (sudo), or give the user access to the device"
        )),
        Err(error) => Err(error).context(
            "/dev/fuse cannot be opened; load the module (modprobe fuse), or let the container have the device",
        ),
    }
}

/// This process may mount filesystems.
pub(super) fn may_mount() -> bool {
    let capabilities = rustix::thread::capabilities(None);
    capabilities.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Starts this program anew in a namespace in which it may mount. Returns only if that cannot be done.
pub(super) fn enter(place: &Place) -> anyhow::Error {
    let Err(error) = try_enter(place);
    error.context(
        "this user may not mount, and this machine does not let users have namespaces of their own to do it in; run it \
         as root (sudo)",
    )
}

fn try_enter(place: &Place) -> anyhow::Result<std::convert::Infallible> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: no other thread has been started: commands are run from `main`, and the demo starts its threads later.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) }.context("unshare")?;
    let write = |name: &str, text: String| {
        fs::write(format!("/proc/self/{name}"), text).with_context(|| format!("writing {name}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))?;
    // Some machines give the namespace and refuse all that one would want it for.
    let mounted = place.mounted();
    rustix::mount::mount("none", &mounted, "tmpfs", MountFlags::empty(), None).context("mounting")?;
    rustix::mount::unmount(&mounted, UnmountFlags::empty()).context("unmounting")?;
    let program = std::env::current_exe().context("finding this program's file")?;
    let error = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .arg(place.dir())
        .env("XDG_RUNTIME_DIR", place.runtime())
        .exec();
    Err(error).context("starting this program again")
}
