//! Mounts, and the daemons behind them. Whatever happens to a test, its mounts and daemons do not outlive it.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::command::{Outcome, Reader, reader, run, until};
use crate::need;
use crate::scratch::{self, Leftover, forget, remember};
use crate::volume::{Kind, Volume, called};
use crate::watchdog;

/// Longest time that mounting may take: replay of a full journal on a slow machine is far below it.
const MOUNT_LIMIT: Duration = Duration::from_secs(120);

/// A mounted volume. Dropping it kills the daemon and detaches the mount; tests end with [`Mount::umount`].
pub struct Mount {
    kind: Kind,
    image: PathBuf,
    dir: PathBuf,
    daemon: Option<Daemon>,
    live: bool,
}

struct Daemon {
    pid: u32,
    /// Ours to wait for, if it was started in the foreground.
    child: Option<Child>,
    said: Option<Reader>,
}

impl Mount {
    /// Mounts as a user does: by `mount.lunfs`, with the daemon left behind.
    #[track_caller]
    pub fn new(volume: &Volume, dir: &Path, options: &str) -> Self {
        std::fs::create_dir_all(dir).or_else(ignore_dead).unwrap();
        match volume.kind() {
            Kind::Lunfs => {
                mount_lunfs(volume.image(), dir, options).ok();
                Self::adopt(volume.image(), dir)
            }
            Kind::Ext4 => {
                let args = ["-o".as_ref(), "loop,rw".as_ref(), volume.image().as_os_str(), dir.as_os_str()];
                run("mount", args).ok();
                Self::live(volume, dir, None)
            }
        }
    }

    /// Takes charge of a mount that something else has just made.
    #[track_caller]
    #[must_use]
    pub fn adopt(image: &Path, dir: &Path) -> Self {
        let mounted = || mountinfo().iter().any(|line| line.dir == dir && line.fstype.starts_with("fuse"));
        assert!(mounted(), "{} was to be mounted at {}, but is not", image.display(), dir.display());
        let pid = daemon_of(image).unwrap_or_else(|| {
            // So that a mount without a daemon does not stay.
            scratch::undo(&Leftover::Mount(dir.to_owned()));
            panic!("{} is mounted, but no process has it open", image.display())
        });
        Self::live(&Volume::existing(image.to_owned()), dir, Some(Daemon { pid, child: None, said: None }))
    }

    /// Mounts with the daemon as a child of this process, whose number is known before anything can go wrong.
    #[track_caller]
    pub fn foreground(volume: &Volume, dir: &Path, options: &str) -> Self {
        if volume.kind() == Kind::Ext4 {
            return Self::new(volume, dir, options);
        }
        std::fs::create_dir_all(dir).or_else(ignore_dead).unwrap();
        let mut mount = Self::start(volume, dir, options);
        let _step = watchdog::step(&format!("mounting {}", volume.image().display()));
        let started = std::time::Instant::now();
        while !answers(dir) {
            let ended = mount.daemon.as_mut().and_then(|daemon| daemon.child.as_mut()?.try_wait().unwrap());
            if let Some(status) = ended {
                panic!("mounting {} failed: {status}\n{}", volume.image().display(), mount.log());
            }
            assert!(started.elapsed() < MOUNT_LIMIT, "not mounted after {MOUNT_LIMIT:?}\n{}", mount.log());
            std::thread::sleep(Duration::from_millis(3));
        }
        mount
    }

    /// Starts the daemon in the foreground and does not wait for the mount.
    #[must_use]
    pub fn start(volume: &Volume, dir: &Path, options: &str) -> Self {
        let mut command = Command::new(called("mount.lunfs"));
        command.arg(volume.image()).arg(dir).arg("-o").arg(format!("{},foreground", with_more(options)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("lunfs can be run");
        let said = child.stderr.take().map(reader);
        Self::live(volume, dir, Some(Daemon { pid: child.id(), child: Some(child), said }))
    }

    fn live(volume: &Volume, dir: &Path, daemon: Option<Daemon>) -> Self {
        remember(Leftover::Mount(dir.to_owned()));
        if let Some(daemon) = &daemon {
            remember(Leftover::Daemon(daemon.pid));
        }
        Self { kind: volume.kind(), image: volume.image().to_owned(), dir: dir.to_owned(), daemon, live: true }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.join(relative)
    }

    /// The daemon's process number; none for the stand-in.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(|daemon| daemon.pid)
    }

    /// What a daemon in the foreground has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().and_then(|daemon| daemon.said.as_ref()).map(Reader::text).unwrap_or_default()
    }

