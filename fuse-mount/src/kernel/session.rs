//! A connection to the kernel, from the first message to the last.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::TransportOptions;
use super::drive::Driver;
use super::fuser_transport::FuserTransport;
use crate::handlers::Handlers;

/// A connection whose opening messages have been exchanged: the mount can be used as soon as [`Session::run`] runs.
pub struct Session {
    inner: fuser::Session<FuserTransport>,
    driver: Driver,
}

impl Session {
    /// Takes over `fuse`, a descriptor of /dev/fuse that a mount is attached to, and agrees with the kernel on what both
    /// can do.
    ///
    /// # Errors
    /// What reading from or writing to the kernel reports.
    pub fn open(
        fuse: OwnedFd,
        handlers: Arc<Handlers>,
        runtime: Handle,
        options: TransportOptions,
    ) -> io::Result<Self> {
        let driver = Driver::new(runtime);
        let transport = FuserTransport::new(Arc::clone(&handlers), driver.clone(), options);
        let mut config = fuser::Config::default();
        config.n_threads = Some(options.threads.max(1));
        config.clone_fd = true;
        // Who may do what is checked by the kernel (default_permissions), not by fuser.
        let inner = fuser::Session::from_fd(transport, fuse, fuser::SessionACL::All, config)?;
        let notifier = inner.notifier();
        handlers.tell_by(Box::new(move |node| {
            // From offset −1 on means: attributes only. That waits for nothing. The kernel may not know the inode any more.
            if let Err(error) = notifier.inval_inode(fuser::INodeNo(node.0), -1, 0) {
                tracing::trace!(%error, "the kernel was not told to forget attributes");
            }
        }));
        Ok(Self { inner, driver })
    }

    /// Serves requests until the mount is gone, and the last of them has ended.
    ///
    /// # Errors
    /// What reading from the kernel reports, other than the end of the mount.
    pub fn run(self) -> io::Result<()> {
        let served = self.inner.run();
        self.driver.wait_until_idle();
        served
    }
}
