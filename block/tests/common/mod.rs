//! What the tests of this crate share.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use block::claim::{Claim, ClaimError, Sharing};
use block::device::{BlockDevice, Durability, IoBuf};

/// Waits for a future on this thread: the devices need no runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// A directory that goes away with the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A directory on a disk.
    pub(crate) fn new() -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// A directory in `parent`.
    pub(crate) fn within(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("block-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A name in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file in it with a hole of `size_bytes`.
    pub(crate) fn image(&self, name: &str, size_bytes: u64) -> PathBuf {
        let path = self.path(name);
        std::fs::File::create(&path).unwrap().set_len(size_bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that has to succeed, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

/// A loop device over an image. `None` where this machine gives none to the user.
pub(crate) struct Loop(String);

impl Loop {
    pub(crate) fn over(image: &Path, options: &[&str]) -> Option<Self> {
        let mut arguments = vec!["--find", "--show"];
        arguments.extend(options);
        arguments.push(image.to_str().unwrap());
        let output = Command::new("losetup").args(arguments).output().ok()?;
        if !output.status.success() {
            eprintln!("no loop device here, nothing tested: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(Self(String::from_utf8(output.stdout).unwrap().trim().to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Claims a disk that nobody holds any more. Another test may be starting a program just now: until that runs, it has
/// inherited every descriptor of this process, claims included.
pub(crate) fn claim_when_free(path: &Path, sharing: Sharing) -> Claim {
    loop {
        match Claim::take(path, sharing) {
            Err(ClaimError::InUse { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

/// Numbers that look random and are the same in every run with the same seed.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Writes, reads, flushes and discards at random, and compares every byte that is read with `model`. Discarded ranges
/// are written anew, because their content is undefined until then.
pub(crate) fn work_at_random(device: &dyn BlockDevice, model: &mut [u8], steps: u32, longest_bytes: u64, seed: u64) {
    let mut numbers = Numbers::new(seed);
    let sector = u64::from(device.geometry().logical_sector_bytes);
    let size = model.len() as u64;
    assert!(device.geometry().size_bytes >= size);
    for step in 0..steps {
        let len = sector * (1 + numbers.below(longest_bytes / sector));
        let offset = sector * numbers.below((size - len) / sector + 1);
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
        let context = || format!("seed {seed}, step {step}, {len} bytes at {offset}");
        match numbers.below(10) {
            0..4 => {
                let buf = block_on(device.read(offset, IoBuf::zeroed(range.len()))).unwrap();
                assert!(buf[..] == model[range], "read differs: {}", context());
            }
            4..9 => {
                let bytes = numbers.bytes(range.len());
                let durability = if numbers.below(4) == 0 { Durability::Durable } else { Durability::Cached };
                let back = block_on(device.write(offset, IoBuf::copied_from(&bytes), durability)).unwrap();
                assert!(back[..] == bytes[..], "the buffer comes back unchanged: {}", context());
                model[range].copy_from_slice(&bytes);
            }
            _ => {
                block_on(device.discard(offset, len)).unwrap();
                let bytes = numbers.bytes(range.len());
                block_on(device.write(offset, IoBuf::copied_from(&bytes), Durability::Cached)).unwrap();
                block_on(device.flush()).unwrap();
                model[range].copy_from_slice(&bytes);
            }
        }
    }
}

/// Compares the whole of a device with `model`.
pub(crate) fn assert_holds(device: &dyn BlockDevice, model: &[u8]) {
    let piece = 1 << 20;
    for (index, expected) in model.chunks(piece).enumerate() {
        let buf = block_on(device.read((index * piece) as u64, IoBuf::zeroed(expected.len()))).unwrap();
        assert!(buf[..] == *expected, "differs in MiB {index}");
    }
}
