//! A connection to the kernel, from the first message to the last.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::drive::Driver;
use super::fuser::FuserSession;
use super::native::{NativeSession, Notifier, Waiting};
use super::service::Service;
use super::{Transport, TransportOptions};

/// A connection whose opening messages have been exchanged: the mount can be used as soon as [`Session::run`] runs.
pub struct Session<S: Service> {
    inner: Inner<S>,
    driver: Driver,
    service: Arc<S>,
}

enum Inner<S: Service> {
    Native(NativeSession<S>),
    Fuser(FuserSession<S>),
}

/// The end of a session. On `fuseblk`, umount(2) returns when this is dropped.
#[derive(Debug)]
#[must_use = "umount(2) returns when it is dropped, so that everything has to be on disk before"]
pub struct Ended {
    _waiting: Option<Waiting>,
}

impl<S: Service> Session<S> {
    /// Takes over `fuse`, a descriptor of /dev/fuse that a mount is attached to, and agrees with the kernel on what both
    /// can do.
    ///
    /// # Errors
    /// What reading from or writing to the kernel reports.
    pub fn open(fuse: OwnedFd, service: Arc<S>, runtime: Handle, options: TransportOptions) -> io::Result<Self> {
        let driver = Driver::new(runtime);
        let inner = match options.transport {
            Transport::Native => {
                Inner::Native(NativeSession::open(fuse, Arc::clone(&service), driver.clone(), options)?)
            }
            Transport::Fuser => Inner::Fuser(FuserSession::open(fuse, Arc::clone(&service), driver.clone(), options)?),
        };
        let session = Self { inner, driver, service };
        if let Some(notifier) = session.notifier() {
            session.service.tell_by(notifier);
        }
        Ok(session)
    }

    /// For telling the kernel something without being asked. `None` if the system has no descriptor left.
    #[must_use]
    pub fn notifier(&self) -> Option<Notifier> {
        match &self.inner {
            Inner::Native(session) => session.notifier(),
            Inner::Fuser(session) => session.notifier(),
        }
    }

    /// Serves requests until the mount is gone, and the last of them has ended.
    ///
    /// # Errors
    /// What reading from the kernel reports, other than the end of the mount.
    pub fn run(self) -> io::Result<Ended> {
        let served = match self.inner {
            Inner::Native(session) => session.run().map(Some),
            Inner::Fuser(session) => session.run().map(|()| None),
        };
        self.service.ending();
        self.driver.wait_until_idle();
        served.map(|waiting| Ended { _waiting: waiting })
    }
}
