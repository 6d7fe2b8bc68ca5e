//! How the daemon's memory is kept.

// The policy of the C library's allocator is only set through its own interface.
#![allow(unsafe_code)]

/// Buffers up to this size stay with the process when they are freed, in bytes: more than one request carries.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 4 << 20;
/// How much free memory stays with the process, in bytes for each of its heaps.
#[cfg(target_env = "gnu")]
const FREE_KEPT_BYTES: libc::c_int = 16 << 20;

/// Keeps the memory of large requests for the next ones. By default glibc maps each buffer of 1 MiB anew, and the kernel fills
/// it page by page: measured, reads took four times as much of a CPU.
pub(super) fn keep_large_buffers() {
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_MMAP_THRESHOLD, KEPT_BYTES), (libc::M_TRIM_THRESHOLD, FREE_KEPT_BYTES)] {
        // SAFETY: sets one number of the allocator, which it checks itself.
        if unsafe { libc::mallopt(option, value) } == 0 {
            tracing::debug!(option, "the allocator does not take the setting");
        }
    }
}
