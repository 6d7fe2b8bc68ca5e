//! Directories against a map of names, with the structure checked from scratch.

// Numbers that the tests themselves made, or cut on purpose.
#![allow(clippy::cast_possible_truncation)]

mod check;
mod corrupt;
mod deep;
mod double;
mod listing;
mod model;
mod names;
