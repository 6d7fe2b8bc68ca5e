//! Reads through io_uring: one ring and one completion thread per open device.
//!
//! Laws
//! * A request is submitted in place, by the thread that asks. No other thread is woken for it.
//! * The ring owns a buffer from submission to completion; a caller that goes away frees nothing.
//! * At most `IN_FLIGHT_MAX` requests are with the kernel; the others wait in order.
//! * Nothing is ever written through the ring (see the crate's laws).

// io_uring hands the kernel pointers to our buffers; that cannot be said in safe Rust.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use io_uring::{IoUring, Probe, opcode, types};
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::device::IoBuf;
use crate::pool::{Pool, join_unless_self};
use crate::sys;

/// Requests with the kernel at a time. A fast disk is saturated by 64 to 128 small reads.
const IN_FLIGHT_MAX: u32 = 128;
/// Entries of the submission queue: those in flight and the request to stop.
const ENTRIES: u32 = 256;
/// Marks the completion that ends the thread; never the index of a slot.
const STOP: u64 = u64::MAX;
/// Longest single read, in bytes; longer ones go on as the rest of a short read.
const READ_MAX_BYTES: u32 = 1 << 30;
/// How long to wait before a submission that the kernel had no memory for is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// `IORING_ENTER_GETEVENTS` of the system interface.
const ENTER_GETEVENTS: u32 = 1;

/// How a read ended: the buffer, full.
pub(crate) type ReadAnswer = io::Result<IoBuf>;

/// A ring that reads one file.
pub(crate) struct Ring {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    ring: IoUring,
    fd: Arc<OwnedFd>,
    state: Mutex<State>,
    /// Finishes what the ring left unfinished (short reads, cancelled requests).
    pool: Arc<Pool>,
}

struct State {
    slots: Vec<Option<Request>>,
    free: Vec<usize>,
    backlog: VecDeque<Request>,
    in_flight: u32,
    closing: bool,
}

struct Request {
    offset_bytes: u64,
    buf: IoBuf,
    answer: oneshot::Sender<ReadAnswer>,
}

impl Ring {
    /// Makes a ring for `fd`. An error means that io_uring is not to be had here.
    pub(crate) fn start(fd: Arc<OwnedFd>, pool: Arc<Pool>) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder().dontfork().setup_clamp().build(ENTRIES)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(Errno::NOSYS.into());
        }
        let slots: Vec<Option<Request>> = (0..IN_FLIGHT_MAX).map(|_| None).collect();
        let free = (0..slots.len()).rev().collect();
        let state = State { slots, free, backlog: VecDeque::new(), in_flight: 0, closing: false };
        let shared = Arc::new(Shared { ring, fd, state: Mutex::new(state), pool });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("lunfs-reads".to_owned()).spawn(move || shared.complete())?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Submits a read that fills `buf`.
    pub(crate) fn read(&self, offset_bytes: u64, buf: IoBuf) -> oneshot::Receiver<ReadAnswer> {
        let (answer, answered) = oneshot::channel();
        let request = Request { offset_bytes, buf, answer };
        let mut state = self.shared.state.lock();
        if state.free.is_empty() {
            state.backlog.push_back(request);
        } else {
            self.shared.begin(&mut state, request);
            self.shared.submit(state);
        }
        answered
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock();
            state.closing = true;
            let stop = opcode::Nop::new().build().user_data(STOP);
            self.shared.push(&mut state, &stop);
            self.shared.submit(state);
        }
        if let Some(thread) = self.thread.take() {
            join_unless_self(thread);
        }
    }
}

impl Shared {
    /// Puts a request into a slot and its entry into the submission queue. There is a free slot.
    fn begin(&self, state: &mut State, mut request: Request) {
        let Some(slot) = state.free.pop() else {
            state.backlog.push_front(request);
            return;
        };
        let len = u32::try_from(request.buf.len()).unwrap_or(READ_MAX_BYTES).min(READ_MAX_BYTES);
        let entry = opcode::Read::new(types::Fd(self.fd.as_raw_fd()), request.buf.as_mut_ptr(), len)
            .offset(request.offset_bytes)
            .build()
            .user_data(slot as u64);
        // Moving the request moves the handle of the buffer, not the heap memory that the entry points to.
        state.slots[slot] = Some(request);
        state.in_flight += 1;
        self.push(state, &entry);
    }

