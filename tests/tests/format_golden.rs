//! The format, judged by other implementations: volumes of lunfs by `fsck.gfs2`, volumes of `mkfs.gfs2` by the parsers
//! of lunfs, and both by each other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

#[path = "format_golden/compared.rs"]
mod compared;
#[path = "format_golden/made.rs"]
mod made;
#[path = "format_golden/referee.rs"]
mod referee;
#[path = "format_golden/walk.rs"]
mod walk;
