//! The transport that speaks through fuser 0.18: a second reader of the same protocol, against which the native one is
//! checked. What it cannot do is listed in docs/testing.md.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::TransportOptions;
use super::drive::Driver;
use super::native::{Channel, Notifier, Retrievals};
use super::service::Service;

mod answer;
mod convert;
mod time;
mod transport;

use transport::FuserTransport;

/// A connection whose opening messages have been exchanged.
pub(super) struct FuserSession<S: Service> {
    inner: fuser::Session<FuserTransport<S>>,
    notifications: OwnedFd,
}

impl<S: Service> FuserSession<S> {
    /// Agrees with the kernel on what both can do.
    ///
    /// # Errors
    /// What reading from or writing to the kernel reports.
    pub(super) fn open(fuse: OwnedFd, service: Arc<S>, driver: Driver, options: TransportOptions) -> io::Result<Self> {
        // fuser sends only some notifications, and hides what the kernel says to them.
        let notifications = fuse.try_clone()?;
        let transport = FuserTransport::new(service, driver, options);
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = true;
        // Who may do what is checked by the kernel (default_permissions), not by fuser.
        let inner = fuser::Session::from_fd(transport, fuse, fuser::SessionACL::All, config)?;
        Ok(Self { inner, notifications })
    }

    /// For telling the kernel something without being asked.
    pub(super) fn notifier(&self) -> Option<Notifier> {
        let channel = Channel::new(self.notifications.try_clone().ok()?);
        Some(Notifier::new(Arc::new(channel), Arc::<Retrievals>::default()))
    }

    /// Serves requests until the filesystem is not mounted any more.
    ///
    /// # Errors
    /// What reading from the kernel reports, other than the end of the mount.
    pub(super) fn run(self) -> io::Result<()> {
        match self.inner.run() {
            // The end too: the connection was aborted in the moment in which a request was taken from it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
            ended => ended,
        }
    }
}
