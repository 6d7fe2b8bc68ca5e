//! A thread for which the kernel refuses io_uring, and what it starts.
#![allow(unsafe_code)] // The system call that installs a filter has no safe form.

/// Of `io_uring_setup`, on every architecture.
const IO_URING_SETUP: u32 = 425;

/// Runs `work` on a thread that cannot use io_uring, and neither can the processes that it starts. Nothing else on the
/// machine notices, also if the test is killed.
///
/// # Panics
/// When the kernel has no filters, and as `work`.
pub fn without_io_uring<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let filtered = || {
        rustix::thread::set_no_new_privs(true).unwrap();
        refuse(IO_URING_SETUP);
        work()
    };
    std::thread::scope(|scope| scope.spawn(filtered).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Makes one system call of this thread fail with EPERM.
fn refuse(number: u32) {
    let step = |code: u32, if_true, if_false, k| libc::sock_filter { code: code as u16, jt: if_true, jf: if_false, k };
    let mut steps = [
        // The number of the call is the first word of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: `program` and its steps live until the call returns; the kernel copies them and changes nothing.
    let refused = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program)) };
    assert_eq!(refused, 0, "a filter of system calls: {}", std::io::Error::last_os_error());
}
