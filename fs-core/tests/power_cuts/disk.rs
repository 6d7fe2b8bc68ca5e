//! A disk with a volatile cache, whose power can be cut.
//!
//! Fault model
//! * A write is in the cache from the moment it is asked for, and may reach the medium at any time from then on.
//! * A flush makes durable every write that was complete when it began; a durable write itself when it completes.
//! * When the power goes, each write that is not durable is kept, lost or torn: of its sectors of 512 bytes any subset
//!   reaches the medium. All requests from then on fail.
//! * A read that meets a write under way returns any mixture of old and new sectors.
//! * Two writes of one sector at the same time are nobody's right, and end the test.

use std::collections::BTreeMap;
use std::sync::Arc;

use block::device::{BlockDevice, DeviceError, Durability, Geometry, IoBuf, IoFuture, Operation};
use parking_lot::Mutex;

use super::Random;

const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// A write of one sector that is not durable yet.
struct Version {
    write: u64,
    complete: bool,
    data: Box<Sector>,
}

struct State {
    /// What survives.
    durable: Vec<u8>,
    /// By sector, oldest first.
    cached: BTreeMap<usize, Vec<Version>>,
    writes: u64,
    random: Random,
    /// Requests until the power goes.
    fuse: u64,
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct PowerDisk {
    state: Arc<Mutex<State>>,
    size_bytes: u64,
}

impl PowerDisk {
    /// A disk that holds `image`, and whose power goes after `fuse` requests that change it.
    pub(crate) fn new(image: Vec<u8>, fuse: u64, random: Random) -> Self {
        let size_bytes = image.len() as u64;
        let state = State { durable: image, cached: BTreeMap::new(), writes: 0, random, fuse };
        Self { state: Arc::new(Mutex::new(state)), size_bytes }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.state.lock().fuse == 0
    }

    pub(crate) fn cut_power(&self) {
        self.state.lock().fuse = 0;
    }

    /// What is on the medium after the power has gone.
    pub(crate) fn into_image(self) -> Vec<u8> {
        let mut state = self.state.lock();
        let State { durable, cached, random, .. } = &mut *state;
        let (lost, torn) = *random.pick(&[(0, 0), (100, 0), (50, 0), (50, 20), (10, 80), (90, 5)]);
        // Fates of writes: kept, lost, torn.
        let mut fates: BTreeMap<u64, u64> = BTreeMap::new();
        for (sector, versions) in std::mem::take(cached) {
            for version in versions {
                let fate = *fates.entry(version.write).or_insert_with(|| {
                    let die = random.below(100);
                    if die < lost {
                        0
                    } else if die < lost + torn {
                        1
                    } else {
                        2
                    }
                });
                if fate == 2 || (fate == 1 && random.below(2) == 0) {
                    durable[sector * SECTOR..][..SECTOR].copy_from_slice(&version.data[..]);
                }
            }
        }
        std::mem::take(durable)
    }

    fn dead(operation: Operation, offset_bytes: u64) -> DeviceError {
        let source = std::io::Error::other("the power is gone");
        DeviceError::Io { operation, offset_bytes, len_bytes: 0, source }
    }

