//! A device with injected errors and counted requests, for tests.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::{BlockDevice, DeviceError, Durability, Geometry, IoBuf, IoFuture, Operation};

/// An error to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Which requests.
    pub operation: Operation,
    /// How many requests of this kind still succeed, counted from when the fault is set.
    pub after: u64,
    /// Whether one request fails or all from then on.
    pub lasts: Lasts,
}

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// One request fails.
    Once,
    /// Every request of the kind fails from then on.
    Forever,
}

/// How many requests of one kind there were, failed ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Bytes that they were about; zero for flushes.
    pub bytes: u64,
    /// Requests that failed because a fault was set.
    pub faults: u64,
}

/// Requests by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Reads.
    pub reads: Count,
    /// Writes, durable ones included.
    pub writes: Count,
    /// Those of the writes that were durable.
    pub durable_writes: u64,
    /// Flushes.
    pub flushes: Count,
    /// Discards.
    pub discards: Count,
}

impl Counts {
    /// The count of one kind.
    pub fn of(&self, operation: Operation) -> Count {
        match operation {
            Operation::Read => self.reads,
            Operation::Write => self.writes,
            Operation::Flush => self.flushes,
            Operation::Discard => self.discards,
        }
    }

    fn of_mut(&mut self, operation: Operation) -> &mut Count {
        match operation {
            Operation::Read => &mut self.reads,
            Operation::Write => &mut self.writes,
            Operation::Flush => &mut self.flushes,
            Operation::Discard => &mut self.discards,
        }
    }
}

/// Another device, seen through faults. Clones share the faults and the counts.
///
/// A request that fails does not reach the device below.
#[derive(Clone)]
pub struct FaultyDevice {
    below: Arc<dyn BlockDevice>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    counts: Counts,
}

impl FaultyDevice {
    /// A device that behaves like `below` until a fault is set.
    pub fn new(below: Arc<dyn BlockDevice>) -> Self {
        Self { below, state: Arc::default() }
    }

    /// Sets a fault; those that were set before stay.
    pub fn set(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// The `n`th request of this kind from now on fails, counted from 0, and no other.
    pub fn fail_nth(&self, operation: Operation, n: u64) {
        self.set(Fault { operation, after: n, lasts: Lasts::Once });
    }

    /// The `n`th request of this kind from now on fails, counted from 0, and all that follow.
    pub fn fail_from(&self, operation: Operation, n: u64) {
        self.set(Fault { operation, after: n, lasts: Lasts::Forever });
    }

    /// Removes all faults: the device is well again.
    pub fn heal(&self) {
        self.state.lock().faults.clear();
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Starts counting anew.
    pub fn reset_counts(&self) {
        self.state.lock().counts = Counts::default();
    }

    /// Counts a request and says whether it has to fail.
    fn admit(&self, operation: Operation, offset_bytes: u64, len_bytes: u64) -> Result<(), DeviceError> {
        let mut state = self.state.lock();
        let mut fails = false;
        state.faults.retain_mut(|fault| {
            if fault.operation != operation {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            fails = true;
            fault.lasts == Lasts::Forever
        });
        let count = state.counts.of_mut(operation);
        count.requests += 1;
        count.bytes = count.bytes.saturating_add(len_bytes);
        if fails {
            count.faults += 1;
            // What a disk's unreadable sector or a lost path looks like.
            let source = io::Error::from(rustix::io::Errno::IO);
            return Err(DeviceError::Io { operation, offset_bytes, len_bytes, source });
        }
        Ok(())
    }
}

impl BlockDevice for FaultyDevice {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.admit(Operation::Read, offset_bytes, buf.len() as u64)?;
            self.below.read(offset_bytes, buf).await
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            if durability == Durability::Durable {
                self.state.lock().counts.durable_writes += 1;
            }
            self.admit(Operation::Write, offset_bytes, data.len() as u64)?;
            self.below.write(offset_bytes, data, durability).await
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.admit(Operation::Flush, 0, 0)?;
            self.below.flush().await
        })
    }

    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.admit(Operation::Discard, offset_bytes, len_bytes)?;
            self.below.discard(offset_bytes, len_bytes).await
        })
    }
}
