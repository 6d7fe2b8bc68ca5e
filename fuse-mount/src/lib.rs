//! The real world of one mounted node: FUSE, the daemon behind a mount, and what mount(8) and umount(8) call.
//!
//! Laws
//! * [`kernel`] is the only module that knows a FUSE library. It turns what arrives into calls of [`handlers`], and
//!   their answers into bytes.
//! * A handler decodes, calls one operation of the filesystem, encodes. It decides nothing.
//! * A request that waits holds no FUSE thread.
//! * A mount appears only when the filesystem behind it can answer, and the daemon ends only when all is on disk.

pub mod control;
pub mod daemon;
pub mod error;
pub mod handlers;
pub mod kernel;
pub mod log;
pub mod mount;
pub mod quota;
