//! Claims of disks.

#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

mod common;

use block::claim::{Claim, ClaimError, Sharing};
use common::{Loop, Scratch, claim_when_free};

fn in_use(outcome: Result<Claim, ClaimError>) -> bool {
    matches!(outcome, Err(ClaimError::InUse { .. }))
}

#[test]
fn an_image_has_one_exclusive_user_or_many_that_share() {
    let scratch = Scratch::new();
    let path = scratch.image("image", 4096);
    let first = Claim::take(&path, Sharing::Exclusive).unwrap();
    assert!(in_use(Claim::take(&path, Sharing::Exclusive)));
    assert!(in_use(Claim::take(&path, Sharing::Shared)));
    drop(first);
    let readers = [claim_when_free(&path, Sharing::Shared), Claim::take(&path, Sharing::Shared).unwrap()];
    assert!(in_use(Claim::take(&path, Sharing::Exclusive)));
    drop(readers);
    claim_when_free(&path, Sharing::Exclusive);
}

#[test]
fn a_claim_survives_that_the_process_opens_and_closes_the_image() {
    let scratch = Scratch::new();
    let path = scratch.image("image", 4096);
    let _claim = Claim::take(&path, Sharing::Exclusive).unwrap();
    drop(block::open(&path, block::OpenOptions::default()).unwrap());
    assert!(in_use(Claim::take(&path, Sharing::Exclusive)));
}

#[test]
fn a_block_device_has_one_exclusive_user_or_many_that_share() {
    let scratch = Scratch::new();
    let image = scratch.image("image", 1 << 20);
    let Some(disk) = Loop::over(&image, &[]) else { return };
    let first = Claim::take(disk.path(), Sharing::Exclusive).unwrap();
    assert!(in_use(Claim::take(disk.path(), Sharing::Exclusive)));
    assert!(in_use(Claim::take(disk.path(), Sharing::Shared)));
    // The device itself is opened beside the claim.
    drop(block::open(disk.path(), block::OpenOptions::default()).unwrap());
    drop(first);
    let first = claim_when_free(disk.path(), Sharing::Shared);
    let second = Claim::take(disk.path(), Sharing::Shared).unwrap();
    assert!(in_use(Claim::take(disk.path(), Sharing::Exclusive)));
    drop((first, second));
    claim_when_free(disk.path(), Sharing::Exclusive);
}

#[test]
fn what_is_not_there_is_not_in_use() {
    let scratch = Scratch::new();
    assert!(matches!(Claim::take(&scratch.path("missing"), Sharing::Exclusive), Err(ClaimError::Io { .. })));
}
