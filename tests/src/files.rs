//! Small helpers around files that several suites need.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::data;

/// The error number of a failed operation; 0 for one that succeeded.
#[must_use]
pub fn errno<T, E: Into<io::Error>>(result: Result<T, E>) -> i32 {
    result.err().map_or(0, |error| error.into().raw_os_error().unwrap_or(-1))
}

/// Writes `len` bytes of data number `id` to a new file in pieces of `piece` bytes.
///
/// # Errors
/// What writing says.
pub fn write_data(path: &Path, id: u64, len: u64, piece: usize) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut buffer = vec![0; piece];
    let mut at = 0;
    while at < len {
        let take = piece.min((len - at) as usize);
        data::fill(id, at, &mut buffer[..take]);
        file.write_all(&buffer[..take])?;
        at += take as u64;
    }
    file.sync_all()
}

/// Asserts that `len` bytes at `offset` are those of data number `id`.
#[track_caller]
pub fn assert_data(file: &mut File, id: u64, offset: u64, len: u64) {
    let mut buffer = vec![0; 1 << 20];
    file.seek(SeekFrom::Start(offset)).unwrap();
    let mut at = offset;
    while at < offset + len {
        let take = buffer.len().min((offset + len - at) as usize);
        file.read_exact(&mut buffer[..take]).unwrap_or_else(|error| panic!("read at {at}: {error}"));
        if let Some(wrong) = data::first_difference(id, at, &buffer[..take]) {
            panic!("byte {wrong} of data {id} is wrong");
        }
        at += take as u64;
    }
}

/// Free and total bytes as `df` says them, and inodes in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can hold files.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
    /// Bytes free for everybody.
    pub available: u64,
}

/// What `df` says of the filesystem at `path`.
#[track_caller]
#[must_use]
pub fn space(path: &Path) -> Space {
    let stat = rustix::fs::statvfs(path).unwrap_or_else(|error| panic!("statfs {}: {error}", path.display()));
    let unit = stat.f_frsize;
    Space { total: stat.f_blocks * unit, free: stat.f_bfree * unit, available: stat.f_bavail * unit }
}
