//! Where log lines go: standard error in front, else the journal, else the kernel's log, where other filesystems write.
//!
//! `LUNFS_LOG` chooses what is logged, in the syntax of tracing's filters (`debug`, `fuse_mount=trace,info`).

use std::fs::File;
use std::io::{self, IsTerminal, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that chooses what is logged.
const FILTER_VARIABLE: &str = "LUNFS_LOG";

/// Starts logging. What happens before goes nowhere, and a second call does nothing.
pub fn start(foreground: bool) {
    if foreground {
        let terminal = io::stderr().is_terminal();
        let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(terminal).with_target(false);
        tracing_subscriber::registry().with(filter("info")).with(layer).try_init().ok();
    } else if let Ok(journal) = tracing_journald::layer() {
        let journal = journal.with_syslog_identifier("lunfs".to_owned());
        tracing_subscriber::registry().with(filter("info")).with(journal).try_init().ok();
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(KernelLog)
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_target(false);
        tracing_subscriber::registry().with(filter("warn")).with(layer).try_init().ok();
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("defect of lunfs: {panic}")));
}

fn filter(default: &str) -> EnvFilter {
    EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default))
}

/// Writes lines to /dev/kmsg.
struct KernelLog;

/// One line for the kernel's log.
struct Line {
    /// The number of syslog.
    priority: u8,
}

impl<'a> MakeWriter<'a> for KernelLog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { priority: 6 }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        let priority = match *metadata.level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        Line { priority }
    }
}

impl Write for Line {
    /// The formatter hands over whole lines. A log that cannot be written must not disturb anybody.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
            let line = [format!("<{}>lunfs: ", self.priority).as_bytes(), text].concat();
            log.write_all(&line).ok();
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
