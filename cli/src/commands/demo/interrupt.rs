//! Ctrl-C and other signals that end a program: everything is taken down before it ends.

use std::io::Write;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::place::Place;

/// How far the end is that a signal asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// No signal came.
    NotAsked,
    /// A thread is cleaning up, and the demo may still be in a step.
    Asked,
    /// The demo has stopped, and makes nothing more.
    Stopped,
}

static END: Mutex<End> = Mutex::new(End::NotAsked);
static END_CHANGED: Condvar = Condvar::new();
/// Longest wait for the demo to stop by itself: it looks before each file and after each command.
const STOP_MAX: Duration = Duration::from_secs(10);

/// From now on signals that would end this process make it clean up `place` first.
pub(super) fn clean_up_on_signals(place: Place) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("waiting for signals")?;
    // The handlers are there when this returns, not some time later.
    let listen = |kind| {
        let _inside = runtime.enter();
        signal(kind).context("waiting for signals")
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let wait = move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 2,
                _ = terminate.recv() => 15,
                _ = hangup.recv() => 1,
            }
        });
        set(End::Asked);
        // First it has to stop: a mount that is on its way would come after all was taken down, and a file that is
        // being copied would fall into the empty folder below. What does not stop waits for a volume that hangs.
        let stopped = wait_until_stopped();
        let cleaned = place.take_down().and_then(|()| {
            if !stopped {
                wait_until_stopped();
            }
            place.clean_up()
        });
        let line = match cleaned {
            Ok(()) => format!("{} is gone", place.dir().display()),
            Err(error) => format!("{error:#}"),
        };
        // Whoever read this may have gone as well; that must not keep the process from its end.
        let _ = writeln!(std::io::stderr(), "lunfs demo: interrupted; {line}");
        std::process::exit(128 + number);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("starting a thread")?;
    Ok(())
}

fn set(end: End) {
    *END.lock().unwrap_or_else(PoisonError::into_inner) = end;
    END_CHANGED.notify_all();
}

/// Waits until the demo has stopped, and says whether it has.
fn wait_until_stopped() -> bool {
    let end = END.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = END_CHANGED.wait_timeout_while(end, STOP_MAX, |end| *end != End::Stopped);
    *waited.unwrap_or_else(PoisonError::into_inner).0 == End::Stopped
}

/// Stops here for good if a signal came: what a step meets while everything is taken down is no news, and this process
/// ends as soon as all is gone.
pub(super) fn stop_if_asked() {
    let mut end = END.lock().unwrap_or_else(PoisonError::into_inner);
    if *end == End::NotAsked {
        return;
    }
    *end = End::Stopped;
    END_CHANGED.notify_all();
    loop {
        end = END_CHANGED.wait(end).unwrap_or_else(PoisonError::into_inner);
    }
}
