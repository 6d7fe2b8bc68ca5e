//! Inodes: the tree of pointers, reading and writing content, giving it up again.

pub mod allocate;
pub mod content;
pub mod delete;
pub mod map;
pub mod punch;
pub mod refs;
pub mod truncate;