    /// The daemon's peak of resident memory, in bytes (VmHWM); `None` for the stand-in.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells the peak");
        Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024)
    }

    /// Unmounts as umount(8) does where lunfs is installed; asserts that the daemon has ended when it returns.
    #[track_caller]
    pub fn umount(mut self) {
        let _step = watchdog::step(&format!("umounting {}", self.dir.display()));
        let pid = self.pid();
        let said = match self.kind {
            Kind::Lunfs => run(called("umount.lunfs"), [&self.dir]),
            Kind::Ext4 => {
                let said = run("umount", [&self.dir]);
                self.wait_for_loop_device();
                said
            }
        }
        .ok()
        .text();
        if said.contains("mounted elsewhere") {
            // Somebody made a mount namespace meanwhile, and has a copy of the mount until that ends.
            until("the copy of the mount is gone", Duration::from_secs(120), || {
                pid.is_none_or(|pid| matches!(process_state(pid), None | Some('Z')))
            });
        }
        let child = self.daemon.as_mut().and_then(|daemon| daemon.child.take());
        if let Some(mut child) = child {
            // Ended, though not yet waited for: that is ours to do.
            let state = process_state(child.id());
            assert!(
                matches!(state, None | Some('Z')),
                "umount returned while the daemon is in state {state:?}; it said: {said}"
            );
            let status = child.wait().unwrap();
            assert!(status.success(), "the daemon ended with {status} after umount\n{}", self.log());
        } else if let Some(pid) = pid {
            let state = process_state(pid);
            assert!(
                matches!(state, None | Some('Z')),
                "umount returned while the daemon is in state {state:?}; it said: {said}"
            );
        }
        assert!(!mountinfo().iter().any(|line| line.dir == self.dir), "still mounted after umount");
        self.gone();
    }

    /// Waits until the daemon in the foreground, which somebody has told to end, has ended, and detaches what it leaves.
    /// Its exit status, and what it said.
    #[track_caller]
    pub fn wait_for_end(mut self) -> (Option<i32>, String) {
        let _step = watchdog::step(&format!("waiting for the end of the daemon of {}", self.image.display()));
        let mut child =
            self.daemon.as_mut().and_then(|daemon| daemon.child.take()).expect("a daemon in the foreground");
        let status = child.wait().unwrap();
        detach(&self.dir);
        self.gone();
        (status.code(), self.log())
    }

    /// SIGKILL, and waits until the process is gone. The dead mount stays for the next mount to clear away.
    #[track_caller]
    pub fn kill(mut self) {
        match self.kind {
            Kind::Lunfs => self.kill_daemon(),
            Kind::Ext4 => {
                const SHUTDOWN: &str = "import fcntl,os,struct,sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
                run("python3", ["-c".as_ref(), SHUTDOWN.as_ref(), self.dir.as_os_str()]).ok();
                until("the dead stand-in is unmounted", Duration::from_secs(30), || {
                    run("umount", [&self.dir]).status == 0
                });
                self.wait_for_loop_device();
                self.gone();
            }
        }
        self.live = false;
    }

    /// The stand-in's loop device lets go of the image a moment after umount.
    fn wait_for_loop_device(&self) {
        until("the loop device is detached", Duration::from_secs(30), || {
            run("losetup", ["-j".as_ref(), self.image.as_os_str()]).stdout.is_empty()
        });
    }

    fn kill_daemon(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        scratch::kill(daemon.pid);
        if let Some(mut child) = daemon.child.take() {
            child.wait().unwrap();
        }
        let pid = daemon.pid;
        until("the killed daemon is gone", Duration::from_secs(30), || matches!(process_state(pid), None | Some('Z')));
        forget(&Leftover::Daemon(pid));
    }

    fn gone(&mut self) {
        if let Some(pid) = self.pid() {
            forget(&Leftover::Daemon(pid));
        }
        forget(&Leftover::Mount(self.dir.clone()));
        self.live = false;
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.live {
            return;
        }
        if std::thread::panicking() {
            eprintln!("--- what the daemon of {} said\n{}", self.image.display(), self.log());
        }
        if let Some(daemon) = &mut self.daemon {
            scratch::kill(daemon.pid);
            if let Some(mut child) = daemon.child.take() {
                let _ = child.wait();
            }
            forget(&Leftover::Daemon(daemon.pid));
        }
        scratch::undo(&Leftover::Mount(self.dir.clone()));
    }
}

