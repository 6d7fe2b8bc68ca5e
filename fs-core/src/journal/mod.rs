//! The journal of one node: what changes together reaches the disk together.

pub mod encode;
pub mod extents;
pub mod owner;
