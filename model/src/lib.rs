//! A model of what POSIX and Linux say about files: operations, random sequences of them, and the one right answer to
//! each. It knows nothing of lunfs; tests run a sequence here and on a filesystem, and compare.
//!
//! ```text
//! generate ─▶ Step (who, Op) ─┬─▶ Tree::apply ─▶ Outcome ─┐
//!                             └─▶ a filesystem ─▶ Outcome ─┴─▶ the same?      shrink: the shortest list that differs
//! ```
//!
//! A new operation takes a variant of [`op::Op`], a line in [`generate`], its effect in [`tree`], and its execution in
//! each of the places that run sequences (`fs-core/tests/machine/run.rs`, `tests/tests/posix_model/run.rs`).
//!
//! Laws
//! * Any list of steps is a valid program: names are paths, and what does not exist is an answer too. So a list can be
//!   shortened anywhere.
//! * Paths are not followed through symbolic links, neither here nor where a sequence is run.
//! * A clone of a [`tree::Tree`] costs a pointer for each inode, so tests keep one for each moment.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)] // a model of tests: what cannot be ends them
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub mod access;
pub mod acl;
pub mod errno;
pub mod generate;
pub mod op;
pub mod rng;
pub mod shrink;
pub mod tree;
