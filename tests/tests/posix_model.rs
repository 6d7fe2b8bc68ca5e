//! Random sequences by several users on a real mount, where the kernel checks permissions: the same answers, errors and
//! trees as the model has. `LUNFS_TEST_FS=ext4` runs them on ext4, which is how the model itself is checked.
//!
//! `LUNFS_MODEL_SEQUENCES` sets how many sequences are tried, `LUNFS_SEED` the first seed. A failure prints the line that
//! repeats it, and the shortest sequence that was found to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

#[path = "posix_model/run.rs"]
mod run;

use std::os::unix::fs::PermissionsExt;
use std::path::Path as FilePath;

use lunfs_tests::mount::Mount;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;
use lunfs_tests::volume::{Kind as Filesystem, Volume, kind};
use lunfs_tests::watchdog::{Watchdog, step};
use posix_model::errno::{EACCES, EPERM};
use posix_model::generate::{Generator, Profile};
use posix_model::op::{Kind, Path, Step, listing};
use posix_model::rng::Rng;
use posix_model::shrink::shrink;
use posix_model::tree::{self, Surface, Tree};
use run::{Runner, same, same_stat};

const STEPS: usize = 200;
/// Everybody may make names in the directory of a sequence.
const MODE: u32 = 0o777;
const BLOCK_BYTES: u64 = 4096;

fn profile() -> Profile {
    Profile {
        block_bytes: BLOCK_BYTES,
        file_bytes_max: 30 * BLOCK_BYTES,
        write_bytes_max: 10 * BLOCK_BYTES,
        // What ext4 has room for.
        xattr_bytes_max: 50,
        users: true,
        syncs: 2,
        names_max: 60,
        single_blocks: false,
    }
}

fn surface() -> Surface {
    let setting = std::fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap_or_default();
    Surface::Kernel { protected_hardlinks: setting.trim() == "1" }
}

/// How often the kernel refused something.
#[derive(Debug, Default)]
struct Refused {
    access: u64,
    owner: u64,
}

/// Why the filesystem does not do what the model does, in a new directory below `dir`.
fn differs(dir: &FilePath, steps: &[Step], refused: &mut Refused) -> Option<String> {
    let root = dir.join("w");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, PermissionsExt::from_mode(MODE)).unwrap();
    let mut runner = Runner::new(&root);
    let mut tree = Tree::new(surface(), MODE);
    let mut difference = None;
    for (number, step) in steps.iter().enumerate() {
        let (expected, found) = (tree.apply(step), runner.run(step));
        match found {
            Err(EACCES) => refused.access += 1,
            Err(EPERM) => refused.owner += 1,
            _ => {}
        }
        if !same(&expected, &found) {
            difference = Some(format!("step {number}, {step}: answered {found:?} instead of {expected:?}"));
            break;
        }
    }
    let difference = difference.or_else(|| tree_differs(&mut runner, &tree));
    drop(runner);
    std::fs::remove_dir_all(&root).unwrap();
    difference
}

fn tree_differs(runner: &mut Runner, tree: &Tree) -> Option<String> {
    let mut names = tree.names();
    names.push((Path::default(), tree::ROOT));
    for (path, id) in names {
        let inode = tree.inode(id);
        let look = match runner.look(&path) {
            Ok(look) => look,
            Err(errno) => return Some(format!("at the end, {path}: {errno}")),
        };
        if !same_stat(&inode.stat(), &look.stat) {
            return Some(format!("at the end, {path} is {:?} instead of {:?}", look.stat, inode.stat()));
        }
        if *inode.content != look.content {
            return Some(format!("at the end, {path} has other content"));
        }
        let user = inode.xattrs.iter().map(|(name, value)| (format!("user.{name}"), value.to_vec()));
        let lists = [("access", inode.access), ("default", inode.default)];
        let lists = lists
            .iter()
            .filter_map(|(name, list)| Some((format!("system.posix_acl_{name}"), list.as_ref()?.to_bytes())));
        let mut attributes: Vec<_> = user.chain(lists).collect();
        attributes.sort_unstable();
        if attributes != look.attributes {
            return Some(format!("at the end, {path} has attributes {:?} instead of {attributes:?}", look.attributes));
        }
        if inode.kind == Kind::Directory {
            let listed = runner.run(&Step { user: 0, op: posix_model::op::Op::List { path: path.clone() } });
            let names = Ok(posix_model::op::Answer::Names(inode.entries.keys().cloned().collect()));
            if listed != names {
                return Some(format!("at the end, {path} lists {listed:?} instead of {names:?}"));
            }
        }
    }
    None
}

fn check(dir: &FilePath, seed: u64, refused: &mut Refused) {
    let mut tree = Tree::new(surface(), MODE);
    let steps = Generator::new(profile(), Rng::new(seed)).steps(&mut tree, STEPS);
    let Some(reason) = differs(dir, &steps, refused) else { return };
    let short = shrink(steps, 300, |steps| differs(dir, steps, refused).is_some());
    let reason_now = differs(dir, &short, refused).unwrap_or_default();
    panic!(
        "{reason}\nshortened to {} steps: {reason_now}\n{}repeat: LUNFS_SEED={seed} LUNFS_MODEL_SEQUENCES=1 tests/run \
         posix_model",
        short.len(),
        listing(&short)
    );
}

#[test]
fn a_mount_answers_as_the_model_does() {
    need::root_and_fuse();
    let _watchdog = Watchdog::minutes("posix_model", need::amount(15, 600));
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("LUNFS_SEED").unwrap_or(1);
    let sequences = number("LUNFS_MODEL_SEQUENCES").unwrap_or(need::amount(150, 20_000));

    let scratch = Scratch::new("posix-model");
    let extra: &[&str] = if kind() == Filesystem::Lunfs { &["-j", "1"] } else { &[] };
    let volume = Volume::make(scratch.path("volume.img"), "256M", extra);
    let dir = scratch.path("mnt");
    let mount = Mount::foreground(&volume, &dir, "single");
    let mut refused = Refused::default();
    for seed in first..first + sequences {
        let _step = step(&format!("sequence {seed}"));
        check(&dir, seed, &mut refused);
    }
    println!("{refused:?}");
    assert!(refused.access >= sequences && refused.owner >= sequences, "hardly anything was refused: {refused:?}");
    mount.umount();
    volume.assert_clean();
}