/// Detaches what a killed daemon left, where no later mount does it.
pub fn detach(dir: &Path) {
    scratch::undo(&Leftover::Mount(dir.to_owned()));
}

/// Runs `mount.lunfs`, whatever comes of it.
#[track_caller]
pub fn mount_lunfs(image: &Path, dir: &Path, options: &str) -> Outcome {
    let args: [OsString; 4] = [image.into(), dir.into(), "-o".into(), with_more(options).into()];
    run(called("mount.lunfs"), args)
}

/// Mount options of a test, and those that all tests shall run with (`LUNFS_TEST_OPTIONS`). The test's own come last, so
/// that they win.
fn with_more(options: &str) -> String {
    match std::env::var("LUNFS_TEST_OPTIONS") {
        Ok(more) if !more.is_empty() => format!("{more},{options}"),
        _ => options.to_owned(),
    }
}

/// The mount point of a killed daemon cannot be asked whether it is a directory.
fn ignore_dead(error: std::io::Error) -> std::io::Result<()> {
    // EEXIST comes up where the directory cannot be looked at, ENOTCONN where its mount is dead.
    match error.raw_os_error() {
        Some(17 | 107) => Ok(()),
        _ => Err(error),
    }
}

/// Whether a FUSE filesystem answers at `dir`.
fn answers(dir: &Path) -> bool {
    // Not stat: for what it has cached, the kernel answers even when the daemon is dead.
    const FUSE_SUPER_MAGIC: i64 = 0x6573_5546;
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type == FUSE_SUPER_MAGIC)
}

/// The process that has an image open and runs our binary.
#[must_use]
pub fn daemon_of(image: &Path) -> Option<u32> {
    let image = image.canonicalize().ok()?;
    let binary = need::lunfs().metadata().ok()?;
    let is_ours = |pid: &u32| {
        let same = |exe: std::fs::Metadata| (exe.dev(), exe.ino()) == (binary.dev(), binary.ino());
        std::fs::metadata(format!("/proc/{pid}/exe")).is_ok_and(same)
    };
    let has_open = |pid: &u32| {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|target| target == image)
    };
    processes().into_iter().find(|pid| is_ours(pid) && has_open(pid))
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The letter that /proc shows for a process (`R`, `S`, `D`, `Z` …); `None` if there is no such process.
#[must_use]
pub fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

/// One mount of /proc/self/mountinfo.
#[derive(Debug, Clone)]
pub struct MountLine {
    /// Device number as the kernel counts: for FUSE, the name of the connection in fusectl.
    pub connection: u64,
    /// Where.
    pub dir: PathBuf,
    /// Type with its subtype.
    pub fstype: String,
    /// What.
    pub source: String,
}

/// What is mounted, oldest first.
#[must_use]
pub fn mountinfo() -> Vec<MountLine> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (major, minor) = left.get(2)?.split_once(':')?;
            let connection = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
            let dir = PathBuf::from(left.get(4)?.replace("\\040", " "));
            Some(MountLine {
                connection,
                dir,
                fstype: (*right.first()?).to_owned(),
                source: (*right.get(1)?).to_owned(),
            })
        })
        .collect()
}

/// How many mounts are below `dir`, or of something below it. Mounts elsewhere belong to others, who may come and go.
#[must_use]
pub fn mounts_below(dir: &Path) -> usize {
    mountinfo().iter().filter(|line| line.dir.starts_with(dir) || Path::new(&line.source).starts_with(dir)).count()
}
