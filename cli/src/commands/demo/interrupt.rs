//! Ctrl-C and other signals that end a program: everything is taken down before it ends.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::place::Place;

/// A signal came, and a thread is cleaning up.
static CLEANING_UP: AtomicBool = AtomicBool::new(false);

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
        CLEANING_UP.store(true, Ordering::SeqCst);
        let cleaned = place.clean_up();
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

/// What a step meets while everything is taken down is no news; the end is near.
pub(super) fn wait_if_cleaning_up() {
    while CLEANING_UP.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(100));
    }
}
