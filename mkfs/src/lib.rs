//! Makes volumes: options and a size become a [`plan::Plan`] (pure arithmetic), a plan becomes bytes on a device.
//!
//! Laws
//! * A plan knows every block that will be written before the first one is. What does not fit is refused by the plan.
//! * Nothing that a reader looks at is left to what the device held before, discarded or not.
//! * The superblock is written last, after everything else is durable: a half-made volume cannot be mounted.
//! * Memory does not grow with the size of the volume.

pub mod directory;
pub mod error;
mod image;
pub mod options;
pub mod plan;
pub mod rgrps;
pub mod signature;
mod sink;
pub mod system;
pub mod tree;
mod write;

pub use write::{Progress, Report, Stage, format};
