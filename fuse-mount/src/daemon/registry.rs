//! Where a daemon can be found: one small file in /run/lunfs for each mounted filesystem.
//!
//! The daemon holds a lock on its file as long as it lives. So a file without a lock is left over from a dead daemon,
//! whatever it says, and whoever gets the lock knows that the daemon is gone. The daemon writes how it ended into the
//! file and removes its name; who has it open can still read it.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::mount::mountinfo::FsId;

/// Longest record that is read, in bytes: paths are limited, so nothing sensible is longer.
const RECORD_MAX_BYTES: u64 = 64 << 10;

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its process.
    pub pid: u32,
    /// The device it serves.
    pub device: PathBuf,
    /// Where it was mounted.
    pub mounted_on: PathBuf,
    /// How far it is.
    pub state: State,
}

/// How far a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It serves requests.
    Serving,
    /// Nothing is mounted any more; what is dirty is being written.
    Stopping,
    /// All is on disk.
    Clean,
    /// It ended with this error.
    Failed(String),
}

/// The file of this daemon.
#[derive(Debug)]
pub struct Registration {
    file: File,
    path: PathBuf,
    record: Record,
}

/// The file of another daemon, which lived when it was opened.
#[derive(Debug)]
pub struct Registered {
    file: File,
    path: PathBuf,
    /// What it said then.
    pub record: Record,
}

/// The control socket that belongs to a record.
fn socket_of(record: &Path) -> PathBuf {
    record.with_extension("sock")
}

/// The folders that can hold the files: of the system, or of a user without access to it.
fn folders() -> Vec<PathBuf> {
    let mut folders = vec![PathBuf::from("/run/lunfs")];
    if let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| Path::new(own).is_absolute()) {
        folders.push(Path::new(&own).join("lunfs"));
    }
    folders
}

impl Registration {
    /// Registers this process as the daemon of `fs`.
    ///
    /// # Errors
    /// When no folder can be written to.
    pub fn new(fs: FsId, device: &Path, mounted_on: &Path) -> io::Result<Self> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for folder in folders() {
            match Self::new_in(&folder, fs, device, mounted_on) {
                Ok(registration) => return Ok(registration),
                Err(failed) => error = failed,
            }
        }
        Err(error)
    }

    fn new_in(folder: &Path, fs: FsId, device: &Path, mounted_on: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{fs}.json"));
        // The number is that of a live mount of ours. Whoever stands there has lost it: left over, or a daemon that is
        // still writing after its mount has gone, and that does not need the name any more.
        std::fs::remove_file(&path).ok();
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        // Those who look for living daemons hold the lock for a moment.
        file.lock()?;
        let record = Record {
            pid: std::process::id(),
            device: device.to_owned(),
            mounted_on: mounted_on.to_owned(),
            state: State::Serving,
        };
        let mut registration = Self { file, path, record };
        registration.write()?;
        Ok(registration)
    }

    /// Where the daemon is to listen to commands.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_of(&self.path)
    }

    /// Tells how far the daemon is.
    ///
    /// # Errors
    /// What writing the file reports.
    pub fn set_state(&mut self, state: State) -> io::Result<()> {
        self.record.state = state;
        self.write()
    }

    /// Takes the file away, when nothing of the device is in use any more: a mount that finds no file expects a free
    /// device. The lock, and what the daemon said last, stay until the process is gone.
    pub fn take_away(self) {
        // A later mount may have got the number, and the name with it.
        if self.has_its_name() {
            std::fs::remove_file(&self.path).ok();
        }
        // Not closed: closing gives the lock back, which says that the process is gone.
        std::mem::forget(self.file);
    }

    fn has_its_name(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (self.file.metadata(), self.path.metadata()) {
            (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.record)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)?;
        self.file.set_len(text.len() as u64)
    }
}

impl Registered {
    /// The living daemon of `fs`, if one is registered.
    #[must_use]
    pub fn of(fs: FsId) -> Option<Self> {
        folders().iter().find_map(|folder| Self::open(&folder.join(format!("{fs}.json"))))
    }

    /// The living daemon that serves `device`, if one is registered.
    #[must_use]
    pub fn serving(device: &Path) -> Option<Self> {
        Self::all().into_iter().find(|found| found.record.device == device)
    }

