//! SIGKILL at random moments under mixed load: whatever fsync acknowledged is there afterwards, each time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // A failed check panics.

use lunfs_tests::load::{Load, Rules, adopt, read_found, skeleton};
use lunfs_tests::mount::{Mount, detach};
use lunfs_tests::need;
use lunfs_tests::rng::{Rng, seed};
use lunfs_tests::scratch::Scratch;
use lunfs_tests::tree;
use lunfs_tests::volume::{Kind, Volume, kind};
use lunfs_tests::watchdog::{Watchdog, step};

const THREADS: u64 = 4;

#[test]
fn what_fsync_acknowledged_survives_every_kill() {
    need::root_and_fuse();
    need::tools(&["fsck.gfs2", "cp"]);
    let _watchdog = Watchdog::minutes("kill", need::amount(15, 120));
    let rounds = need::amount(20, 200);
    let seed = seed();
    println!("{rounds} rounds; repeat with LUNFS_SEED={seed}");
    let mut rng = Rng::new(seed);
    let rules = Rules { unsynced_may_be_zero: kind() == Kind::Ext4 };

    let scratch = Scratch::new("kill");
    let volume = Volume::make(scratch.path("volume.img"), "512M", &["-j", "2", "-J", "16M"]);
    let (dir, copy_dir) = (scratch.path("mnt"), scratch.path("copy"));
    let mount = Mount::foreground(&volume, &dir, "single");
    let mut histories = skeleton(&dir, THREADS);
    mount.umount();

    let (mut operations, mut syncs, mut twice) = (0, 0, 0);
    for round in 0..rounds {
        let _step = step(&format!("round {round} of seed {seed}"));
        let mount = Mount::foreground(&volume, &dir, "single");
        // Sometimes right after the mount, sometimes after the journal has wrapped around.
        let target = match rng.below(4) {
            0 => rng.below(50),
            1 => rng.below(500),
            _ => rng.below(4000),
        };
        let load = Load::start(histories, rng.next_u64(), &dir, u64::MAX);
        load.wait_for(target);
        // Somewhere inside an operation rather than between two.
        for _ in 0..rng.below(20_000) {
            std::hint::spin_loop();
        }
        load.expect_crash();
        mount.kill();
        let counts = load.counts();
        histories = load.join();
        (operations, syncs) = (operations + counts.0, syncs + counts.1);

        let copy = rng.chance(50).then(|| volume.copy(scratch.path("copy.img")));
        if rng.chance(30) && volume.kind() == Kind::Lunfs {
            // Killed once more, while it replays or soon after.
            let again = Mount::start(&volume, &dir, "single");
            std::thread::sleep(std::time::Duration::from_micros(rng.below(40_000)));
            again.kill();
            twice += 1;
        }
        // Half the time the next mount has to clear away what the killed daemon left.
        if rng.chance(50) {
            detach(&dir);
        }
        let mount = Mount::foreground(&volume, &dir, "single");
        adopt(&mut histories, &read_found(&dir), rules);
        let ours = copy.as_ref().map(|_| tree::read(&dir));
        mount.umount();
        volume.assert_clean();

        if let (Some(copy), Some(ours)) = (copy, ours) {
            copy.repair();
            let mount = Mount::foreground(&copy, &copy_dir, "single");
            tree::assert_same("replayed by lunfs, replayed by the referee", &ours, &tree::read(&copy_dir));
            mount.umount();
            copy.assert_clean();
            std::fs::remove_file(copy.image()).unwrap();
        }
    }
    println!(
        "{rounds} kills, {twice} of them followed by another during replay: {operations} operations and {syncs} syncs \
         acknowledged, none lost"
    );
    assert!(syncs > rounds, "a load that never syncs proves nothing");
}
