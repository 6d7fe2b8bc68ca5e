//! What the daemon tells the kernel without being asked, and what the kernel tells the daemon in between: each notification
//! against the real kernel, interruptions of waiting processes, and requests that are sent twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.
#![allow(clippy::cast_possible_truncation)] // Sizes here are small.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fuse_mount::kernel::{NodeId, Notifier, Session, Transport, TransportOptions};
use fuse_mount::mount::options::Options;
use fuse_mount::mount::syscall::{self, FsType, Source};
use lunfs_tests::command::until;
use lunfs_tests::need;
use lunfs_tests::scratch::{Guard, Leftover, Scratch};
use lunfs_tests::watchdog::Watchdog;
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

#[path = "notifications/shelf.rs"]
mod shelf;

use shelf::{FILE, NAME, Shelf};

const SOON: Duration = Duration::from_secs(60);

/// A mounted [`Shelf`].
struct Mounted {
    shelf: Arc<Shelf>,
    notifier: Notifier,
    dir: PathBuf,
    session: Option<std::thread::JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
    _guard: Guard,
    _scratch: Scratch,
    _watchdog: Watchdog,
}

impl Mounted {
    fn new(transport: Transport) -> Self {
        need::root_and_fuse();
        let watchdog = Watchdog::minutes("notifications", 5);
        let scratch = Scratch::new("notifications");
        let dir = scratch.path("mnt");
        std::fs::create_dir(&dir).unwrap();
        let guard = Guard::new(Leftover::Mount(dir.clone()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let fuse = syscall::open_fuse().unwrap();
        let source = Source { kind: FsType::Fuse, device: Path::new("shelf"), sector_bytes: 0 };
        syscall::mount(&fuse, source, &dir, &Options::default()).unwrap();
        let shelf = Arc::new(Shelf::default());
        *shelf.content.lock() = Some(b"old content".to_vec());
        let options = TransportOptions { transport, ..TransportOptions::default() };
        let session = Session::open(fuse, Arc::clone(&shelf), runtime.handle().clone(), options).unwrap();
        let notifier = session.notifier().unwrap();
        let session = Some(std::thread::spawn(move || drop(session.run().unwrap())));
        Self { shelf, notifier, dir, session, _runtime: runtime, _guard: guard, _scratch: scratch, _watchdog: watchdog }
    }

    fn file(&self) -> PathBuf {
        self.dir.join(std::str::from_utf8(NAME).unwrap())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(self.file()).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Asserts that the kernel asks `counter` so many more times while `action` runs.
    fn asks(&self, counter: &AtomicU64, times: u64, action: impl FnOnce()) {
        let before = counter.load(Ordering::SeqCst);
        action();
        assert_eq!(counter.load(Ordering::SeqCst) - before, times);
    }

    fn stat(&self) {
        self.file().metadata().unwrap();
    }

    /// A process that waits for a lock of the file.
    fn waiting_process(&self) -> Child {
        const WAIT: &str = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX)";
        let before = self.shelf.locks.load(Ordering::SeqCst);
        let child = Command::new("python3").arg("-c").arg(WAIT).arg(self.file()).spawn().unwrap();
        until("the process waits", SOON, || self.shelf.locks.load(Ordering::SeqCst) > before);
        child
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = syscall::unmount(&self.dir, UnmountFlags::DETACH);
        if let (Ok(()), Some(session)) = (unmounted, self.session.take()) {
            let ended = session.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the session ends with the mount");
        }
    }
}

/// Everything that one way is enough for: what is sent is the same over both transports.
fn over_both(test: impl Fn(&Mounted)) {
    for transport in [Transport::Native, Transport::Fuser] {
        test(&Mounted::new(transport));
    }
}

fn errno(result: std::io::Result<()>) -> Errno {
    Errno::from_raw_os_error(result.unwrap_err().raw_os_error().unwrap())
}

/// The revision of the protocol that the kernel speaks, by the version of Linux that brought it.
fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

#[test]
fn attributes_are_forgotten() {
    over_both(|mounted| {
        mounted.stat();
        mounted.asks(&mounted.shelf.getattrs, 0, || mounted.stat());
        *mounted.shelf.content.lock() = Some(b"longer than before".to_vec());
        mounted.notifier.invalidate_attributes(FILE).unwrap();
        mounted.asks(&mounted.shelf.getattrs, 1, || assert_eq!(mounted.file().metadata().unwrap().size(), 18));
        assert_eq!(errno(mounted.notifier.invalidate_attributes(NodeId(99))), Errno::NOENT);
    });
}

#[test]
fn pages_are_forgotten() {
    over_both(|mounted| {
        assert_eq!(mounted.text(), "old content");
        *mounted.shelf.content.lock() = Some(b"new content".to_vec());
        mounted.asks(&mounted.shelf.reads, 0, || assert_eq!(mounted.text(), "old content"));
        mounted.notifier.invalidate_pages(FILE, 0, 0).unwrap();
        mounted.asks(&mounted.shelf.reads, 1, || assert_eq!(mounted.text(), "new content"));
        assert_eq!(errno(mounted.notifier.invalidate_pages(NodeId(99), 0, 0)), Errno::NOENT);
    });
}

#[test]
fn names_are_looked_up_again() {
    over_both(|mounted| {
        let (lookups, notifier) = (&mounted.shelf.lookups, &mounted.notifier);
        let again = |forget: &dyn Fn()| {
            mounted.stat();
            mounted.asks(lookups, 0, || mounted.stat());
            forget();
            mounted.asks(lookups, 1, || mounted.stat());
        };
        again(&|| notifier.invalidate_entry(NodeId::ROOT, NAME).unwrap());
        if kernel_is_at_least(6, 2) {
            again(&|| notifier.expire_entry(NodeId::ROOT, NAME).unwrap());
        }
        if kernel_is_at_least(6, 16) {
            again(&|| notifier.expire_all_entries().unwrap());
        }
        assert_eq!(errno(notifier.invalidate_entry(NodeId::ROOT, b"other")), Errno::NOENT);
        assert_eq!(errno(notifier.invalidate_entry(NodeId(99), NAME)), Errno::NOENT);
    });
}

#[test]
fn a_removed_name_is_gone_at_once() {
    over_both(|mounted| {
        mounted.stat();
        *mounted.shelf.content.lock() = None;
        mounted.stat();
        mounted.notifier.delete(NodeId::ROOT, FILE, NAME).unwrap();
        assert!(!mounted.file().exists());
        assert_eq!(errno(mounted.notifier.delete(NodeId::ROOT, FILE, b"other")), Errno::NOENT);
    });
}

#[test]
fn data_is_put_into_the_page_cache() {
    over_both(|mounted| {
        mounted.stat();
        mounted.notifier.store(FILE, 0, b"pushed over").unwrap();
        mounted.asks(&mounted.shelf.reads, 0, || assert_eq!(mounted.text(), "pushed over"));
        // How long the file is, the daemon is asked.
        mounted.notifier.store(FILE, 7, b"past the end").unwrap();
        assert_eq!(mounted.text(), "pushed past");
        assert_eq!(errno(mounted.notifier.store(NodeId(99), 0, b"x")), Errno::NOENT);
    });
}

#[test]
fn data_is_taken_out_of_the_page_cache() {
    let mounted = Mounted::new(Transport::Native);
    mounted.stat();
    assert_eq!(mounted.notifier.retrieve(FILE, 0, 4096).unwrap().recv_timeout(SOON).unwrap().data, b"");
    mounted.text();
    let pages = mounted.notifier.retrieve(FILE, 0, 4096).unwrap().recv_timeout(SOON).unwrap();
    assert_eq!((pages.offset_bytes, pages.data), (0, b"old content".to_vec()));
    mounted.notifier.retrieve(NodeId(99), 0, 4096).unwrap_err();
}

#[test]
fn unused_inodes_are_given_back() {
    if !kernel_is_at_least(6, 18) {
        println!("not run: the kernel cannot do it");
        return;
    }
    over_both(|mounted| {
        mounted.stat();
        assert_eq!(mounted.shelf.forgotten.load(Ordering::SeqCst), 0);
        mounted.notifier.prune(&[FILE, NodeId(99)]).unwrap();
        let references = mounted.shelf.lookups.load(Ordering::SeqCst);
        until("it is forgotten", SOON, || mounted.shelf.forgotten.load(Ordering::SeqCst) == references);
    });
}

#[test]
fn a_process_that_waits_can_be_killed() {
    need::tools(&["python3"]);
    let mounted = Mounted::new(Transport::Native);
    for _ in 0..20 {
        let interrupted = mounted.shelf.interrupted.load(Ordering::SeqCst);
        let mut child = mounted.waiting_process();
        child.kill().unwrap();
        child.wait().unwrap();
        until("the handler knows", SOON, || mounted.shelf.interrupted.load(Ordering::SeqCst) > interrupted);
    }
}

#[test]
fn a_process_that_waits_gets_what_it_waited_for() {
    need::tools(&["python3"]);
    let mounted = Mounted::new(Transport::Native);
    let mut child = mounted.waiting_process();
    mounted.shelf.unlock.notify_waiters();
    assert!(child.wait().unwrap().success());
    assert_eq!(mounted.shelf.interrupted.load(Ordering::SeqCst), 0);
}

#[test]
fn requests_are_sent_again_on_demand() {
    need::tools(&["python3"]);
    if !kernel_is_at_least(6, 9) {
        println!("not run: the kernel cannot do it");
        return;
    }
    let mounted = Mounted::new(Transport::Native);
    let mut child = mounted.waiting_process();
    mounted.notifier.resend().unwrap();
    until("it has come twice", SOON, || mounted.shelf.locks.load(Ordering::SeqCst) == 2);
    mounted.shelf.unlock.notify_waiters();
    assert!(child.wait().unwrap().success());
}
