//! A mixed load by several threads that remembers what it was promised, and the check of those promises after a crash.
//!
//! The record is kept in this process, never on the volume under test: the daemon dies, the record does not.
//!
//! What is promised
//! * **Names.** All changes of names go through one journal, in order. So after a crash the names of a thread (whose
//!   operations follow each other) are exactly those after some number of its operations: nothing is half renamed,
//!   nothing earlier is missing while something later is there. The number is at least that of the last operation that
//!   touched an inode, or a directory's entries, before an acknowledged `fsync` of that inode or directory. An
//!   operation that was under way at the crash may have happened.
//! * **Content.** Every byte of a file that stood there at its last acknowledged `fsync`, and that no later operation
//!   wrote or cut off, is unchanged. Other bytes are what some operation wrote there, or zero where a hole was made:
//!   never anything else, because data is written before the metadata that refers to it. The size is one that the file
//!   has had since that `fsync`, or has passed through while it was being written.

mod check;
mod history;
mod names;
mod round;
mod worker;

pub use check::{Found, FoundEntry, Rules, read_found};
pub use history::{Change, FileId, FileState, History, Key};
pub use names::{Event, Names, Node};
pub use round::{Load, adopt, skeleton};
pub use worker::{Shared, Worker};
