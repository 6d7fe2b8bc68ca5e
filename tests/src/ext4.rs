//! ext4 as the referee of what a call does: it is asked in the same run.

use std::path::{Path, PathBuf};

use crate::command::bash;
use crate::scratch::{Guard, Leftover, Scratch};

/// A mounted ext4; gone when dropped.
pub struct Ext4 {
    dir: PathBuf,
    _guard: Guard,
}

impl Ext4 {
    /// A new one of 200 MiB, below `scratch`.
    #[must_use]
    pub fn new(scratch: &Scratch) -> Self {
        let (image, dir) = (scratch.path("ext4.img"), scratch.path("ext4"));
        std::fs::create_dir(&dir).unwrap();
        let guard = Guard::new(Leftover::Mount(dir.clone()));
        bash(
            "truncate -s 200M \"$1\"; mkfs.ext4 -q -F \"$1\"; mount -o loop,acl,user_xattr \"$1\" \"$2\"",
            [&image, &dir],
        )
        .ok();
        Self { dir, _guard: guard }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Asserts that two outputs are the same, and shows where they part.
#[track_caller]
pub fn assert_same_lines(what: &str, left: &str, right: &str) {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let Some(number) = (0..left.len().max(right.len())).find(|at| left.get(*at) != right.get(*at)) else { return };
    let before = left[number.saturating_sub(12)..number].join("\n");
    panic!("{what}: line {number}, after\n{before}\nis\n{:?}\nand\n{:?}", left.get(number), right.get(number));
}

/// Runs a script in a new folder of both filesystems, and compares what it says.
#[track_caller]
pub fn same_on_ext4(name: &str, lunfs: &Path, ext4: &Path, script: &str, args: &[&Path]) -> String {
    let said: Vec<String> = [lunfs, ext4]
        .into_iter()
        .map(|base| {
            let dir = base.join(name);
            std::fs::create_dir(&dir).unwrap();
            std::os::unix::fs::chown(&dir, Some(0), Some(0)).unwrap();
            // Programs that an ordinary user can run as well.
            let line = format!("export PATH=/usr/sbin:/usr/bin:/sbin:/bin; cd \"$1\"; shift; {script}");
            bash(&line, [dir.as_path()].into_iter().chain(args.iter().copied())).ok().text()
        })
        .collect();
    assert_same_lines(&format!("{name} on lunfs, and on ext4"), &said[0], &said[1]);
    said[0].clone()
}
