//! Commands to a mounted volume: df, freeze, thaw, remount, and whatever else arrives at the control socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lunfs_tests::command::{Outcome, run, until};
use lunfs_tests::files::errno;
use lunfs_tests::mount::{Mount, process_state};
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Kind, Volume, assert_fsck_clean, kind};
use lunfs_tests::watchdog::Watchdog;
use rustix::io::Errno;
use serde_json::Value;

/// Longest time that something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A mounted volume, or nothing for the stand-in, which has no daemon.
fn mounted(scratch: &Scratch) -> Option<(Volume, Mount)> {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2"]);
    if kind() == Kind::Ext4 {
        println!("not run: the stand-in has no daemon");
        return None;
    }
    let volume = Volume::make(scratch.path("volume.img"), "128M", &["-j", "1", "-J", "8M", "-L", "shelf"]);
    let mount = Mount::foreground(&volume, &scratch.path("mnt"), "single");
    Some((volume, mount))
}

fn lunfs<A: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = A>) -> Outcome {
    run(need::lunfs(), arguments)
}

fn on(command: &str, spec: &Path) -> Outcome {
    lunfs([command.as_ref(), spec.as_os_str()])
}

fn remount(mount: &Mount, volume: &Volume, options: &str) -> Outcome {
    let options = format!("remount,single,{options}");
    lunfs(["mount".as_ref(), "-o".as_ref(), options.as_ref(), volume.image().as_os_str(), mount.dir().as_os_str()])
}

/// The volume as `lunfs df --json` shows it.
fn shown(spec: &Path) -> Value {
    let text = lunfs(["df".as_ref(), "--json".as_ref(), spec.as_os_str()]).ok().text();
    serde_json::from_str::<Value>(&text).unwrap()["volumes"][0].clone()
}

/// A process that appends a line to a file. Gone when this is dropped.
struct Writer(Child);

impl Writer {
    fn start(file: &Path) -> Self {
        let script = "echo line >>\"$1\"";
        let child = Command::new("sh").args(["-c", script, "sh"]).arg(file).stdin(Stdio::null()).spawn().unwrap();
        Self(child)
    }

    fn wait_until_it_waits(&self, mount: &Mount) {
        let waiting = connection(mount).join("waiting");
        until("the writer waits in the filesystem", PATIENCE, || fs::read_to_string(&waiting).unwrap().trim() != "0");
        assert!(process_state(self.0.id()).is_some_and(|state| state != 'Z'));
    }

    fn finish(&mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn connection(mount: &Mount) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(mount.dir()).unwrap().dev();
    Path::new("/sys/fs/fuse/connections").join(rustix::fs::minor(device).to_string())
}

fn socket(mount: &Mount) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(mount.dir()).unwrap().dev();
    PathBuf::from(format!("/run/lunfs/{}:{}.sock", rustix::fs::major(device), rustix::fs::minor(device)))
}

#[test]
fn a_frozen_volume_can_be_copied_and_changes_wait() {
    let scratch = Scratch::new("freeze");
    let Some((volume, mount)) = mounted(&scratch) else { return };
    let _watchdog = Watchdog::minutes("freeze", 10);
    fs::write(mount.path("before"), "before").unwrap();
    on("freeze", mount.dir()).ok();
    assert_eq!(shown(mount.dir())["state"], "frozen");
    let again = on("freeze", mount.dir()).status_is(&[1]).text();
    assert!(again.contains("frozen: thaw it first"), "{again}");

    let mut writer = Writer::start(&mount.path("during"));
    writer.wait_until_it_waits(&mount);
    let copy = scratch.path("copy.img");
    fs::copy(volume.image(), &copy).unwrap();
    assert_fsck_clean(&copy);
    assert_eq!(fs::read_to_string(mount.path("before")).unwrap(), "before");
    let copied = Mount::foreground(&Volume::existing(copy), &scratch.path("copied"), "single,ro");
    assert_eq!(fs::read_to_string(copied.path("before")).unwrap(), "before");
    assert!(!copied.path("during").exists());
    copied.umount();

    let refused = on("umount", mount.dir()).status_is(&[32]).text();
    assert!(refused.contains("lunfs thaw"), "{refused}");
    // By its device this time.
    on("thaw", volume.image()).ok();
    writer.finish();
    assert_eq!(fs::read_to_string(mount.path("during")).unwrap(), "line\n");
    let not_frozen = on("thaw", mount.dir()).status_is(&[1]).text();
    assert!(not_frozen.contains("not frozen"), "{not_frozen}");
    mount.umount();
    volume.assert_clean();
}

