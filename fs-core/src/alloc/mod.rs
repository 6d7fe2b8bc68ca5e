//! Which block goes to whom: bitmaps, resource groups, and what is promised but not on disk yet.

pub mod avail;
pub mod group;
pub mod promise;
pub mod rgrps;
pub mod runs;
pub mod trim;
