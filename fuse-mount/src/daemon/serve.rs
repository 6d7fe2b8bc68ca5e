//! Serving a mounted volume, and the ways in which that ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use block::claim::Claim;
use fs_core::error::remedy;
use fs_core::fs::Fs;
use rustix::mount::UnmountFlags;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::Places;
use super::detach::Reporter;
use super::registry::{Registration, State};
use crate::control::server::{Served, Socket};
use crate::error::{MountError, one_line, status};
use crate::handlers::Handlers;
use crate::kernel::{Ended, Session, Transport, TransportOptions};
use crate::mount::mountinfo::FsId;
use crate::mount::options::Options;
use crate::mount::syscall::{self, FsType, Source};
use crate::mount::{connection, utab};

/// A volume that can answer, and the connection that will bring the questions.
pub(super) struct Volume<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) fs: Arc<Fs>,
    pub(super) handlers: Arc<Handlers>,
    pub(super) fuse: OwnedFd,
    pub(super) claim: &'a mut Claim,
    /// The device's smallest unit, in bytes.
    pub(super) sector_bytes: u32,
}

/// How serving ended.
pub(super) struct End {
    pub(super) result: Result<(), MountError>,
    /// To be taken away when the device is free.
    pub(super) registration: Option<Registration>,
    /// On `fuseblk`, umount(2) returns when it is dropped: the last thing to be done.
    pub(super) ended: Option<Ended>,
}

/// Attaches the volume to the mount point, serves until it is unmounted, and writes everything. Afterwards nothing uses
/// the device any more.
pub(super) fn serve(volume: Volume<'_>, places: &Places, options: &Options, reporter: &mut Reporter) -> End {
    let (runtime, fs) = (volume.runtime, Arc::clone(&volume.fs));
    let background = runtime.spawn(Arc::clone(&fs).background());
    let (mut registration, mut socket, mut ended) = (None, None, None);
    // From here on a signal unmounts; before, it ends a process that nobody depends on yet.
    let served = Stops::listen(runtime).and_then(|stops| {
        let attached = attach(volume, places, options, reporter)?;
        registration = register(&attached, places);
        if let Some(registration) = &registration {
            socket = listen(runtime, &fs, registration, places);
            utab::enter(attached.kind, &places.device, &places.target);
        }
        ended = Some(serve_attached(runtime, &fs, attached, stops, places, reporter)?);
        Ok(())
    });
    // Its name is free before that of the record.
    drop(socket);
    if let Some(registration) = &mut registration {
        registration.set_state(State::Stopping).ok();
        utab::leave(&places.device, &places.target);
    }
    let stopped = stop(runtime, &fs, places);
    if runtime.block_on(background).is_err() {
        tracing::error!("the background work ended by a defect of lunfs");
    }
    if let Some(registration) = &mut registration {
        let state = match served.as_ref().and(stopped.as_ref()) {
            Ok(()) => State::Clean,
            Err(MountError::NotClean { problem, .. }) => State::Failed(problem.clone()),
            Err(error) => State::Failed(one_line(error)),
        };
        registration.set_state(state).ok();
    }
    End { result: served.and(stopped), registration, ended }
}

/// A volume that is attached to its mount point.
struct Attached {
    session: Session<Handlers>,
    fs: FsId,
    kind: FsType,
}

fn attach(volume: Volume<'_>, places: &Places, options: &Options, reporter: &Reporter) -> Result<Attached, MountError> {
    if !reporter.is_awaited() {
        return Err(MountError::Interrupted);
    }
    let target = &places.target;
    let Volume { runtime, handlers, fuse, claim, sector_bytes, .. } = volume;
    let kind = mount(&fuse, claim, sector_bytes, places, options)?;
    let opened = syscall::mounted_at(target).and_then(|fs| {
        let options =
            TransportOptions { transport: options.transport, acl: options.fs.acl, ..TransportOptions::default() };
        let session = Session::open(fuse, handlers, runtime.handle().clone(), options)?;
        syscall::set_readahead(fs, options.write_max_bytes);
        Ok(Attached { session, fs, kind })
    });
    opened.map_err(|source| {
        syscall::unmount(target, UnmountFlags::DETACH).ok();
        MountError::System { doing: "connecting to the kernel", source }
    })
}

/// Mounts a device as `fuseblk` where that brings something: a transport that answers DESTROY, and a device that nobody
/// else has. Everything else is mounted as plain `fuse`.
fn mount(
    fuse: &OwnedFd,
    claim: &mut Claim,
    sector_bytes: u32,
    places: &Places,
    options: &Options,
) -> Result<FsType, MountError> {
    let target = &places.target;
    let mount = |kind| {
        syscall::mount(fuse, Source { kind, device: &places.device, sector_bytes }, target, options).map(|()| kind)
    };
    if options.transport == Transport::Native && claim.excludes_others() {
        // The kernel takes it over from here on. Who comes in between makes the mount fail.
        claim.lend();
        match mount(FsType::FuseBlk) {
            Ok(kind) => return Ok(kind),
            Err(error) => tracing::debug!(%error, "the kernel does not mount the device itself"),
        }
        claim.exclude_others()?;
    }
    mount(FsType::Fuse).map_err(|source| MountError::Refused { target: target.clone(), source })
}

