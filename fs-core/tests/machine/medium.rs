//! What a disk with a volatile cache has kept when the power goes.
//!
//! Fault model
//! * A write is in the cache from the moment it is asked for, and may reach the medium at any time from then on.
//! * A flush makes durable every write that was complete when it began; a durable write (FUA) itself when it completes.
//! * When the power goes, each write that is not durable is kept, lost or torn: of its sectors of 512 bytes any subset
//!   reaches the medium; or shredded: of its words of eight bytes any subset does, as on a medium that was in the middle of
//!   a sector. So writes between two flushes may be lost in any combination, which is any order.
//! * Of two writes of one sector that are both kept, the later one counts.

use std::collections::BTreeMap;

use posix_model::rng::Rng;

use super::disk::{Event, Image, Log, SECTOR};

/// What became of a write that was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Kept,
    Lost,
    /// Some sectors are kept; which, follows from the number.
    Torn(u64),
    /// Some words are.
    Shredded(u64),
}

impl Fate {
    fn keeps(self, sector: u64) -> bool {
        match self {
            Self::Kept => true,
            Self::Lost => false,
            Self::Torn(seed) => Rng::new(seed ^ sector).chance(50),
            Self::Shredded(_) => true,
        }
    }

    /// What becomes of a sector that is not lost.
    fn put(self, sector: u64, data: &[u8], image: &mut Image) {
        let at = sector * SECTOR as u64;
        let Self::Shredded(seed) = self else { return image.write(at, data) };
        let mut rng = Rng::new(seed ^ sector);
        for (word, bytes) in data.chunks(8).enumerate() {
            if rng.chance(50) {
                image.write(at + 8 * word as u64, bytes);
            }
        }
    }
}

/// Fates by number of the write.
pub(crate) type Fates = BTreeMap<usize, Fate>;

