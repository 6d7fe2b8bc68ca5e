//! The temporary folder: the image, where it is mounted, and the daemon that serves it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use fs_core::attr::Timestamp;
use fuse_mount::daemon::registry::Registered;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

/// Space that has to be free below the temporary folder, in bytes.
const SPACE_MIN_BYTES: u64 = 700 << 20;
/// Most filesystems that can have been left one over the other.
const LAYERS_MAX: u32 = 16;

/// The folder, and everything in it by name.
#[derive(Debug, Clone)]
pub(super) struct Place {
    dir: PathBuf,
    /// What is mounted here can only be seen in a namespace of our own.
    in_namespace: bool,
}

impl Place {
    /// Makes a folder that only this user can enter.
    pub(super) fn make() -> anyhow::Result<Self> {
        let above = std::env::temp_dir();
        let above = above.canonicalize().with_context(|| format!("no temporary folder {}", above.display()))?;
        let free = rustix::fs::statvfs(&above).context("looking at the temporary folder")?;
        if free.f_bavail.saturating_mul(free.f_frsize) < SPACE_MIN_BYTES {
            bail!(
                "less than {} MiB are free in {}; set TMPDIR to a folder with more space",
                SPACE_MIN_BYTES >> 20,
                above.display()
            );
        }
        let dir = above.join(format!("lunfs-demo-{}", uuid::Uuid::new_v4().simple()));
        let make = |dir: &Path| fs::DirBuilder::new().mode(0o700).create(dir);
        make(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let place = Self { dir, in_namespace: false };
        make(&place.mounted()).and_then(|()| make(&place.runtime())).context("making folders")?;
        Ok(place)
    }

    /// The folder `dir`, which was made before this process went into a namespace of its own.
    pub(super) fn in_namespace(dir: PathBuf) -> Self {
        Self { dir, in_namespace: true }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The image file that is the disk.
    pub(super) fn image(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// Where it is mounted.
    pub(super) fn mounted(&self) -> PathBuf {
        self.dir.join("mounted")
    }

    /// A tree to copy from.
    pub(super) fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    /// Where daemons register that cannot do it for the whole system.
    pub(super) fn runtime(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Makes the image, and a volume in it. Returns how many bytes that wrote.
    pub(super) fn format(&self, size_bytes: u64) -> anyhow::Result<u64> {
        fs::File::create_new(self.image()).and_then(|file| file.set_len(size_bytes)).context("making an image file")?;
        let device = block::open(&self.image(), block::OpenOptions::default())?;
        let options = mkfs::options::Options { label: "demo".to_owned(), ..Default::default() };
        let plan = mkfs::plan::Plan::new(size_bytes, &device.geometry(), &options)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let created = Timestamp { sec: i64::try_from(now.as_secs()).unwrap_or(0), nsec: now.subsec_nanos() };
        let identity = mkfs::options::Identity::new(None, created);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let report = runtime.block_on(mkfs::format(&*device, &plan, &identity, false, &|_| ()))?;
        Ok(report.written_bytes)
    }

    /// Runs this program under another of its names, as a user would.
    pub(super) fn lunfs(&self, name: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("finding this program's file")?;
        // Into a file: the daemon that a command leaves behind may hold on to it, and nobody waits for its end.
        let path = self.dir.join("messages");
        let messages = fs::File::create(&path).context("making a file for messages")?;
        let status = Command::new(program)
            .arg0(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(messages)
            .status()
            .with_context(|| format!("cannot start {name}"))?;
        if !status.success() {
            let said = fs::read_to_string(&path).unwrap_or_default().trim().replace('\n', "; ");
            bail!("{} ({status})", if said.is_empty() { name } else { &said });
        }
        Ok(())
    }

    /// Mounts the volume, and returns the process that serves it.
    pub(super) fn mount(&self) -> anyhow::Result<u32> {
        let (image, mounted) = (self.image(), self.mounted());
        self.lunfs("mount.lunfs", &[image.as_ref(), mounted.as_ref(), "-o".as_ref(), "single".as_ref()])?;
        Ok(self.daemon()?.record.pid)
    }

    /// Unmounts it, and returns when everything is on disk.
    pub(super) fn unmount(&self) -> anyhow::Result<()> {
        self.lunfs("umount.lunfs", &[self.mounted().as_ref()])
    }

    fn daemon(&self) -> anyhow::Result<Registered> {
        Registered::serving(&self.image()).context("no daemon serves the volume")
    }

    /// Kills the daemon with SIGKILL, waits until it is gone, and returns which process it was.
    pub(super) fn kill(&self) -> anyhow::Result<u32> {
        let daemon = self.daemon()?;
        let number = daemon.record.pid;
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("the daemon has no process number")?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("looking for the daemon")?;
        // Nobody else may be hit, should the number have been given away meanwhile.
        let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
        if file(&format!("/proc/{number}/exe")) != file("/proc/self/exe") {
            bail!("process {number} is not the daemon of the volume");
        }
        rustix::process::pidfd_send_signal(&process, Signal::KILL).context("killing the daemon")?;
        daemon.wait().context("waiting for the daemon's end")?;
        Ok(number)
    }

    /// Ends the daemon, and takes the volume out of the tree. Needs nothing to be as it should.
    pub(super) fn take_down(&self) -> anyhow::Result<()> {
        // A signal may come while the demo cleans up by itself: the second then finds nothing to do.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock();
        if Registered::serving(&self.image()).is_some() && self.unmount().is_err() {
            self.kill().ok();
        }
        for _ in 0..LAYERS_MAX {
            match rustix::mount::unmount(self.mounted(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                // Nothing is mounted there any more, or nothing ever was.
                Err(Errno::INVAL | Errno::NOENT | Errno::PERM) => break,
                Err(error) => return Err(error).with_context(|| format!("unmounting {}", self.mounted().display())),
            }
        }
        Ok(())
    }

    /// Takes everything down, and removes the folder.
    pub(super) fn clean_up(&self) -> anyhow::Result<()> {
        self.take_down()?;
        // This removes an empty folder only: should the volume still be mounted there, its files are in no danger.
        match fs::remove_dir(self.mounted()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", self.mounted().display()));
            }
            _ => {}
        }
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// How to get to where the mount can be seen, if that is not everywhere.
    pub(super) fn how_to_enter(&self) -> String {
        match self.daemon() {
            Ok(daemon) if self.in_namespace => {
                format!(", to be seen after: nsenter --preserve-credentials -U -m -t {}", daemon.record.pid)
            }
            _ => String::new(),
        }
    }
}
