//! Leaving the terminal: the command starts itself once more, as the daemon, and waits for its report.
//!
//! The daemon's standard output is a pipe to the command. It carries one report, an exit status and a line of text, and
//! is closed with it. A new process instead of a fork, because nothing of the command's threads and locks can then be
//! left over in the daemon.

// Closing descriptors that were inherited is only possible by their numbers.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{MountError, status};

/// Longest report that is read, in bytes.
const REPORT_MAX_BYTES: u64 = 64 << 10;

/// Starts this program again with `arguments` as the daemon, and waits until it reports.
///
/// # Errors
/// What the daemon reports, and what starting it fails with.
pub fn start(arguments: &[OsString]) -> Result<(), MountError> {
    let mut all = std::env::args_os();
    let name = all.next().unwrap_or_else(|| "lunfs".into());
    let program = std::env::current_exe().map_err(MountError::system("finding this program's file"))?;
    let (report, sender) = io::pipe().map_err(MountError::system("making a pipe"))?;
    let mut daemon = Command::new(program)
        .arg0(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::from(sender))
        .spawn()
        .map_err(MountError::system("starting the daemon"))?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(MountError::system("waiting for the daemon"))?;
    let text = runtime.block_on(read_report(report.into()))?;
    match parse_report(&text) {
        Some((status::OK, _)) => Ok(()),
        Some((status, message)) => Err(MountError::Reported { status, message }),
        None => {
            let ended = daemon.wait().map_err(MountError::system("waiting for the daemon"))?;
            Err(MountError::DaemonEnded(ended))
        }
    }
}

/// Reads until the daemon closes its end. An interruption ends it: the daemon sees that nobody listens and gives up.
async fn read_report(report: std::os::fd::OwnedFd) -> Result<String, MountError> {
    let failed = MountError::system;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("listening for signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("listening for signals"))?;
    let mut report =
        pipe::Receiver::from_owned_fd(report).map_err(failed("waiting for the daemon"))?.take(REPORT_MAX_BYTES);
    let mut text = String::new();
    tokio::select! {
        read = report.read_to_string(&mut text) => read.map(|_| text).map_err(failed("waiting for the daemon")),
        _ = interrupt.recv() => Err(MountError::Interrupted),
        _ = terminate.recv() => Err(MountError::Interrupted),
    }
}

fn parse_report(text: &str) -> Option<(u8, String)> {
    let (status, message) = text.split_once(' ')?;
    Some((status.parse().ok()?, message.trim_end().to_owned()))
}

/// The daemon's side of the pipe.
#[derive(Debug)]
pub struct Reporter {
    pipe: Option<File>,
}

impl Reporter {
    /// Nobody waits: the daemon runs in front.
    #[must_use]
    pub fn nobody() -> Self {
        Self { pipe: None }
    }

    /// Makes this process a daemon whose standard output leads to the command that started it. To be called first of
    /// all, before anything is opened.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn of_daemon() -> io::Result<Self> {
        close_inherited();
        leave_limits();
        let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        // It fails for who leads a group of processes already, as a daemon started by hand; then there is no terminal
        // to get rid of either.
        rustix::process::setsid().ok();
        Ok(Self { pipe: Some(pipe) })
    }

    /// Whether somebody still waits for the report, or nobody ever did.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let Some(pipe) = &self.pipe else { return true };
        let mut ends = [PollFd::new(pipe, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut ends, Some(&now));
        !(polled.is_ok() && ends.iter().any(|end| end.revents().contains(PollFlags::ERR)))
    }

    /// Whether the report is still to be made.
    #[must_use]
    pub fn is_reporting(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reports once, and lets go of the terminal. Returns whether somebody was there to read it.
    pub fn report(&mut self, status: u8, message: &str) -> bool {
        let Some(mut pipe) = self.pipe.take() else { return true };
        let heard = pipe.write_all(format!("{status} {message}\n").as_bytes()).is_ok();
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            rustix::stdio::dup2_stderr(&null).ok();
        }
        heard
    }
}

/// Leaves the limits of the shell that called mount: they are not meant for what serves everybody, and to exceed one of
/// them would be the volume's end.
fn leave_limits() {
    use rustix::process::{Resource, Rlimit};
    for limit in [Resource::Fsize, Resource::As, Resource::Data, Resource::Cpu, Resource::Memlock] {
        let none = Rlimit { current: None, maximum: None };
        if rustix::process::setrlimit(limit, none).is_err() {
            // Not allowed in a user namespace; then as far as it goes.
            let maximum = rustix::process::getrlimit(limit).maximum;
            rustix::process::setrlimit(limit, Rlimit { current: maximum, maximum }).ok();
        }
    }
    // What is made in /run can be read by everybody, whatever the shell's mask.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
}

/// Closes what a shell or a lock file left open, so that the daemon does not keep it for ever.
fn close_inherited() {
    let Ok(folder) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = folder.filter_map(|file| file.ok()?.file_name().to_str()?.parse().ok()).collect();
    // The descriptor through which the folder was read is among them, and closed by now.
    let is_open = |fd: &i32| std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok();
    for fd in open.into_iter().filter(|fd| *fd > 2 && is_open(fd)) {
        // SAFETY: the descriptor is open, and this runs before anything else in the process, so no object owns it.
        unsafe { rustix::io::close(fd) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_status_and_text() {
        assert_eq!(parse_report("0 \n"), Some((0, String::new())));
        assert_eq!(parse_report("32 /dev/x: no such device\n"), Some((32, "/dev/x: no such device".to_owned())));
        assert_eq!(parse_report(""), None);
    }

    #[test]
    fn a_reporter_sees_that_nobody_listens_any_more() {
        let (reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        let reporter = Reporter { pipe: Some(pipe) };
        assert!(reporter.is_awaited());
        drop(reader);
        assert!(!reporter.is_awaited());
    }
}
