//! The journal of one node: what changes together reaches the disk together.

pub mod chain;
pub mod change;
mod checkpoint;
mod commit;
mod discard;
pub mod encode;
pub mod extents;
mod flush;
pub mod head;
pub mod log;
pub mod owner;
mod read_ahead;
pub mod recover;
pub mod replay;
mod writeback;

#[cfg(test)]
mod test_volume;
