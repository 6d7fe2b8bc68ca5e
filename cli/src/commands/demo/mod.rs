//! `lunfs demo`: everything that a volume goes through, on this machine, in a folder that is removed afterwards.
//!
//! Laws
//! * It does what a user would do, through the same programs: nothing of the filesystem is called from here.
//! * What a writer was told to be safe is written down in this process, before the daemon is killed.
//! * Whatever happens, nothing is left behind, unless `--keep` asks for it.

mod content;
mod interrupt;
mod namespace;
mod place;
mod steps;
mod tree;
mod writers;

use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use self::place::Place;
use self::steps::Steps;
use self::writers::{Acknowledged, Load};
use super::{Command, Run};
use crate::output::{Format, human_bytes};

/// The table's entry.
pub(crate) const COMMAND: Command = Command::new::<Demo>("demo");

/// Size of the volume, in bytes. The image is sparse: it takes the space of what is written.
const VOLUME_BYTES: u64 = 1 << 30;
/// Programs that write while the daemon is killed.
const WRITERS: u32 = 4;
/// Shortest time of writing before the kill.
const LOAD_TIME_MIN: Duration = Duration::from_secs(2);
/// Longest time of writing before the kill, on a slow disk.
const LOAD_TIME_MAX: Duration = Duration::from_secs(15);
/// Writes that have to be acknowledged before the kill.
const ACKNOWLEDGED_MIN: u64 = 200;

/// Make a volume in a temporary folder, fill it, kill it under load, and show that nothing is lost
///
/// Needs /dev/fuse, and root or user namespaces. Takes a few hundred MiB below TMPDIR for less than a minute.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave the volume mounted, and the folder in place
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    format: Format,
    /// The folder, for the part that runs in a namespace of its own
    #[arg(long, hide = true, value_name = "DIR")]
    inside: Option<PathBuf>,
}

impl Run for Demo {
    fn run(self) -> anyhow::Result<ExitCode> {
        namespace::check_fuse()?;
        let place = match self.inside {
            Some(dir) => Place::in_namespace(dir),
            None => {
                let place = Place::make()?;
                if !namespace::may_mount() {
                    let error = namespace::enter(&place);
                    place.clean_up().ok();
                    return Err(error);
                }
                place
            }
        };
        interrupt::clean_up_on_signals(place.clone())?;
        let mut steps = Steps::new(self.format);
        let played = play(&place, &mut steps, self.keep);
        interrupt::stop_if_asked();
        let cleaned = if self.keep { keep(&place, &mut steps) } else { clean_up(&place, &mut steps) };
        steps.finish(played.and(cleaned))
    }
}

/// The demonstration itself.
fn play(place: &Place, steps: &mut Steps, keep: bool) -> anyhow::Result<()> {
    steps.run("make a volume", || {
        let written = human_bytes(place.format(VOLUME_BYTES)?);
        Ok(format!("{} in {}, of which {written} were written", human_bytes(VOLUME_BYTES), place.image().display()))
    })?;
    steps.run("mount it", || Ok(format!("on {}, daemon is process {}", place.mounted().display(), place.mount()?)))?;

    let mut copied = tree::Copied::default();
    steps.run("copy a tree", || {
        tree::generate(&place.source())?;
        copied.copy(&place.source(), &place.mounted().join("generated"))?;
        let system = copied.copy_some_of_system(&place.mounted().join("system"))?;
        Ok(format!("{} files, {}; some of them from {system}", copied.files(), human_bytes(copied.bytes())))
    })?;
    steps.run("compare it", || copied.compare().map(|()| "identical".to_owned()))?;
    steps.run("unmount, mount, compare again", || {
        place.unmount()?;
        place.mount()?;
        copied.compare().map(|()| "identical".to_owned())
    })?;

    let acknowledged = kill_under_load(place, steps)?;
    steps.run("mount it again", || Ok(format!("journal replayed, daemon is process {}", place.mount()?)))?;
    steps.run("look for what fsync acknowledged", || {
        let found = acknowledged.check()?;
        Ok(format!("all {} writes are there with the right content, {}", found.writes, human_bytes(found.bytes)))
    })?;
    steps.run("compare the tree", || copied.compare().map(|()| "identical".to_owned()))?;
    steps.run("unmount it", || place.unmount().map(|()| "everything is on disk".to_owned()))?;
    steps.run("check it with fsck.gfs2 -n", || check(place))?;
    if keep {
        steps.run("mount it once more", || {
            Ok(format!("on {}, as process {}", place.mounted().display(), place.mount()?))
        })?;
    }
    Ok(())
}

/// Lets programs write, and kills the daemon in the midst of it. Returns what they were told to be safe.
fn kill_under_load(place: &Place, steps: &mut Steps) -> anyhow::Result<Acknowledged> {
    let folder = place.mounted().join("load");
    let load = steps.value("write files, fsync each", || {
        let load = Load::start(&folder, WRITERS)?;
        let started = Instant::now();
        while started.elapsed() < LOAD_TIME_MIN || load.acknowledged() < ACKNOWLEDGED_MIN {
            if started.elapsed() > LOAD_TIME_MAX || load.has_failed() {
                break;
            }
            interrupt::stop_if_asked();
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = format!("{WRITERS} writers, {} writes acknowledged so far", load.acknowledged());
        Ok((load, text))
    })?;
    steps.value("kill the daemon (SIGKILL)", || {
        load.expect_failures();
        let killed = place.kill();
        let acknowledged = load.finish()?;
        let pid = killed?;
        if acknowledged.writes() == 0 {
            bail!("no write was acknowledged within {} s", LOAD_TIME_MAX.as_secs());
        }
        let text =
            format!("process {pid} is gone in the midst of it; {} writes were acknowledged", acknowledged.writes());
        Ok((acknowledged, text))
    })
}

/// Lets the checker of gfs2-utils look at the volume.
fn check(place: &Place) -> anyhow::Result<String> {
    const NAME: &str = "fsck.gfs2";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let Some(fsck) = folders.map(|folder| folder.join(NAME)).find(|path| path.is_file()) else {
        return Ok("left out: it is not installed (on Debian: apt-get install gfs2-utils)".to_owned());
    };
    let output = Process::new(&fsck).arg("-n").arg(place.image()).output();
    let output = output.with_context(|| format!("cannot start {}", fsck.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout);
        let last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{}: {}", output.status, last.join(" | "));
    }
    Ok("clean".to_owned())
}

fn clean_up(place: &Place, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("clean up", || place.clean_up().map(|()| format!("{} is gone", place.dir().display())))
}

/// Says what is left, and how to get rid of it.
fn keep(place: &Place, steps: &mut Steps) -> anyhow::Result<()> {
    steps.run("keep", || {
        let (dir, enter) = (place.dir().display(), place.how_to_enter());
        Ok(format!("everything is in {dir}{enter}; to end it: umount {dir}/mounted; rm -r {dir}"))
    })
}
