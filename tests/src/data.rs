//! File content that says where it belongs: every byte follows from a number and its offset, so a reader can tell stale,
//! misplaced and foreign data from the right one.

use crate::rng::mix;

/// The byte at `offset` of the data with number `id`.
#[must_use]
pub fn byte(id: u64, offset: u64) -> u8 {
    let word = mix(mix(id.wrapping_add(0x1234_5678)) ^ (offset / 8));
    // Never zero, so that a hole never looks like data.
    ((word >> (8 * (offset % 8))) as u8) | 1
}

/// `len` bytes of the data with number `id`, from `offset` on.
#[must_use]
pub fn bytes(id: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(id, offset, &mut out);
    out
}

/// Fills `out` with the data with number `id`, from `offset` on.
pub fn fill(id: u64, offset: u64, out: &mut [u8]) {
    let base = mix(id.wrapping_add(0x1234_5678));
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let word = (mix(base ^ (at / 8)) | 0x0101_0101_0101_0101).to_le_bytes();
        let within = (at % 8) as usize;
        let take = rest.len().min(8 - within);
        rest[..take].copy_from_slice(&word[within..within + take]);
        rest = &mut rest[take..];
        at += take as u64;
    }
}

/// Where `found` first differs from the data with number `id` at `offset`.
#[must_use]
pub fn first_difference(id: u64, offset: u64, found: &[u8]) -> Option<u64> {
    let wanted = bytes(id, offset, found.len());
    wanted.iter().zip(found).position(|(a, b)| a != b).map(|index| offset + index as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_and_many_agree() {
        let many = bytes(7, 1003, 5000);
        for (index, found) in many.iter().enumerate() {
            assert_eq!(*found, byte(7, 1003 + index as u64));
        }
        assert_eq!(first_difference(7, 1003, &many), None);
    }

    #[test]
    fn other_numbers_and_offsets_are_told_apart() {
        let many = bytes(7, 0, 4096);
        assert!(first_difference(8, 0, &many).is_some_and(|at| at < 64));
        assert!(first_difference(7, 512, &many).is_some_and(|at| at < 576));
        assert!(first_difference(7, 0, &[0; 4096]) == Some(0));
    }
}
