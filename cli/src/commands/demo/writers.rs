//! Programs that write, and remember what fsync promised them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, bail};

use super::content;

/// Longest content of one file, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;
/// When a writer has written so much into files, it only goes on with its log, in bytes.
const WRITER_BYTES_MAX: usize = 64 << 20;

/// Writers at work.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<(Acknowledged, Option<anyhow::Error>)>>,
}

#[derive(Default)]
struct Shared {
    acknowledged: AtomicU64,
    failed: AtomicBool,
    /// From now on writes fail, because nobody answers any more.
    killed: AtomicBool,
}

/// What was promised to survive.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Whole files: path, seed of the content and its length.
    files: Vec<(PathBuf, u64, usize)>,
    /// Files that grew: path and the number of lines that are safe.
    logs: Vec<(PathBuf, u64)>,
}

/// What was found of it.
pub(super) struct Found {
    pub(super) writes: u64,
    pub(super) bytes: u64,
}

impl Load {
    /// Starts `count` writers, each in a folder of its own below `folder`.
    pub(super) fn start(folder: &Path, count: u32) -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let mut threads = Vec::new();
        for number in 0..count {
            let own = folder.join(format!("writer{number}"));
            fs::create_dir_all(&own).with_context(|| format!("making {}", own.display()))?;
            let mut writer = Writer::new(own, number, Arc::clone(&shared));
            let run = move || {
                let error = writer.run().err().filter(|_| !writer.shared.killed.load(Ordering::SeqCst));
                if error.is_some() {
                    writer.shared.failed.store(true, Ordering::SeqCst);
                }
                (writer.acknowledged(), error)
            };
            threads.push(std::thread::Builder::new().name(format!("writer{number}")).spawn(run)?);
        }
        Ok(Self { shared, threads })
    }

    /// How many writes were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// A writer met an error.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// To be called before the daemon is killed: errors are no failures any more.
    pub(super) fn expect_failures(&self) {
        self.shared.killed.store(true, Ordering::SeqCst);
    }

    /// Waits for the writers, which end at their first error.
    pub(super) fn finish(self) -> anyhow::Result<Acknowledged> {
        let mut all = Acknowledged::default();
        for thread in self.threads {
            let Ok((acknowledged, error)) = thread.join() else { bail!("a writer died") };
            if let Some(error) = error {
                return Err(error.context("a writer failed before the daemon was killed"));
            }
            all.files.extend(acknowledged.files);
            all.logs.extend(acknowledged.logs);
        }
        Ok(all)
    }
}

/// One writer.
struct Writer {
    dir: PathBuf,
    state: u64,
    shared: Arc<Shared>,
    files: Vec<(PathBuf, u64, usize)>,
    lines: u64,
    bytes: usize,
}

impl Writer {
    fn new(dir: PathBuf, number: u32, shared: Arc<Shared>) -> Self {
        Self { dir, state: u64::from(number), shared, files: Vec::new(), lines: 0, bytes: 0 }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Writes until something fails, or the daemon is about to be killed and the writer notices.
    fn run(&mut self) -> anyhow::Result<()> {
        let mut log = File::create(self.log_path()).context("creating a log")?;
        for number in 0_u64.. {
            // A writer must not go on for ever if nothing fails although everything was killed.
            if self.shared.killed.load(Ordering::SeqCst) && number.is_multiple_of(64) {
                break;
            }
            match content::below(&mut self.state, 4) {
                0 => self.append(&mut log)?,
                _ if self.bytes > WRITER_BYTES_MAX => self.append(&mut log)?,
                1 => self.replace(number)?,
                _ => self.create(number)?,
            }
            self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Adds a line to the log.
    fn append(&mut self, log: &mut File) -> anyhow::Result<()> {
        log.write_all(line(self.lines).as_bytes()).and_then(|()| log.sync_data()).context("appending to a log")?;
        self.lines += 1;
        Ok(())
    }

    /// A new file.
    fn create(&mut self, number: u64) -> anyhow::Result<()> {
        let path = self.dir.join(format!("file{number}"));
        let (seed, len) = self.some_content();
        write_synced(&path, seed, len).with_context(|| format!("writing {}", path.display()))?;
        self.files.push((path, seed, len));
        Ok(())
    }

    /// A file that is replaced as programs do that want the old or the new content, and nothing in between.
    fn replace(&mut self, number: u64) -> anyhow::Result<()> {
        let (path, temporary) = (self.dir.join(format!("file{number}")), self.dir.join("temporary"));
        fs::write(&path, "old").with_context(|| format!("writing {}", path.display()))?;
        let (seed, len) = self.some_content();
        write_synced(&temporary, seed, len).context("writing a temporary file")?;
        fs::rename(&temporary, &path).with_context(|| format!("renaming to {}", path.display()))?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).context("fsync of a directory")?;
        self.files.push((path, seed, len));
        Ok(())
    }

    fn some_content(&mut self) -> (u64, usize) {
        let len = content::below(&mut self.state, FILE_BYTES_MAX);
        self.bytes += len;
        (content::next(&mut self.state), len)
    }

    fn acknowledged(&mut self) -> Acknowledged {
        let logs = if self.lines == 0 { Vec::new() } else { vec![(self.log_path(), self.lines)] };
        Acknowledged { files: std::mem::take(&mut self.files), logs }
    }
}

fn write_synced(path: &Path, seed: u64, len: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(&content::bytes(seed, len))?;
    file.sync_all()
}

fn line(number: u64) -> String {
    format!("line {number}\n")
}

impl Acknowledged {
    /// How many writes were acknowledged.
    pub(super) fn writes(&self) -> u64 {
        self.files.len() as u64 + self.logs.iter().map(|(_, lines)| lines).sum::<u64>()
    }

    /// Compares what is there with what was promised.
    pub(super) fn check(&self) -> anyhow::Result<Found> {
        let mut bytes = 0;
        for (path, seed, len) in &self.files {
            let found = fs::read(path).with_context(|| format!("{} was acknowledged", path.display()))?;
            if found != content::bytes(*seed, *len) {
                bail!("{} was acknowledged and has other content now", path.display());
            }
            bytes += found.len() as u64;
        }
        for (path, lines) in &self.logs {
            let found = fs::read(path).with_context(|| format!("{} was acknowledged", path.display()))?;
            let wanted: String = (0..*lines).map(line).collect();
            // What came after the last acknowledged line may be there or not.
            if !found.starts_with(wanted.as_bytes()) {
                bail!("{} does not begin with the {lines} lines that were acknowledged", path.display());
            }
            bytes += wanted.len() as u64;
        }
        Ok(Found { writes: self.writes(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_is_found_and_what_is_changed_is_noticed() {
        let dir = std::env::temp_dir().join(format!("lunfs-demo-writers-{}", std::process::id()));
        let load = Load::start(&dir, 2).unwrap();
        while load.acknowledged() < 20 {
            assert!(!load.has_failed());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(!load.has_failed());
        load.expect_failures();
        let acknowledged = load.finish().unwrap();
        assert_eq!(acknowledged.check().unwrap().writes, acknowledged.writes());

        let victim = acknowledged.files.iter().find(|(_, _, len)| *len > 0).unwrap().0.clone();
        let mut bytes = fs::read(&victim).unwrap();
        bytes[0] ^= 1;
        fs::write(&victim, bytes).unwrap();
        assert!(acknowledged.check().is_err());
        fs::remove_file(&victim).unwrap();
        assert!(acknowledged.check().is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
