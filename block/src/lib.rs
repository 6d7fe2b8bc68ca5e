//! Block devices: everything that lunfs can keep a volume on, behind one trait.
//!
//! Laws
//! * A device knows bytes and sectors, never filesystem blocks.
//! * Reads may run through io_uring; writes and discards are synchronous calls on threads of this process, because a
//!   process's exit waits for those: "the process is gone" then proves that nothing of it is still on its way.
//! * Two overlapping writes in flight have no order. Whoever needs one waits for the first.

pub mod claim;
pub mod device;
pub mod faulty;
pub mod mem;
mod open;
mod pool;
pub mod raw;
mod sys;
mod uring;
pub mod vhdx;

pub use open::{OpenError, OpenOptions, open, open_to_fill};
