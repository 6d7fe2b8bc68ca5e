//! The native transport: the protocol of the kernel, without a library.
//!
//! ```text
//! /dev/fuse ─▶ channel ─▶ decode ─▶ serve ─▶ Service ─▶ answer ─▶ channel
//!                                     └▶ interruptions, forgotten references
//! ```
//!
//! Laws
//! * Each thread reads through a descriptor of its own, and an answer leaves through the one that its request came in by.
//! * Every request is answered once. What is dropped without an answer has failed with EIO.
//! * An operation is never dropped before its end, whatever becomes of the process that waits for it.
//! * DESTROY is answered by whoever owns the session, when everything is on disk: umount(2) waits for it on `fuseblk`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use super::TransportOptions;
use super::drive::Driver;
use super::interruption::UnderWay;
use super::service::Service;

mod abi;
mod answer;
mod channel;
mod decode;
mod init;
mod notify;
mod request;
mod serve;

pub(super) use channel::Channel;
pub(super) use notify::Retrievals;
pub use notify::{Notifier, Pages};

use answer::Reply;
use channel::Buffer;
use serve::{Next, Shared};

/// A connection whose opening messages have been exchanged.
#[derive(Debug)]
pub(super) struct NativeSession<S> {
    shared: Shared<S>,
    options: TransportOptions,
}

/// How a thread that reads requests ended.
#[derive(Debug)]
enum End {
    /// The filesystem is not mounted any more.
    Unmounted,
    /// It is about to be, and the kernel waits for this answer.
    Destroy(Reply),
}

/// The kernel waits for the end of the filesystem: it lets go when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting(Option<Reply>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply.ok();
        }
    }
}

impl<S: Service> NativeSession<S> {
    /// Agrees with the kernel on what both can do.
    ///
    /// # Errors
    /// What reading from or writing to the kernel reports, EPERM if nothing is mounted through `fuse`; `Unsupported` if
    /// the kernel is too old.
    pub(super) fn open(fuse: OwnedFd, service: Arc<S>, driver: Driver, options: TransportOptions) -> io::Result<Self> {
        let first = Arc::new(Channel::new(fuse));
        let mut buffer = Buffer::new(options.write_max_bytes);
        let forms = init::agree(&first, &mut buffer, &options, service.has_locks())?;
        let shared = Shared {
            service,
            driver,
            requests: Arc::new(UnderWay::default()),
            retrievals: Arc::default(),
            channels: vec![first],
            forms,
            data_max_bytes: options.write_max_bytes,
        };
        Ok(Self { shared, options })
    }

    /// For telling the kernel something without being asked.
    pub(super) fn notifier(&self) -> Option<Notifier> {
        let first = self.shared.channels.first()?;
        Some(Notifier::new(Arc::clone(first), Arc::clone(&self.shared.retrievals)))
    }

    /// Serves requests until the filesystem is not mounted any more, or the kernel waits for its end.
    ///
    /// # Errors
    /// What reading from the kernel reports; `InvalidData` if what it sends cannot be a request.
    pub(super) fn run(self) -> io::Result<Waiting> {
        let Self { mut shared, options } = self;
        shared.open_channels(options.threads);
        let shared = Arc::new(shared);
        let (ended, ends) = mpsc::channel();
        for number in 0..shared.channels.len() {
            let (shared, ended) = (Arc::clone(&shared), ended.clone());
            std::thread::Builder::new().name(format!("lunfs-fuse-{number}")).spawn(move || {
                // Nobody listens any more if another thread ended the session.
                ended.send(read_requests(&shared, number, options.write_max_bytes)).ok();
            })?;
        }
        drop(ended);
        let result = first_end(&ends);
        shared.retrievals.end();
        result
    }
}

impl<S> Shared<S> {
    /// A channel for each thread. Not before the session runs: when a daemon is killed, the kernel closes its youngest files
    /// first, and the mount fails from the first of these on. Whoever sees that shall find the daemon's file still locked.
    fn open_channels(&mut self, count: usize) {
        let Some(first) = self.channels.first().cloned() else { return };
        for _ in 1..count {
            self.channels.push(match first.of_same_connection() {
                Ok(channel) => Arc::new(channel),
                Err(error) => {
                    tracing::debug!(%error, "threads have to share a descriptor of /dev/fuse");
                    Arc::clone(&first)
                }
            });
        }
    }
}

/// DESTROY or an error of one thread ends the session; the end of the mount is seen by each of them.
fn first_end(ends: &Receiver<io::Result<End>>) -> io::Result<Waiting> {
    for end in ends {
        match end? {
            End::Unmounted => {}
            End::Destroy(reply) => return Ok(Waiting(Some(reply))),
        }
    }
    Ok(Waiting(None))
}

fn read_requests<S: Service>(shared: &Shared<S>, number: usize, write_max_bytes: u32) -> io::Result<End> {
    let Some(channel) = shared.channels.get(number) else { return Ok(End::Unmounted) };
    let mut buffer = Buffer::new(write_max_bytes);
    while let Some(len) = channel.receive(&mut buffer)? {
        let next = shared.serve(channel, &mut buffer, len);
        match next.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Next::Continue => {}
            Next::Destroy(reply) => return Ok(End::Destroy(reply)),
        }
    }
    Ok(End::Unmounted)
}
