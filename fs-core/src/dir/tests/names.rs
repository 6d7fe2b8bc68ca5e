//! Names, random ones and such that share a hash, and a small generator of numbers.

use std::sync::OnceLock;

/// xorshift64*.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    pub(super) fn name(&mut self) -> Vec<u8> {
        let len = if self.below(20) == 0 { 1 + self.below(255) } else { 1 + self.below(24) };
        (0..len).map(|_| b"abcdefghijklmnopqrstuvwxyz0123456789_-\xff\x80\x01"[self.below(41)]).collect()
    }
}

fn table() -> &'static [u32; 256] {
    static TABLE: OnceLock<[u32; 256]> = OnceLock::new();
    TABLE.get_or_init(|| {
        std::array::from_fn(|index| {
            (0..8).fold(index as u32, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
        })
    })
}

/// `stem` and four bytes that give it the CRC-32 `hash`; `None` if a name cannot have these bytes.
fn forge(stem: &[u8], hash: u32) -> Option<Vec<u8>> {
    let table = table();
    let mut register = stem.iter().fold(!0u32, |crc, byte| crc >> 8 ^ table[((crc ^ u32::from(*byte)) & 255) as usize]);
    // Backwards: which four table entries lead to the wanted end. Forwards: which bytes select them.
    let mut back = !hash;
    let mut indexes = [0usize; 4];
    for place in indexes.iter_mut().rev() {
        *place = table.iter().position(|entry| entry >> 24 == back >> 24).unwrap();
        back = (back ^ table[*place]) << 8;
    }
    let mut name = stem.to_vec();
    for index in indexes {
        name.push(((register ^ index as u32) & 255) as u8);
        register = register >> 8 ^ table[index];
    }
    (!name.contains(&0) && !name.contains(&b'/')).then_some(name)
}

/// Names that all have this hash, `first` being the number in the first one.
pub(super) fn colliding(hash: u32, first: usize) -> impl Iterator<Item = Vec<u8>> {
    (first..).filter_map(move |number| forge(format!("n{number}-").as_bytes(), hash))
}

/// A name of 255 bytes that has this hash.
pub(super) fn longest(hash: u32) -> Vec<u8> {
    (0..).find_map(|number| forge(format!("{number:0>251}").as_bytes(), hash)).unwrap()
}

#[test]
fn forged_names_have_the_hash() {
    for hash in [0, 1, 0xffff_ffff, 0x1234_5678] {
        assert!(colliding(hash, 0).take(50).all(|name| crate::format::dirent::hash(&name) == hash));
    }
}
