//! One image: everything that has to hold for what is on a disk after a power cut.

use std::sync::Arc;

use fs_core::check::rule::Rule;
use posix_model::errno::ENOSPC;
use posix_model::generate::{Generator, Profile};
use posix_model::rng::Rng;
use posix_model::tree::Tree;

use super::checker;
use super::clock::Clock;
use super::disk::{Disk, Image};
use super::medium::Medium;
use super::plan::{Plan, Recording, mount};
use super::run::{Runner, same};
use super::see::{self, View};
use super::story::Story;
use super::volume;

/// Who else judges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judges {
    /// So many images out of a thousand are shown to fsck.gfs2.
    pub(crate) fsck_permille: u64,
}

/// Why the image after a cut at `cut` must not be.
pub(crate) async fn judge(
    plan: &Plan,
    recording: &Recording,
    cut: usize,
    mut image: Image,
    mut rng: Rng,
    judges: Judges,
) -> Result<(), String> {
    // Recovery may be cut off as well, and what follows it.
    let mut replays = 0;
    while rng.chance(25) && replays < 3 {
        image = interrupted(image, &mut rng).await?;
        replays += 1;
    }
    let after = |what: &str| format!("{what} (recovery was cut off {replays} times)");
    let disk = Disk::plain(image);
    let fs = mount(&disk, 8 << 20, Arc::new(Clock::new(1)))
        .await
        .map_err(|error| after(&format!("mounting fails: {error}")))?;
    let mut found = Vec::new();
    for (number, (story, root)) in recording.stories.iter().zip(&recording.roots).enumerate() {
        let view = see::see(&fs, *root).await.map_err(|error| after(&format!("reading the tree: {error}")))?;
        let tree = state(story, &view, cut).map_err(|reason| after(&format!("worker {number}: {reason}")))?;
        found.push(tree);
    }
    if rng.chance(30) {
        for (root, tree) in recording.roots.iter().zip(found) {
            let runner = Runner::new(Arc::clone(&fs), *root);
            go_on(plan, runner, tree, rng.fork()).await.map_err(|reason| after(&reason))?;
        }
    }
    fs.unmount().await.map_err(|error| after(&format!("unmounting fails: {error}")))?;
    drop(fs);
    let (report, findings) = checker::findings(Arc::new(disk.clone())).await;
    let mut errors = checker::errors_among(&report, &findings);
    // Each mount frees what an earlier one has left.
    errors.extend(findings.iter().filter(|finding| finding.rule == Rule::Orphan).map(checker::line));
    if !errors.is_empty() {
        return Err(after(&format!("the checker finds {errors:#?}")));
    }
    if rng.below(1000) < judges.fsck_permille
        && let Some(complaint) = volume::fsck(&disk.image())
    {
        return Err(after(&format!("fsck.gfs2 finds\n{complaint}")));
    }
    Ok(())
}

/// Mounts, perhaps unmounts, and cuts the power at any moment of that.
async fn interrupted(image: Image, rng: &mut Rng) -> Result<Image, String> {
    let disk = Disk::recording(image.clone(), rng.fork());
    let fs =
        mount(&disk, 1 << 20, Arc::new(Clock::new(1))).await.map_err(|error| format!("mounting fails: {error}"))?;
    if rng.chance(40) {
        fs.unmount().await.map_err(|error| format!("unmounting after recovery fails: {error}"))?;
    }
    drop(fs);
    let log = disk.take_log();
    let mut medium = Medium::new(&image, &log);
    medium.advance(rng.below(log.events.len() as u64 + 1) as usize);
    let fates = medium.fates(rng);
    Ok(medium.image(&fates))
}

/// The state that the tree is in, with the contents that its files have.
fn state(story: &Story, view: &View, cut: usize) -> Result<Tree, String> {
    let possible = story.possible(cut);
    let mut reasons = Vec::new();
    for number in (possible.durable..=possible.begun).rev() {
        let tree = story.state(number).clone().closed();
        match view.compare(&tree, |id, found| story.check_content(&possible, number, id, found)) {
            Ok(inos) => {
                let mut tree = tree;
                for (id, ino) in inos {
                    if tree.inode(id).kind == posix_model::op::Kind::File {
                        tree.set_content(id, view.content(ino).to_vec());
                    }
                }
                return Ok(tree);
            }
            Err(reason) => reasons.push(format!("    state {number}: {reason}")),
        }
    }
    let count = reasons.len();
    reasons.truncate(6);
    Err(format!(
        "none of {count} states fits; {} steps durable, {} begun\n{}",
        possible.durable,
        possible.begun,
        reasons.join("\n")
    ))
}

/// The volume can be used as if nothing had happened.
async fn go_on(plan: &Plan, mut runner: Runner, mut tree: Tree, mut rng: Rng) -> Result<(), String> {
    let block_bytes = u64::from(plan.block_bytes);
    let profile = Profile {
        block_bytes,
        file_bytes_max: 20 * block_bytes,
        write_bytes_max: 4 * block_bytes,
        xattr_bytes_max: block_bytes,
        users: false,
        syncs: 5,
        names_max: 40,
        single_blocks: true,
    };
    let mut generator = Generator::new(profile, rng.fork());
    for _ in 0..8 {
        let step = generator.step(&tree);
        let mut next = tree.clone();
        let expected = next.apply(&step);
        let found = runner.run(&step).await.map_err(|error| format!("afterwards, {step}: {error}"))?;
        if found == Err(ENOSPC) && expected.is_ok() {
            continue;
        }
        if !same(&expected, &found) {
            return Err(format!("afterwards, {step}: answered {found:?} instead of {expected:?}"));
        }
        tree = next;
    }
    let view =
        see::see(runner.fs(), runner.root()).await.map_err(|error| format!("reading the tree again: {error}"))?;
    view.differs(&tree).map_or(Ok(()), |difference| Err(format!("afterwards: {difference}")))
}
