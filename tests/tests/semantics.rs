//! docs/semantics.md: each promise names a test that is there; and what no other suite holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use std::path::{Path, PathBuf};

use lunfs_tests::command::bash;
use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::Volume;
use lunfs_tests::watchdog::Watchdog;

/// The files of a suite: its own, and those of its folder.
fn sources(suite: &str) -> Vec<PathBuf> {
    let roots = ["tests/tests", "fs-core/tests", "fuse-mount/tests"].map(|folder| need::repository().join(folder));
    let own = roots.iter().map(|root| root.join(format!("{suite}.rs")));
    let inside = roots.iter().filter_map(|root| std::fs::read_dir(root.join(suite)).ok()).flatten().flatten();
    own.chain(inside.map(|entry| entry.path())).filter(|path| path.is_file()).collect()
}

fn is_there(suite: &str, test: &str) -> bool {
    let has = |path: &PathBuf| std::fs::read_to_string(path).unwrap().contains(&format!("#[test]\nfn {test}()"));
    sources(suite).iter().any(has)
}

#[test]
fn every_promise_names_a_test_that_is_there() {
    assert!(
        !is_there("kill", "what_nobody_wrote") && !is_there("nowhere", "what_fsync_acknowledged_survives_every_kill")
    );
    let page = std::fs::read_to_string(need::repository().join("docs/semantics.md")).unwrap();
    let mut named = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((suite, test)) = quoted.split_once(": ") else { continue };
        if test.contains('_') {
            assert!(is_there(suite, test), "docs/semantics.md names {quoted}, which is not there");
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}

fn on_a_volume(name: &'static str, options: &str, act: impl Fn(&Path)) {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "python3"]);
    let _watchdog = Watchdog::minutes(name, 5);
    let scratch = Scratch::new(name);
    let volume = Volume::make(scratch.path("volume.img"), "128M", &["-j", "1", "-J", "8M"]);
    let mount = Mount::new(&volume, &scratch.path("mnt"), options);
    act(mount.dir());
    mount.umount();
    volume.assert_sound();
}

#[test]
fn an_inode_keeps_its_number_over_renames_and_remounts() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2"]);
    let _watchdog = Watchdog::minutes("an_inode_keeps_its_number", 5);
    let scratch = Scratch::new("numbers");
    let volume = Volume::make(scratch.path("volume.img"), "128M", &["-j", "1", "-J", "8M"]);
    let dir = scratch.path("mnt");
    let mount = Mount::new(&volume, &dir, "single");
    let made = bash("cd \"$1\"; mkdir d e; : > d/f; stat -c %i . d d/f; mv d/f e/g; mv e d/e", [&dir]).ok().stdout;
    mount.umount();
    let mount = Mount::new(&volume, &dir, "single");
    assert_eq!(bash("cd \"$1\"; stat -c %i . d d/e/g", [&dir]).ok().stdout, made);
    mount.umount();
    volume.assert_sound();
}

#[test]
fn lines_that_several_processes_append_are_all_there_and_whole() {
    const SCRIPT: &str = r#"cd "$1"; python3 - <<'END'
import os
for writer in range(4):
    if os.fork() == 0:
        fd = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for line in range(500):
            text = b"%d %d %s\n" % (writer, line, b"x" * (line % 97))
            assert os.write(fd, text) == len(text)
        os._exit(0)
ends = [os.wait()[1] for _ in range(4)]
assert ends == [0] * 4, ends
lines = open("log", "rb").read().splitlines()
for writer in range(4):
    own = [line for line in lines if line.startswith(b"%d " % writer)]
    assert own == [b"%d %d %s" % (writer, line, b"x" * (line % 97)) for line in range(500)], writer
print(len(lines))
END"#;
    for options in ["single", "single,transport=fuser"] {
        on_a_volume("appends", options, |dir| assert_eq!(bash(SCRIPT, [dir]).ok().stdout, "2000\n"));
    }
}

#[test]
fn what_is_written_one_way_is_read_every_other_way() {
    const SCRIPT: &str = r#"cd "$1"; python3 - <<'END'
import mmap, os, random
SIZE, BLOCK = 1 << 20, 4096
rng = random.Random(5)
plain = os.open("file", os.O_RDWR | os.O_CREAT)
direct = os.open("file", os.O_RDWR | os.O_DIRECT)
os.ftruncate(plain, SIZE)
view = mmap.mmap(plain, SIZE)
aligned = mmap.mmap(-1, BLOCK)
model = bytearray(SIZE)
for step in range(600):
    at = rng.randrange(SIZE // BLOCK) * BLOCK
    data = rng.randbytes(BLOCK)
    how = rng.randrange(3)
    if how == 0:
        assert os.pwrite(plain, data, at) == BLOCK
    elif how == 1:
        view[at:at + BLOCK] = data
    else:
        aligned[:] = data
        assert os.pwritev(direct, [aligned], at) == BLOCK
    model[at:at + BLOCK] = data
    at = rng.choice([at, rng.randrange(SIZE // BLOCK) * BLOCK])
    assert os.pread(plain, BLOCK, at) == model[at:at + BLOCK], (step, how, "read")
    assert view[at:at + BLOCK] == model[at:at + BLOCK], (step, how, "mmap")
    assert os.preadv(direct, [aligned], at) == BLOCK
    assert aligned[:] == model[at:at + BLOCK], (step, how, "direct")
print("the same")
END"#;
    for options in ["single", "single,transport=fuser"] {
        on_a_volume("ways", options, |dir| assert_eq!(bash(SCRIPT, [dir]).ok().stdout, "the same\n"));
    }
}
