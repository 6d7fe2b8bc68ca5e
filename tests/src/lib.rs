//! What the suites in `tests/tests` share: volumes and mounts that clean up after themselves, loads that remember what
//! they were promised, checks of those promises, and the referees of gfs2-utils.
//!
//! A check that fails panics, with everything needed to look into it in its message: that is the verdict of a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]
// Lengths in tests are far below any limit, and a wrapped value fails the test that made it.
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub mod command;
pub mod data;
pub mod ext4;
pub mod files;
pub mod load;
pub mod mapping;
pub mod mount;
pub mod need;
pub mod ops;
pub mod refusal;
pub mod rng;
pub mod scratch;
pub mod tree;
pub mod volume;
pub mod watchdog;
