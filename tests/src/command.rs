//! Running other programs: with everything they said in the failure, and never without an end.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::watchdog;

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; 128 + signal if a signal ended it, as shells say.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Outcome {
    /// Asserts that it ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.status_is(&[0])
    }

    /// Asserts that it ended with one of `wanted`.
    #[track_caller]
    pub fn status_is(self, wanted: &[i32]) -> Self {
        assert!(
            wanted.contains(&self.status),
            "{}\n  ended with {}, expected {wanted:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.status,
            tail(&self.stdout),
            tail(&self.stderr),
        );
        self
    }

    /// Both outputs together.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// The last lines of `text`: where programs say what went wrong.
#[must_use]
pub fn tail(text: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let mut out = if skipped > 0 { format!("… {skipped} lines before\n") } else { String::new() };
    out.push_str(&lines[skipped..].join("\n"));
    out
}

/// Longest time a program may take before it counts as hanging. Everything here takes seconds.
const LIMIT: Duration = Duration::from_secs(1200);

/// Runs `program` to its end.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Outcome {
    let mut command = Command::new(resolve(program.as_ref()));
    command.args(args);
    finish(command)
}

/// Runs a line of bash, with `args` as `$1`, `$2`, ….
#[track_caller]
pub fn bash<A: AsRef<OsStr>>(script: &str, args: impl IntoIterator<Item = A>) -> Outcome {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "bash"]).args(args);
    finish(command)
}

/// Programs of sbin are found even where PATH leaves sbin out.
fn resolve(program: &OsStr) -> OsString {
    let plain = program.to_str().filter(|name| !name.contains('/'));
    match plain.and_then(crate::need::on_path) {
        Some(path) => path.into_os_string(),
        None => program.to_owned(),
    }
}

/// Runs a prepared command to its end; standard input is empty.
#[track_caller]
pub fn finish(mut command: Command) -> Outcome {
    let line = line_of(&command);
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
    let _step = watchdog::step(&line);
    let stdout = reader(child.stdout.take().unwrap());
    let stderr = reader(child.stderr.take().unwrap());
    let status = wait(&mut child, started, &line);
    // A daemon left behind may keep the pipes open: what was said until the program ended is what counts.
    let grace = Instant::now() + Duration::from_secs(2);
    while (!stdout.is_finished() || !stderr.is_finished()) && Instant::now() < grace {
        std::thread::sleep(Duration::from_millis(2));
    }
    Outcome { line, status, stdout: stdout.text(), stderr: stderr.text(), took: started.elapsed() }
}

fn wait(child: &mut Child, started: Instant, line: &str) -> i32 {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        }
        if started.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{line}\n  did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Words as a shell would take them.
fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

/// Collects what comes out of a pipe, on a thread of its own.
pub struct Reader {
    text: std::sync::Arc<parking_lot::Mutex<Vec<u8>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Reader {
    /// Whether the pipe has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// What has come so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock()).into_owned()
    }
}

/// Starts collecting.
pub fn reader(mut pipe: impl Read + Send + 'static) -> Reader {
    let text = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let into = text.clone();
    let thread = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                return;
            }
            into.lock().extend_from_slice(&buffer[..count]);
        }
    });
    Reader { text, thread }
}

/// Waits until `condition` holds; panics with `what` if it does not within `limit`.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