    /// Lets others run for a while.
    async fn wait(&self) {
        let turns = {
            let random = &mut self.state.lock().random;
            if random.below(3) == 0 { random.below(12) } else { 0 }
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

impl State {
    fn burn(&mut self, operation: Operation, offset: u64) -> Result<(), DeviceError> {
        if self.fuse == 0 {
            return Err(PowerDisk::dead(operation, offset));
        }
        self.fuse -= 1;
        Ok(())
    }
}

impl BlockDevice for PowerDisk {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.size_bytes,
            logical_sector_bytes: 512,
            physical_sector_bytes: 512,
            read_only: false,
            discards: true,
        }
    }

    fn read(&self, offset_bytes: u64, mut buf: IoBuf) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry().check(Operation::Read, offset_bytes, buf.len() as u64)?;
            self.wait().await;
            {
                let mut state = self.state.lock();
                let State { durable, cached, random, fuse, .. } = &mut *state;
                if *fuse == 0 {
                    return Err(Self::dead(Operation::Read, offset_bytes));
                }
                let start = offset_bytes as usize;
                let (first, len) = (start / SECTOR, buf.len());
                buf.copy_from_slice(&durable[start..start + len]);
                for (sector, versions) in cached.range(first..first + len / SECTOR) {
                    for version in versions {
                        if version.complete || random.below(2) == 0 {
                            buf[(sector - first) * SECTOR..][..SECTOR].copy_from_slice(&version.data[..]);
                        }
                    }
                }
            }
            self.wait().await;
            Ok(buf)
        })
    }

    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        Box::pin(async move {
            self.geometry().check(Operation::Write, offset_bytes, data.len() as u64)?;
            let first = offset_bytes as usize / SECTOR;
            let id = {
                let mut state = self.state.lock();
                state.burn(Operation::Write, offset_bytes)?;
                state.writes += 1;
                let write = state.writes;
                for (sector, piece) in (first..).zip(data.chunks_exact(SECTOR)) {
                    let versions = state.cached.entry(sector).or_default();
                    assert!(versions.iter().all(|version| version.complete), "two writes of sector {sector} at once");
                    versions.push(Version { write, complete: false, data: Box::new(piece.try_into().unwrap()) });
                }
                write
            };
            self.wait().await;
            let mut state = self.state.lock();
            let State { durable, cached, fuse, .. } = &mut *state;
            if *fuse == 0 {
                return Err(Self::dead(Operation::Write, offset_bytes));
            }
            for sector in first..first + data.len() / SECTOR {
                let versions = cached.get_mut(&sector).unwrap();
                let version = versions.iter_mut().find(|version| version.write == id).unwrap();
                version.complete = true;
                if durability == Durability::Durable {
                    durable[sector * SECTOR..][..SECTOR].copy_from_slice(&version.data[..]);
                    cached.remove(&sector);
                }
            }
            Ok(data)
        })
    }

    fn flush(&self) -> IoFuture<'_, ()> {
        Box::pin(async move {
            let covered: Vec<(usize, u64)> = {
                let mut state = self.state.lock();
                state.burn(Operation::Flush, 0)?;
                let last = |versions: &[Version]| versions.iter().rfind(|v| v.complete).map(|v| v.write);
                state.cached.iter().filter_map(|(sector, versions)| Some((*sector, last(versions)?))).collect()
            };
            self.wait().await;
            let mut state = self.state.lock();
            if state.fuse == 0 {
                return Err(Self::dead(Operation::Flush, 0));
            }
            let State { durable, cached, .. } = &mut *state;
            for (sector, write) in covered {
                // A durable write, or another flush, may have been faster.
                let Some(versions) = cached.get_mut(&sector) else { continue };
                let Some(index) = versions.iter().position(|version| version.write == write) else { continue };
                durable[sector * SECTOR..][..SECTOR].copy_from_slice(&versions[index].data[..]);
                versions.drain(..=index);
                if versions.is_empty() {
                    cached.remove(&sector);
                }
            }
            Ok(())
        })
    }

    /// At once and for good, and what was there is not there any more.
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        Box::pin(async move {
            self.geometry().check(Operation::Discard, offset_bytes, len_bytes)?;
            {
                let mut state = self.state.lock();
                state.burn(Operation::Discard, offset_bytes)?;
                let (start, len) = (offset_bytes as usize, len_bytes as usize);
                for sector in start / SECTOR..(start + len) / SECTOR {
                    let versions = state.cached.remove(&sector).unwrap_or_default();
                    assert!(versions.iter().all(|version| version.complete), "a discard of a write under way");
                }
                state.durable[start..start + len].fill(0xDB);
            }
            self.wait().await;
            Ok(())
        })
    }
}
