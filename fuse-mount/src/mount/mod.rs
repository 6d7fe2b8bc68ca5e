//! What mount(8) and umount(8) call, and what both need to know of the system.

pub mod connection;
pub mod leftover;
pub mod mountinfo;
pub mod options;
pub mod remount;
pub mod spec;
pub mod syscall;
pub mod target;
pub mod umount;
pub mod utab;
