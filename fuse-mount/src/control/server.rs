//! The daemon's end of the control socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_core::error::{FsError, one_line};
use fs_core::fs::Fs;
use rustix::io::Errno;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::{Command, LINE_MAX_BYTES, Outcome, Refusal, Request, Response, VERSION, Volume};

/// Connections of users without privileges that are served at a time.
const CLIENTS_MAX: usize = 32;
/// How long one of them may take for a request: others wait for the place.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// How long nobody is let in after a connection could not be taken: what is missing comes back with time only.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);

/// A socket that can be connected to. It is taken away when this is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
}

/// What the daemon knows of its mount.
pub(crate) struct Served {
    pub(crate) fs: Arc<Fs>,
    pub(crate) device: PathBuf,
    pub(crate) mounted_on: PathBuf,
}

impl Socket {
    /// Makes the socket. To be called within the runtime.
    ///
    /// # Errors
    /// What the operating system reports.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        // Its name is that of a live mount of ours: whoever was there before is gone.
        std::fs::remove_file(path).ok();
        let listener = Some(UnixListener::bind(path)?);
        let socket = Self { listener, path: path.to_owned() };
        // Who may do what is decided for each request.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(socket)
    }

    /// Serves as long as the future is polled.
    pub(crate) fn serve(&mut self, served: Served) -> impl Future<Output = ()> + Send + 'static {
        let listener = self.listener.take();
        async move {
            let Some(listener) = listener else { return };
            let (served, room) = (Arc::new(served), Arc::new(Semaphore::new(CLIENTS_MAX)));
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // No descriptor is left, for example. Whoever waits for a thaw must be able to come again.
                        tracing::warn!(%error, "the control socket cannot take a connection");
                        tokio::time::sleep(AFTER_A_FAILURE).await;
                        continue;
                    }
                };
                let Ok(is_root) = stream.peer_cred().map(|peer| peer.uid() == 0) else { continue };
                let place = match Arc::clone(&room).try_acquire_owned() {
                    _ if is_root => None,
                    Ok(place) => Some(place),
                    // Closing says it: there is no room.
                    Err(_) => continue,
                };
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    if let Err(error) = served.converse(stream, is_root).await {
                        tracing::debug!(%error, "a client of the control socket went away");
                    }
                    drop(place);
                });
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

impl Served {
    /// Answers a client until it has no more requests.
    async fn converse(&self, stream: UnixStream, is_root: bool) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut reader).take(LINE_MAX_BYTES);
            let read = limited.read_until(b'\n', &mut line);
            if is_root {
                read.await?;
            } else {
                tokio::time::timeout(REQUEST_MAX, read).await??;
            }
            if line.is_empty() {
                return Ok(());
            }
            let is_whole = line.ends_with(b"\n");
            let outcome = match self.answer(&line, is_root).await {
                Ok(value) => Outcome::Result(value),
                Err(refusal) => Outcome::Error(refusal),
            };
            let mut answer = serde_json::to_vec(&Response { version: VERSION, outcome })?;
            answer.push(b'\n');
            writer.write_all(&answer).await?;
            if !is_whole {
                return Ok(());
            }
        }
    }

    async fn answer(&self, line: &[u8], is_root: bool) -> Result<Value, Refusal> {
        let request: Request =
            serde_json::from_slice(line).map_err(|error| refusal(Errno::INVAL, format!("not understood: {error}")))?;
        if request.version != VERSION {
            let message = format!("version {} of the protocol: this daemon speaks {VERSION}", request.version);
            return Err(refusal(Errno::PROTONOSUPPORT, message));
        }
        if request.command.needs_root() && !is_root {
            return Err(refusal(Errno::PERM, "only root can do this (try it with sudo)".to_owned()));
        }
        self.carry_out(request.command)
            .await
            .map_err(|error| Refusal { errno: error.errno(), message: one_line(&error) })
    }

    async fn carry_out(&self, command: Command) -> Result<Value, FsError> {
        match command {
            Command::Volume => {
                let volume = self.volume().await?;
                return serde_json::to_value(volume).map_err(|_| FsError::Bug("an answer that JSON cannot express"));
            }
            Command::Freeze => self.fs.freeze().await?,
            Command::Thaw => {
                if !self.fs.thaw() {
                    return Err(FsError::Invalid("the volume is not frozen"));
                }
            }
            Command::ReadOnly { read_only } => self.fs.set_read_only(read_only).await?,
        }
        Ok(Value::Null)
    }

    async fn volume(&self) -> Result<Volume, FsError> {
        let space = self.fs.statfs().await?;
        Ok(Volume {
            device: self.device.clone(),
            mounted_on: self.mounted_on.clone(),
            pid: std::process::id(),
            label: self.fs.label(),
            block_size_bytes: space.block_size_bytes,
            blocks_total: space.blocks_total,
            blocks_free: space.blocks_free,
            inodes_used: space.inodes_used,
            read_only: self.fs.is_read_only(),
            frozen: self.fs.is_frozen(),
        })
    }
}

fn refusal(errno: Errno, message: String) -> Refusal {
    Refusal { errno: errno.raw_os_error(), message }
}