/// Without registration everything works but that umount(8) waits.
fn register(attached: &Attached, places: &Places) -> Option<Registration> {
    Registration::new(attached.fs, &places.device, &places.target)
        .inspect_err(
            |error| tracing::warn!(%error, "/run/lunfs cannot be written to: umount will not wait for the end"),
        )
        .ok()
}

/// Without the socket everything works but the commands that need it.
fn listen(runtime: &Runtime, fs: &Arc<Fs>, registration: &Registration, places: &Places) -> Option<Socket> {
    let _entered = runtime.enter();
    let listening = Socket::bind(&registration.socket());
    let mut socket = listening.inspect_err(|error| tracing::warn!(%error, "no control socket")).ok()?;
    let served = Served { fs: Arc::clone(fs), device: places.device.clone(), mounted_on: places.target.clone() };
    runtime.spawn(socket.serve(served));
    Some(socket)
}

fn serve_attached(
    runtime: &Runtime,
    volume: &Arc<Fs>,
    attached: Attached,
    mut stops: Stops,
    places: &Places,
    reporter: &mut Reporter,
) -> Result<Ended, MountError> {
    let Attached { session, fs, .. } = attached;
    let (ended, session_end) = oneshot::channel();
    std::thread::Builder::new()
        .name("lunfs-session".to_owned())
        .spawn(move || ended.send(session.run()))
        .inspect_err(|_| detach_now(fs))
        .map_err(MountError::system("starting threads"))?;
    tracing::info!(device = %places.device.display(), mount_point = %places.target.display(), %fs, "mounted");
    runtime.block_on(async {
        if !reporter.report(status::OK, "") {
            tracing::warn!("interrupted while mounting: unmounting again");
            tokio::spawn(unmount(fs));
        }
        let result = wait(session_end, &mut stops, volume, fs).await;
        tracing::info!(device = %places.device.display(), "unmounted, writing what is left");
        result.map_err(MountError::system("serving the kernel's requests"))
    })
}

/// Waits for the end of the session. Signals bring it about; what they start goes on beside, because on `fuseblk`
/// umount(2) returns only after the session's end.
async fn wait(
    mut session_end: oneshot::Receiver<io::Result<Ended>>,
    stops: &mut Stops,
    volume: &Fs,
    fs: FsId,
) -> io::Result<Ended> {
    loop {
        tokio::select! {
            ended = &mut session_end => return ended.unwrap_or_else(|_| Err(io::Error::other("the session's thread died"))),
            () = stops.next() => {
                // What waits for a thaw would keep the volume in use for ever.
                volume.end_freezing();
                drop(tokio::spawn(unmount(fs)));
            }
        }
    }
}

/// Unmounts on behalf of a signal: also if somebody uses the volume.
async fn unmount(fs: FsId) {
    let unmounted = tokio::task::spawn_blocking(move || {
        if let Err(error) = syscall::unmount_all(fs, UnmountFlags::empty()) {
            tracing::warn!(%error, "still in use: open files fail from now on");
            // Pages that were changed through mmap are only in the kernel yet.
            if let Err(error) = syscall::sync(fs) {
                tracing::warn!(%error, "changes through mmap may be lost");
            }
            detach_now(fs);
        }
    });
    if unmounted.await.is_err() {
        tracing::error!("unmounting ended by a defect of lunfs");
    }
}

/// Takes the volume out of the tree and ends the connection, whoever uses it.
fn detach_now(fs: FsId) {
    syscall::unmount_all(fs, UnmountFlags::DETACH | UnmountFlags::FORCE).ok();
    if let Err(error) = connection::abort(fs) {
        tracing::debug!(%error, "no connection to abort");
    }
}

/// Writes everything and leaves the volume.
fn stop(runtime: &Runtime, fs: &Arc<Fs>, places: &Places) -> Result<(), MountError> {
    let unmounted = runtime.block_on(fs.unmount());
    let device = || Path::to_owned(&places.device);
    match (fs.withdrawn(), unmounted) {
        (Some(cause), _) | (None, Err(cause)) => {
            let problem = format!("{}; {}", one_line(&cause), remedy(&cause));
            Err(MountError::NotClean { device: device(), problem })
        }
        (None, Ok(())) => Ok(()),
    }
}

/// The signals that end a mount.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Stops {
    fn listen(runtime: &Runtime) -> Result<Self, MountError> {
        let _entered = runtime.enter();
        let listen = || {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        };
        listen().map_err(MountError::system("listening for signals"))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