    fn push(&self, _state: &mut State, entry: &io_uring::squeue::Entry) {
        // SAFETY: the submission queue is touched only by holders of the state's lock, which `_state` proves. What
        // the entry points to stays in its slot until the kernel has answered; the descriptor lives as long as `self`.
        let pushed = unsafe { self.ring.submission_shared().push(entry) };
        // The queue has twice as many entries as there are slots.
        debug_assert!(pushed.is_ok(), "the submission queue has room for every slot");
    }

    /// Gives the queued entries to the kernel. The lock is held meanwhile: the kernel would take one of its own anyway,
    /// and only so is it certain whose entries are gone.
    fn submit(self: &Arc<Self>, state: parking_lot::MutexGuard<'_, State>) {
        let all_gone = self.submit_locked(&state);
        drop(state);
        if !all_gone {
            self.submit_later();
        }
    }

    /// Whether the kernel took every queued entry.
    fn submit_locked(&self, _state: &State) -> bool {
        if let Err(error) = self.ring.submit() {
            tracing::debug!(%error, "submission to io_uring is tried again");
        }
        // SAFETY: the submission queue is touched only by holders of the state's lock, which `_state` proves.
        unsafe { self.ring.submission_shared().is_empty() }
    }

    /// The kernel had no memory: its entries stay in the queue and are submitted from another thread, so that the
    /// caller does not wait.
    fn submit_later(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let queued = self.pool.run(move || {
            loop {
                if shared.submit_locked(&shared.state.lock()) {
                    return;
                }
                std::thread::sleep(RETRY_AFTER);
            }
        });
        if queued.is_err() {
            tracing::error!("a device read cannot be submitted: its threads are gone");
        }
    }

    /// The completion thread.
    fn complete(self: &Arc<Self>) {
        let mut ended: Vec<(u64, i32)> = Vec::new();
        let mut answers: Vec<(Request, i32)> = Vec::new();
        loop {
            // SAFETY: no argument is passed, so none has to be valid.
            let waited = unsafe { self.ring.submitter().enter::<()>(0, 1, ENTER_GETEVENTS, None) };
            if let Err(error) = waited
                && error.raw_os_error() != Some(Errno::INTR.raw_os_error())
            {
                tracing::warn!(%error, "waiting for io_uring");
                std::thread::sleep(RETRY_AFTER);
            }
            // SAFETY: only this thread touches the completion queue.
            let completions = unsafe { self.ring.completion_shared() };
            ended.extend(completions.map(|entry| (entry.user_data(), entry.result())));

            let mut state = self.state.lock();
            for (user_data, result) in ended.drain(..) {
                let slot = usize::try_from(user_data).unwrap_or(usize::MAX);
                if let Some(request) = state.slots.get_mut(slot).and_then(Option::take) {
                    state.free.push(slot);
                    state.in_flight -= 1;
                    answers.push((request, result));
                }
            }
            let mut begun = false;
            while !state.free.is_empty()
                && let Some(request) = state.backlog.pop_front()
            {
                self.begin(&mut state, request);
                begun = true;
            }
            let finished = state.closing && state.in_flight == 0 && state.backlog.is_empty();
            if begun {
                self.submit(state);
            } else {
                drop(state);
            }
            for (request, result) in answers.drain(..) {
                self.finish(request, result);
            }
            if finished {
                return;
            }
        }
    }

    fn finish(self: &Arc<Self>, request: Request, result: i32) {
        let Request { offset_bytes, mut buf, answer } = request;
        let done = match usize::try_from(result) {
            Ok(done) if done >= buf.len() => {
                // A caller that went away does not want the answer.
                let _ = answer.send(Ok(buf));
                return;
            }
            Ok(done) => done,
            // A request whose submitting thread has ended may be cancelled; the read is still wanted.
            Err(_) if is_transient(result) => 0,
            Err(_) => {
                let _ = answer.send(Err(io::Error::from_raw_os_error(result.wrapping_neg())));
                return;
            }
        };
        let shared = Arc::clone(self);
        // If the pool is gone, the answer is dropped with the job, and the caller is told that the device is closed.
        let _ = self.pool.run(move || {
            let rest = sys::read_full(&shared.fd, &mut buf[done..], offset_bytes.saturating_add(done as u64));
            let _ = answer.send(rest.map(|()| buf).map_err(io::Error::from));
        });
    }
}

fn is_transient(result: i32) -> bool {
    [Errno::AGAIN, Errno::INTR, Errno::CANCELED].iter().any(|errno| errno.raw_os_error() == result.wrapping_neg())
}