    /// All living daemons that are registered.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let files = folders().into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let records = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "json"));
        records.filter_map(|path| Self::open(&path)).collect()
    }

    /// Where the daemon can be talked to.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        socket_of(&self.path)
    }

    /// `None` if nobody holds the file's lock: then it is left over.
    fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            // The lock is given back with the descriptor.
            Ok(()) | Err(TryLockError::Error(_)) => return None,
        }
        let record = read(&mut file).ok()?;
        Some(Self { file, path: path.to_owned(), record })
    }

    /// What the daemon says of itself now.
    ///
    /// # Errors
    /// What reading the file reports.
    pub fn refresh(&mut self) -> io::Result<&Record> {
        self.record = read(&mut self.file)?;
        Ok(&self.record)
    }

    /// Waits until the daemon's process is gone, and returns the last thing it said.
    ///
    /// # Errors
    /// What waiting or reading reports.
    pub fn wait(mut self) -> io::Result<Record> {
        let pidfd = self.process();
        // Shared, so that others who look meanwhile do not take this process for the daemon.
        self.file.lock_shared()?;
        if let Some(pidfd) = pidfd {
            let mut waited_for = [PollFd::new(&pidfd, PollFlags::IN)];
            while rustix::event::poll(&mut waited_for, None) == Err(rustix::io::Errno::INTR) {}
        }
        Ok(self.refresh()?.clone())
    }

    /// The process behind the file, if it is one that can be seen from here. The lock alone tells that the process has
    /// closed its files; the process tells when it is gone as a whole.
    fn process(&self) -> Option<std::os::fd::OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.record.pid).ok()?)?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The number could belong to somebody else in this process's view of the system.
        let same = std::fs::read_link(format!("/proc/{}/exe", self.record.pid)).ok()?;
        let ours = std::env::current_exe().ok()?;
        (same.file_name()? == ours.file_name()?).then_some(pidfd)
    }
}

fn read(file: &mut File) -> io::Result<Record> {
    file.seek(SeekFrom::Start(0))?;
    let mut text = Vec::new();
    file.take(RECORD_MAX_BYTES).read_to_end(&mut text)?;
    // A shorter record may just be written over a longer one, of which the end is still there.
    let mut records = serde_json::Deserializer::from_slice(&text).into_iter();
    Ok(records.next().ok_or(io::ErrorKind::UnexpectedEof)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FS: FsId = FsId { major: 0, minor: 7 };

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lunfs-registry-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&folder).ok();
        folder
    }

    #[test]
    fn a_registered_daemon_is_found_as_long_as_it_holds_its_file() {
        let folder = folder("found");
        let path = folder.join("0:7.json");
        let registration = Registration::new_in(&folder, FS, Path::new("/dev/x"), Path::new("/mnt")).unwrap();
        let found = Registered::open(&path).unwrap();
        assert_eq!(found.record.device, Path::new("/dev/x"));
        assert_eq!(found.record.state, State::Serving);
        drop(registration);
        assert!(Registered::open(&path).is_none(), "without a lock it is left over");
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_left_over_file_does_not_stop_the_next_daemon() {
        let folder = folder("left");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("0:7.json"), "{ a torn rec").unwrap();
        assert!(Registered::open(&folder.join("0:7.json")).is_none());
        let registration = Registration::new_in(&folder, FS, Path::new("/dev/x"), Path::new("/mnt")).unwrap();
        drop(registration);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_daemon_that_still_writes_does_not_take_the_name_from_the_mount_that_got_its_number() {
        let folder = folder("number");
        let path = folder.join("0:7.json");
        let old = Registration::new_in(&folder, FS, Path::new("/dev/old"), Path::new("/mnt")).unwrap();
        let new = Registration::new_in(&folder, FS, Path::new("/dev/new"), Path::new("/mnt")).unwrap();
        old.take_away();
        assert_eq!(Registered::open(&path).unwrap().record.device, Path::new("/dev/new"));
        new.take_away();
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn registering_waits_for_those_who_only_look() {
        let folder = folder("look");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0:7.json");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    Registered::open(&path);
                }
            });
            for _ in 0..2000 {
                let made = Registration::new_in(&folder, FS, Path::new("/dev/x"), Path::new("/mnt"));
                if made.is_err() {
                    stop.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                drop(made.unwrap());
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_record_is_read_while_a_shorter_one_replaces_it() {
        let folder = folder("torn");
        let path = folder.join("0:7.json");
        let mut registration = Registration::new_in(&folder, FS, Path::new("/dev/x"), Path::new("/mnt")).unwrap();
        registration.set_state(State::Clean).unwrap();
        registration.file.write_all(b"ping\"}").unwrap();
        assert_eq!(Registered::open(&path).unwrap().record.state, State::Clean);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_last_words_can_be_read_after_the_name_is_gone() {
        let folder = folder("last");
        let path = folder.join("0:7.json");
        let mut registration = Registration::new_in(&folder, FS, Path::new("/dev/x"), Path::new("/mnt")).unwrap();
        let mut found = Registered::open(&path).unwrap();
        registration.set_state(State::Failed("a longer state than before".to_owned())).unwrap();
        registration.take_away();
        assert!(!path.exists());
        assert_eq!(found.refresh().unwrap().state, State::Failed("a longer state than before".to_owned()));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
