//! One line for each step: what was done, how long it took, and how it ended.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use crate::output::{Format, Printer, escape};

/// Prints steps as they end.
pub(super) struct Steps {
    json: Option<Printer>,
    coloured: bool,
    started: Instant,
}

impl Steps {
    pub(super) fn new(format: Format) -> Self {
        let coloured = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let json = format.json.then(|| {
            let mut printer = Printer::new(format);
            // A reader who has gone is met at the first row.
            printer.table("steps", &[("step", 0), ("ok", 0), ("seconds", 0), ("result", 0)]).ok();
            printer
        });
        Self { json, coloured, started: Instant::now() }
    }

    /// Does one step, which says in a few words what came out.
    pub(super) fn run(&mut self, step: &str, act: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
        self.value(step, || act().map(|text| ((), text)))
    }

    /// The same for a step that yields something for the next ones.
    pub(super) fn value<T>(
        &mut self,
        step: &str,
        act: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let result = act();
        super::interrupt::stop_if_asked();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok((value, text)) => {
                self.line(step, true, seconds, &text)?;
                Ok(value)
            }
            Err(error) => {
                self.line(step, false, seconds, &format!("{error:#}"))?;
                Err(error.context(format!("failed to {step}")))
            }
        }
    }

    fn line(&mut self, step: &str, ok: bool, seconds: f64, text: &str) -> io::Result<()> {
        let text = escape(text.as_bytes());
        if let Some(printer) = &mut self.json {
            let seconds = (seconds * 1000.0).round() / 1000.0;
            return printer.row(&[&step, &ok, &seconds, &text]);
        }
        let mark = match (ok, self.coloured) {
            (true, true) => "\x1b[32mok    \x1b[0m",
            (true, false) => "ok    ",
            (false, true) => "\x1b[31mFAILED\x1b[0m",
            (false, false) => "FAILED",
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{mark} {seconds:6.2} s  {step}: {text}")?;
        out.flush()
    }

    /// Prints how it ended, and returns that.
    pub(super) fn finish(self, result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
        let result = result.map(|()| ExitCode::SUCCESS);
        match self.json {
            Some(printer) => printer.complete(result),
            None => {
                if result.is_ok() {
                    println!("everything went well, in {:.1} s", self.started.elapsed().as_secs_f64());
                }
                result
            }
        }
    }
}
