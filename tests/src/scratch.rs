//! Temporary folders, and a list of everything that must not outlive the test process: mounts, daemons, loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Something that has to be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A mount point.
    Mount(PathBuf),
    /// A process.
    Daemon(u32),
    /// A loop device.
    Loop(String),
    /// A file whose permissions were changed, and what they were.
    Mode(PathBuf, u32),
    /// A folder.
    Folder(PathBuf),
}

/// Undoes something when it is dropped, or when the process ends before.
pub struct Guard(Leftover);

impl Guard {
    /// Remembers what has to be undone. To be made before what it undoes.
    #[must_use]
    pub fn new(what: Leftover) -> Self {
        remember(what.clone());
        Self(what)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        undo(&self.0);
    }
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Remembers something that has to be undone.
pub fn remember(what: Leftover) {
    LEFTOVERS.lock().push(what);
}

/// It has been undone.
pub fn forget(what: &Leftover) {
    LEFTOVERS.lock().retain(|one| one != what);
}

/// Processes started by this test that still serve a mount.
#[must_use]
pub fn daemons() -> Vec<u32> {
    let pid = |one: &Leftover| if let Leftover::Daemon(pid) = one { Some(*pid) } else { None };
    LEFTOVERS.lock().iter().filter_map(pid).collect()
}

/// Undoes all of it, the youngest first; for the moment before the process ends.
pub fn clean_up_everything() {
    let all: Vec<Leftover> = LEFTOVERS.lock().drain(..).collect();
    for one in all.iter().rev() {
        undo(one);
    }
}

/// Undoes one thing; failures do not matter any more.
pub fn undo(what: &Leftover) {
    match what {
        Leftover::Mount(dir) => {
            abort_connection(dir);
            quietly(Command::new("umount").arg("-l").arg(dir));
        }
        Leftover::Daemon(pid) => kill(*pid),
        Leftover::Loop(device) => quietly(Command::new("losetup").arg("-d").arg(device)),
        Leftover::Mode(path, mode) => {
            use std::os::unix::fs::PermissionsExt;
            let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode));
        }
        Leftover::Folder(dir) => {
            // Never through a mount that could not be undone.
            quietly(Command::new("rm").args(["-rf", "--one-file-system"]).arg(dir));
        }
    }
    forget(what);
}

fn quietly(command: &mut Command) {
    let _ = command.stdin(std::process::Stdio::null()).output();
}

/// SIGKILL.
pub fn kill(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Frees everybody who waits in a FUSE mount.
fn abort_connection(dir: &Path) {
    let Some(line) = crate::mount::mountinfo().into_iter().find(|line| line.dir == dir) else { return };
    if line.fstype.starts_with("fuse") {
        quietly(Command::new("mount").args(["-t", "fusectl", "none", "/sys/fs/fuse/connections"]));
        let _ = std::fs::write(format!("/sys/fs/fuse/connections/{}/abort", line.connection), "1");
    }
}

/// A folder of its own that goes away with it.
pub struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes one, in `LUNFS_SCRATCH` or the system's folder for temporary files.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let base = std::env::var_os("LUNFS_SCRATCH").map_or_else(std::env::temp_dir, PathBuf::from);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("lunfs-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        let dir = dir.canonicalize().unwrap();
        remember(Leftover::Folder(dir.clone()));
        Self { dir, keep: std::env::var_os("LUNFS_KEEP").is_some() }
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.keep && std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.dir.display());
            forget(&Leftover::Folder(self.dir.clone()));
        } else {
            undo(&Leftover::Folder(self.dir.clone()));
        }
    }
}
