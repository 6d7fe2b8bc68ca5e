//! A command's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Command, LINE_MAX_BYTES, Outcome, Request, Response, VERSION, Volume};
use crate::daemon::registry::{Registered, State};
use crate::error::MountError;
use crate::mount::{spec, umount};

/// Why a daemon did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing of ours is mounted there.
    #[error("{}: no volume of lunfs is mounted here (give its mount point or its device)", spec.display())]
    NotMounted {
        /// What was asked for.
        spec: PathBuf,
    },
    /// The volume cannot be looked for.
    #[error(transparent)]
    Lookup(#[from] MountError),
    /// The daemon cannot be talked to.
    #[error("the daemon of {} cannot be reached", device.display())]
    Unreachable {
        /// What it serves.
        device: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The daemon has answered in a way that is not to be understood.
    #[error("the daemon of {} is of another version of lunfs: {problem}", device.display())]
    Foreign {
        /// What it serves.
        device: PathBuf,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The daemon says no.
    #[error("{message}")]
    Refused {
        /// As a system call would say it.
        errno: i32,
        /// What it says.
        message: String,
    },
}

/// A daemon that serves a mounted volume.
#[derive(Debug)]
pub struct Daemon {
    registered: Registered,
}

impl Daemon {
    /// The daemon of the volume that `spec` (mount point, device, `UUID=`, `LABEL=`) names.
    ///
    /// # Errors
    /// `NotMounted`, `Lookup`.
    pub fn of(spec: &Path) -> Result<Self, ControlError> {
        let registered = match umount::find(spec) {
            Ok(mount) => Registered::of(mount.fs),
            Err(_) => Registered::serving(&spec::resolve(spec)?),
        };
        let serving = registered.filter(|found| found.record.state == State::Serving);
        let registered = serving.ok_or_else(|| ControlError::NotMounted { spec: spec.to_owned() })?;
        Ok(Self { registered })
    }

    /// All that can be seen from here.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let serving = Registered::all().into_iter().filter(|found| found.record.state == State::Serving);
        serving.map(|registered| Self { registered }).collect()
    }

    /// Where the volume was mounted.
    #[must_use]
    pub fn mounted_on(&self) -> &Path {
        &self.registered.record.mounted_on
    }

    /// Has `command` carried out, however long that takes.
    ///
    /// # Errors
    /// `Unreachable`, `Foreign`, `Refused`.
    pub fn call(&self, command: Command) -> Result<Value, ControlError> {
        let device = || self.registered.record.device.clone();
        let line = self
            .exchange(&Request { version: VERSION, command })
            .map_err(|source| ControlError::Unreachable { device: device(), source })?;
        let response: Response = serde_json::from_slice(&line)
            .map_err(|error| ControlError::Foreign { device: device(), problem: error.to_string() })?;
        match response.outcome {
            Outcome::Result(value) => Ok(value),
            Outcome::Error(refusal) => Err(ControlError::Refused { errno: refusal.errno, message: refusal.message }),
        }
    }

    /// How the volume is.
    ///
    /// # Errors
    /// As [`Daemon::call`].
    pub fn volume(&self) -> Result<Volume, ControlError> {
        let device = self.registered.record.device.clone();
        let value = self.call(Command::Volume)?;
        serde_json::from_value(value).map_err(|error| ControlError::Foreign { device, problem: error.to_string() })
    }

    fn exchange(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(self.registered.socket())?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        BufReader::new(stream).take(LINE_MAX_BYTES).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it hung up: it is ending, or has too many clients",
            ));
        }
        Ok(answer)
    }
}
