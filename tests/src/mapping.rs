//! Files mapped into memory.
#![allow(unsafe_code)] // mmap has no safe form.

use std::fs::File;

use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};

/// A shared mapping of the start of a file, for reading and writing.
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, which the file has to have.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[track_caller]
    #[must_use]
    pub fn shared(file: &File, len: usize) -> Self {
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let at =
            unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0) };
        Self { at: at.expect("mmap").cast(), len }
    }

    /// A copy of what is mapped.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        // SAFETY: the mapping is `len` bytes long and lives as long as `self`; volatile, as the file may change.
        (0..self.len).map(|index| unsafe { self.at.add(index).read_volatile() }).collect()
    }

    /// Changes bytes in memory.
    ///
    /// # Panics
    /// When they are not all inside.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len, "outside the mapping");
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: inside the mapping, as asserted; nobody has a reference into it.
            unsafe { self.at.add(at + index).write_volatile(*byte) };
        }
    }

    /// Writes what was changed to the file.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn sync(&self) {
        // SAFETY: the range is exactly the mapping.
        unsafe { msync(self.at.cast(), self.len, MsyncFlags::SYNC) }.expect("msync");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly the mapping, and nobody uses it any more.
        let _ = unsafe { munmap(self.at.cast(), self.len) };
    }
}
