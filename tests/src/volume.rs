//! Volumes: images made by mkfs, and what the referees say about them.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::command::{Outcome, run};
use crate::need;
use crate::scratch::remember;

/// Which filesystem is under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Lunfs,
    /// The kernel's ext4 on a loop device: what the tests themselves are tried on (`LUNFS_TEST_FS=ext4`). A kill is its
    /// shutdown ioctl without a flush of the log.
    Ext4,
}

/// What this run tests.
#[must_use]
pub fn kind() -> Kind {
    match std::env::var("LUNFS_TEST_FS").as_deref() {
        Ok("ext4") => Kind::Ext4,
        Ok("lunfs") | Err(_) => Kind::Lunfs,
        Ok(other) => panic!("LUNFS_TEST_FS is lunfs or ext4, not {other}"),
    }
}

/// Whether a name at the top of a volume is none of the tests' business: the stand-in's own directory.
#[must_use]
pub fn is_foreign(name: &std::ffi::OsStr) -> bool {
    kind() == Kind::Ext4 && name == "lost+found"
}

/// A path by which `lunfs` answers as `name`: a link in a folder beside the binary.
#[must_use]
pub fn called(name: &str) -> PathBuf {
    static LINKS: OnceLock<PathBuf> = OnceLock::new();
    let links = LINKS.get_or_init(|| {
        let binary = need::lunfs();
        let folder = binary.with_extension("names");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["lunfs", "mkfs.lunfs", "mount.lunfs", "umount.lunfs", "fsck.lunfs"] {
            let link = folder.join(name);
            if std::fs::read_link(&link).is_ok_and(|target| target == binary) {
                continue;
            }
            let _ = std::fs::remove_file(&link);
            symlink(binary, &link).unwrap_or_else(|error| panic!("cannot make {}: {error}", link.display()));
        }
        folder
    });
    links.join(name)
}

/// An image with a filesystem in it.
#[derive(Debug, Clone)]
pub struct Volume {
    kind: Kind,
    image: PathBuf,
}

impl Volume {
    /// Makes one of `size` (as mkfs understands it: "512M") with further arguments for mkfs.lunfs.
    #[track_caller]
    pub fn make(image: PathBuf, size: &str, extra: &[&str]) -> Self {
        let kind = kind();
        match kind {
            // All suites can also be run on volumes of the other maker.
            Kind::Lunfs if std::env::var_os("LUNFS_TEST_MKFS").is_some_and(|maker| maker == "gfs2") => {
                make_by_gfs2(&image, size, extra);
            }
            Kind::Lunfs => {
                let mut args: Vec<OsString> = vec!["-q".into()];
                args.extend(extra.iter().map(OsString::from));
                args.push(image.clone().into());
                args.push(size.into());
                run(called("mkfs.lunfs"), args).ok();
            }
            Kind::Ext4 => {
                run("truncate", [OsString::from("-s"), size.into(), image.clone().into()]).ok();
                run("mkfs.ext4", ["-q".into(), "-F".into(), image.clone().into_os_string()]).ok();
            }
        }
        Self { kind, image }
    }

    /// An image that exists: one of another maker, or a copy.
    #[must_use]
    pub fn existing(image: PathBuf) -> Self {
        Self { kind: kind(), image }
    }

    /// Which filesystem.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where its image is.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Another volume with the same bytes, holes included.
    #[track_caller]
    #[must_use]
    pub fn copy(&self, image: PathBuf) -> Self {
        run("cp", [OsString::from("--sparse=always"), self.image.clone().into(), image.clone().into()]).ok();
        Self { kind: self.kind, image }
    }

    /// Asserts that the referee finds nothing: status 0, no complaint, no journal to replay.
    #[track_caller]
    pub fn assert_clean(&self) {
        match self.kind {
            Kind::Lunfs => assert_fsck_clean(&self.image),
            Kind::Ext4 => drop(run("e2fsck", ["-fn".as_ref(), self.image.as_os_str()]).ok()),
        }
    }

    /// Asserts that neither the referee nor the project's own checker finds anything.
    #[track_caller]
    pub fn assert_sound(&self) {
        self.assert_clean();
        if self.kind == Kind::Lunfs {
            run(called("lunfs"), ["debug".as_ref(), self.image.as_os_str(), "check".as_ref()]).ok();
        }
    }

    /// Lets the referee replay the journal and repair; asserts that a check is clean afterwards.
    #[track_caller]
    pub fn repair(&self) -> Outcome {
        match self.kind {
            Kind::Lunfs => {
                let again = || run("fsck.gfs2", ["-y".as_ref(), self.image.as_os_str()]).status_is(&[0, 1]);
                let said = again();
                // It frees orphans after it has counted: its first pass leaves a wrong sum in the statfs file.
                again();
                assert_fsck_clean(&self.image);
                said
            }
            Kind::Ext4 => run("e2fsck", ["-fyE".as_ref(), "no_optimize_extents".as_ref(), self.image.as_os_str()])
                .status_is(&[0, 1]),
        }
    }
}

/// A volume that `mkfs.gfs2` made.
#[track_caller]
pub fn make_by_gfs2(image: &Path, size: &str, extra: &[&str]) {
    run("truncate", ["-s".as_ref(), size.as_ref(), image.as_os_str()]).ok();
    // It takes sizes of journals in MiB, without a letter.
    let extra = extra.iter().map(|word| word.trim_end_matches('M'));
    let args = ["-q", "-O", "-p", "lock_nolock"].into_iter().chain(extra).map(std::ffi::OsStr::new);
    run("mkfs.gfs2", args.chain([image.as_os_str()])).ok();
}

/// Asserts that `fsck.gfs2 -n` finds nothing in an image.
#[track_caller]
pub fn assert_fsck_clean(image: &Path) {
    let said = run("fsck.gfs2", ["-n".as_ref(), image.as_os_str()]);
    // All its complaints go to standard error, "Journal … is dirty" among them.
    assert!(
        said.status == 0 && said.stderr.trim().is_empty(),
        "fsck.gfs2 -n {} is not clean: status {}\n{}\n{}",
        image.display(),
        said.status,
        head(&said.stderr),
        head(&said.stdout),
    );
}

/// The first lines: with fsck, later complaints mostly follow from earlier ones.
fn head(text: &str) -> String {
    text.lines().take(40).collect::<Vec<_>>().join("\n")
}

/// A loop device over a file; gone when dropped.
pub struct LoopDevice {
    path: String,
}

impl LoopDevice {
    /// Attaches `image`; `extra` are arguments of losetup.
    #[track_caller]
    #[must_use]
    pub fn attach(image: &Path, extra: &[&str]) -> Self {
        let mut args: Vec<OsString> = vec!["--find".into(), "--show".into()];
        args.extend(extra.iter().map(OsString::from));
        args.push(image.into());
        let path = run("losetup", args).ok().stdout.trim().to_owned();
        remember(crate::scratch::Leftover::Loop(path.clone()));
        // A device keeps "read-only" from an earlier user who said so.
        if !extra.contains(&"--read-only") {
            run("blockdev", ["--setrw", &path]).ok();
        }
        Self { path }
    }

    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        crate::scratch::undo(&crate::scratch::Leftover::Loop(self.path.clone()));
    }
}
