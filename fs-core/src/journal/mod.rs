//! The journal of one node: what changes together reaches the disk together.

pub mod chain;
pub mod change;
pub mod encode;
pub mod extents;
pub mod head;
pub mod log;
pub mod owner;
mod read_ahead;
pub mod recover;
pub mod replay;

#[cfg(test)]
mod test_volume;