/// The medium and the cache after some events of a log.
pub(crate) struct Medium<'a> {
    log: &'a Log,
    at: usize,
    durable: Image,
    /// By sector: writes that are not durable, oldest first.
    cached: BTreeMap<u64, Vec<usize>>,
    done: Vec<bool>,
    /// Writes that a flush under way covers.
    flushes: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Medium<'a> {
    pub(crate) fn new(base: &Image, log: &'a Log) -> Self {
        Self {
            log,
            at: 0,
            durable: base.clone(),
            cached: BTreeMap::new(),
            done: vec![false; log.writes.len()],
            flushes: BTreeMap::new(),
        }
    }

    /// Goes on to the moment after event number `to`.
    pub(crate) fn advance(&mut self, to: usize) {
        while self.at < to {
            match self.log.events[self.at] {
                Event::Issued(number) => {
                    for sector in self.sectors(number) {
                        self.cached.entry(sector).or_default().push(number);
                    }
                }
                Event::Done(number) => {
                    self.done[number] = true;
                    if self.log.writes[number].durable {
                        self.settle(number);
                    }
                }
                Event::FlushBegun(flush) => {
                    let covered = self.pending().into_iter().filter(|number| self.done[*number]).collect();
                    self.flushes.insert(flush, covered);
                }
                Event::FlushDone(flush) => {
                    for number in self.flushes.remove(&flush).unwrap() {
                        self.settle(number);
                    }
                }
            }
            self.at += 1;
        }
    }

    fn sectors(&self, number: usize) -> std::ops::Range<u64> {
        let write = &self.log.writes[number];
        let first = write.offset / SECTOR as u64;
        first..first + (write.data.len() / SECTOR) as u64
    }

    fn sector(&self, number: usize, sector: u64) -> &'a [u8] {
        let write = &self.log.writes[number];
        let start = (sector * SECTOR as u64 - write.offset) as usize;
        &write.data[start..start + SECTOR]
    }

    /// A write is durable, and what was there before it is history.
    fn settle(&mut self, number: usize) {
        for sector in self.sectors(number) {
            let data = self.sector(number, sector);
            let Some(versions) = self.cached.get_mut(&sector) else { continue };
            // A later one may have been settled before.
            let Some(index) = versions.iter().position(|version| *version == number) else { continue };
            versions.drain(..=index);
            if versions.is_empty() {
                self.cached.remove(&sector);
            }
            self.durable.write(sector * SECTOR as u64, data);
        }
    }

    /// Writes that may be lost, by number.
    pub(crate) fn pending(&self) -> Vec<usize> {
        let mut pending: Vec<usize> = self.cached.values().flatten().copied().collect();
        pending.sort_unstable();
        pending.dedup();
        pending
    }

    /// Random fates of the writes that may be lost.
    pub(crate) fn fates(&self, rng: &mut Rng) -> Fates {
        let pending = self.pending();
        let one = *pending.get(rng.below(pending.len() as u64) as usize).unwrap_or(&0);
        let kind = rng.below(8);
        let (lost, torn) = [(0, 0), (100, 0), (50, 0), (50, 20), (10, 80), (90, 5), (0, 0), (100, 0)][kind as usize];
        let shreds = rng.chance(30);
        let mut fate = |number: usize| {
            let die = rng.below(100);
            match kind {
                // All but one of them.
                6 if number == one => Fate::Lost,
                7 if number == one => Fate::Kept,
                _ if die < lost => Fate::Lost,
                _ if die < lost + torn && shreds => Fate::Shredded(rng.next_u64()),
                _ if die < lost + torn => Fate::Torn(rng.next_u64()),
                _ => Fate::Kept,
            }
        };
        pending.into_iter().map(|number| (number, fate(number))).collect()
    }

    /// What the medium has if the power goes now.
    pub(crate) fn image(&self, fates: &Fates) -> Image {
        let mut image = self.durable.clone();
        for (sector, versions) in &self.cached {
            for number in versions {
                if let Some(fate) = fates.get(number).filter(|fate| fate.keeps(*sector)) {
                    fate.put(*sector, self.sector(*number, *sector), &mut image);
                }
            }
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::disk::Disk;
    use crate::machine::on_this_thread;
    use block::device::{BlockDevice, Durability, IoBuf};

    fn sectors(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; 8 * SECTOR];
        image.read(0, &mut bytes);
        bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn flushes_keep_what_was_complete_and_cuts_lose_the_rest() {
        let base = Image::new(8 * SECTOR as u64);
        let disk = Disk::recording(base.clone(), Rng::new(1));
        let put = async |sector: u64, byte: u8, durability| {
            let data = IoBuf::copied_from(&[byte; SECTOR]);
            disk.write(sector * SECTOR as u64, data, durability).await.unwrap();
        };
        on_this_thread(async {
            put(0, 1, Durability::Cached).await;
            put(1, 1, Durability::Cached).await;
            disk.flush().await.unwrap();
            put(0, 2, Durability::Cached).await;
            put(1, 2, Durability::Durable).await;
            put(1, 3, Durability::Cached).await;
        });
        let log = disk.take_log();
        let mut medium = Medium::new(&base, &log);
        let all = |medium: &Medium<'_>, fate| medium.pending().into_iter().map(|number| (number, fate)).collect();
        let lost = |medium: &Medium<'_>| sectors(&medium.image(&all(medium, Fate::Lost)))[..3].to_vec();
        let kept = |medium: &Medium<'_>| sectors(&medium.image(&all(medium, Fate::Kept)))[..3].to_vec();
        // Both are written, and the flush has begun.
        medium.advance(5);
        assert_eq!((lost(&medium), kept(&medium)), (vec![0xdb; 3], vec![1, 1, 0xdb]));
        medium.advance(6);
        assert_eq!(lost(&medium), [1, 1, 0xdb]);
        medium.advance(log.events.len());
        assert_eq!((lost(&medium), kept(&medium)), (vec![1, 2, 0xdb], vec![2, 3, 0xdb]));
        let torn = (0..50).map(|seed| sectors(&medium.image(&all(&medium, Fate::Torn(seed))))[0]);
        assert!(torn.clone().any(|byte| byte == 1) && torn.clone().any(|byte| byte == 2));
    }
}
