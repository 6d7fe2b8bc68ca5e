//! The control socket: how commands talk to the daemon of a mounted volume.
//!
//! A unix stream socket beside the daemon's record in /run/lunfs. A client sends one JSON object on a line of its own and
//! reads one back, as often as it likes:
//!
//! ```text
//! → {"version":1,"command":"freeze"}
//! ← {"version":1,"result":null}
//! → {"version":1,"command":"freeze"}
//! ← {"version":1,"error":{"errno":16,"message":"the volume is frozen: thaw it first"}}
//! ```
//!
//! Laws
//! * Everybody may connect; who the client is, the kernel tells. What changes something is root's.
//! * A client can neither make the daemon wait for it nor allocate without bound: lines, and the connections of users
//!   without privileges, are limited.
//! * A daemon answers what it does not know with an error, and every version with its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod client;
pub(crate) mod server;

/// Version of the protocol. It rises when a field changes its meaning or goes away.
pub const VERSION: u32 = 1;
/// Longest line, in bytes.
const LINE_MAX_BYTES: u64 = 64 << 10;

/// One line of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What is to be done.
    #[serde(flatten)]
    pub command: Command,
}

/// What a daemon can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// What is mounted, and how it is: a [`Volume`].
    Volume,
    /// Everything on disk, and no change until a thaw. No result.
    Freeze,
    /// Lets changes go on. No result.
    Thaw,
    /// Changes are refused from now on, or not any more. No result.
    ReadOnly {
        /// Whether they are refused.
        read_only: bool,
    },
}

impl Command {
    /// Whether only root may ask for it.
    const fn needs_root(&self) -> bool {
        match self {
            Self::Volume => false,
            Self::Freeze | Self::Thaw | Self::ReadOnly { .. } => true,
        }
    }
}

/// One line of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// [`VERSION`] of the daemon.
    pub version: u32,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done; the command says what this is.
    Result(Value),
    /// It was not done.
    Error(Refusal),
}

/// Why a request was not granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// As a system call would say it.
    pub errno: i32,
    /// For people.
    pub message: String,
}

/// A mounted volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Device or image.
    pub device: PathBuf,
    /// Where it was mounted.
    pub mounted_on: PathBuf,
    /// Process of the daemon.
    pub pid: u32,
    /// Label; may be empty.
    pub label: String,
    /// Block size, in bytes.
    pub block_size_bytes: u32,
    /// Blocks for data and metadata.
    pub blocks_total: u64,
    /// Those that are free.
    pub blocks_free: u64,
    /// Inodes in use.
    pub inodes_used: u64,
    /// Changes are refused.
    pub read_only: bool,
    /// Changes wait for a thaw.
    pub frozen: bool,
}