#[test]
fn a_signal_ends_a_frozen_mount_with_all_that_waited() {
    let scratch = Scratch::new("freeze-signal");
    let Some((volume, mount)) = mounted(&scratch) else { return };
    let _watchdog = Watchdog::minutes("freeze-signal", 10);
    on("freeze", mount.dir()).ok();
    let writer = Writer::start(&mount.path("during"));
    writer.wait_until_it_waits(&mount);
    let pid = rustix::process::Pid::from_raw(i32::try_from(mount.pid().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (status, said) = mount.wait_for_end();
    assert_eq!(status, Some(0), "{said}");
    drop(writer);
    volume.assert_clean();
}

#[test]
fn a_mount_becomes_read_only_and_writable_again() {
    let scratch = Scratch::new("remount");
    let Some((volume, mount)) = mounted(&scratch) else { return };
    let _watchdog = Watchdog::minutes("remount", 10);
    let open = fs::File::create(mount.path("open")).unwrap();
    let busy = remount(&mount, &volume, "ro").status_is(&[32]).text();
    assert!(busy.contains("open for writing"), "{busy}");
    fs::write(mount.path("still writable"), "").unwrap();
    drop(open);

    until("files are closed", PATIENCE, || remount(&mount, &volume, "ro").status_is(&[0, 32]).text().is_empty());
    assert_eq!(errno(fs::write(mount.path("new"), "")), Errno::ROFS.raw_os_error());
    assert_eq!(shown(mount.dir())["state"], "read-only");
    // It is on disk, and the journal is clean, although it is mounted.
    assert_fsck_clean(volume.image());
    remount(&mount, &volume, "rw,nosuid").ok();
    fs::write(mount.path("new"), "new").unwrap();
    assert_eq!(shown(mount.dir())["state"], "writable");
    mount.umount();
    volume.assert_clean();

    let mount = Mount::foreground(&volume, &scratch.path("mnt"), "single,ro");
    let refused = remount(&mount, &volume, "rw").status_is(&[32]).text();
    assert!(refused.contains("read-only"), "{refused}");
    assert_eq!(errno(fs::write(mount.path("new"), "")), Errno::ROFS.raw_os_error());
    mount.umount();
}

#[test]
fn df_shows_what_is_mounted() {
    let scratch = Scratch::new("df");
    let Some((volume, mount)) = mounted(&scratch) else { return };
    let before = shown(mount.dir());
    assert_eq!(before["label"], "shelf");
    assert_eq!(before["device"], volume.image().to_str().unwrap());
    assert_eq!(before["mounted_on"], mount.dir().to_str().unwrap());
    fs::write(mount.path("file"), vec![1; 1 << 20]).unwrap();
    let after = shown(volume.image());
    let bytes = |shown: &Value, key: &str| shown[key].as_u64().unwrap();
    assert!(bytes(&after, "used") >= bytes(&before, "used") + (1 << 20));
    assert_eq!(bytes(&after, "used") + bytes(&after, "free"), bytes(&after, "size"));
    assert_eq!(bytes(&after, "inodes"), bytes(&before, "inodes") + 1);
    let all = lunfs(["df"]).ok().text();
    assert!(all.contains(mount.dir().to_str().unwrap()), "{all}");
    mount.umount();
    let gone = on("df", volume.image()).status_is(&[1]).text();
    assert!(gone.contains("no volume of lunfs is mounted here"), "{gone}");
    let other = on("freeze", Path::new("/proc")).status_is(&[1]).text();
    assert!(other.contains("no volume of lunfs is mounted here"), "{other}");
}

#[test]
fn who_is_not_root_can_look_and_change_nothing() {
    let scratch = Scratch::new("control-user");
    let Some((_volume, mount)) = mounted(&scratch) else { return };
    for mut stream in as_nobody(|| vec![UnixStream::connect(socket(&mount)).unwrap()]) {
        assert!(exchange(&mut stream, r#"{"version":1,"command":"volume"}"#)["result"]["pid"].is_u64());
        for command in [r#""freeze""#, r#""thaw""#, r#""read_only","read_only":true"#] {
            let answer = exchange(&mut stream, &format!(r#"{{"version":1,"command":{command}}}"#));
            assert_eq!(answer["error"]["errno"], Errno::PERM.raw_os_error(), "{command}: {answer}");
        }
    }
    assert_eq!(shown(mount.dir())["state"], "writable");
    mount.umount();
}

/// Runs `work` on a thread that has no privileges.
fn as_nobody<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let nobody = rustix::process::Uid::from_raw(65534);
    let unprivileged = || {
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap())
}

fn exchange(stream: &mut UnixStream, line: &str) -> Value {
    stream.write_all(line.as_bytes()).unwrap();
    stream.write_all(b"\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "hung up");
        answer.push(byte[0]);
    }
    serde_json::from_slice(&answer).unwrap()
}

#[test]
fn the_socket_survives_what_is_sent_to_it() {
    let scratch = Scratch::new("control-socket");
    let Some((volume, mount)) = mounted(&scratch) else { return };
    let _watchdog = Watchdog::minutes("control-socket", 10);
    let path = socket(&mount);
    let mut stream = UnixStream::connect(&path).unwrap();
    for (line, wanted) in [
        ("", Errno::INVAL),
        ("{", Errno::INVAL),
        ("[1,2]", Errno::INVAL),
        (r#"{"version":1,"command":"explode"}"#, Errno::INVAL),
        (r#"{"version":1,"command":"read_only"}"#, Errno::INVAL),
        (r#"{"version":2,"command":"volume"}"#, Errno::PROTONOSUPPORT),
        (r#"{"version":1,"command":"thaw"}"#, Errno::INVAL),
    ] {
        let answer = exchange(&mut stream, line);
        assert_eq!(answer["error"]["errno"], wanted.raw_os_error(), "{line}: {answer}");
        assert_eq!(answer["version"], 1);
    }
    // Several requests on one connection, and one that comes in pieces.
    stream.write_all(br#"{"version":1,"comm"#).unwrap();
    assert!(exchange(&mut stream, r#"and":"volume"}"#)["result"]["frozen"] == false);
    // A line without end: answered once, and hung up.
    let mut endless = UnixStream::connect(&path).unwrap();
    let flood = vec![b'x'; 1 << 20];
    endless.write_all(&flood).ok();
    let mut answer = Vec::new();
    endless.read_to_end(&mut answer).ok();
    assert!(answer.len() < 1 << 16);
    // Many who only listen do not keep others away, and nobody who goes away half-way hurts.
    let silent: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&path).unwrap()).collect();
    drop(exchange(&mut UnixStream::connect(&path).unwrap(), r#"{"version":1,"command":"volume"}"#));
    drop(silent);
    let mut gone = UnixStream::connect(&path).unwrap();
    gone.write_all(b"{\"version\":1,\"command\":\"volume\"}\n").unwrap();
    drop(gone);
    assert_eq!(shown(mount.dir())["state"], "writable");
    mount.umount();
    assert!(!path.exists(), "the socket outlives the mount");
    volume.assert_clean();
}

/// Users without privileges have a limited number of connections; root is not kept away by them.
#[test]
fn users_cannot_keep_root_from_the_socket() {
    let scratch = Scratch::new("control-crowd");
    let Some((_volume, mount)) = mounted(&scratch) else { return };
    let _watchdog = Watchdog::minutes("control-crowd", 10);
    let crowd: Vec<UnixStream> = as_nobody(|| (0..100).map(|_| UnixStream::connect(socket(&mount)).unwrap()).collect());
    on("freeze", mount.dir()).ok();
    on("thaw", mount.dir()).ok();
    drop(crowd);
    mount.umount();
}
