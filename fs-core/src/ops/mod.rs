//! What users can ask for, one file per group of operations. Each reads top to bottom: lock, look, stage, commit.

mod acls;
pub mod allocate;
pub mod attrs;
pub mod child;
pub mod copy;
pub mod create;
pub mod data;
pub mod flags;
pub mod label;
pub mod list;
pub mod lookup;
pub mod rename;
pub mod shortage;
pub mod trim;
pub mod unlink;
pub mod xattrs;
