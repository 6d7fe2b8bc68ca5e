//! The block size of a volume and the numbers that follow from it.

use super::{dinode, dirent, log, meta, rgrp};

/// Size of a filesystem block: a power of two from 512 to 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockSize {
    shift: u32,
}

impl BlockSize {
    /// Largest block size, in bytes: the page size of the kernels that can mount the volume.
    pub const MAX: Self = Self { shift: 12 };
    /// Smallest block size, in bytes.
    pub const MIN: Self = Self { shift: 9 };

    /// `None` unless `bytes` is 512, 1024, 2048 or 4096.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        let shift = bytes.trailing_zeros();
        if bytes.is_power_of_two() && shift >= Self::MIN.shift && shift <= Self::MAX.shift {
            Some(Self { shift })
        } else {
            None
        }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.shift
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes_u32(self) -> u32 {
        1 << self.shift
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes_u64(self) -> u64 {
        1 << self.shift
    }

    /// Binary logarithm of the size.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.shift
    }

    /// Bytes of a file that fit into its dinode.
    #[must_use]
    pub const fn stuffed_bytes_max(self) -> usize {
        self.bytes() - dinode::HEADER_BYTES
    }

    /// Pointers in a dinode.
    #[must_use]
    pub const fn dinode_pointers(self) -> usize {
        self.stuffed_bytes_max() / 8
    }

    /// Payload of a block behind its metadata header, in bytes.
    #[must_use]
    pub const fn payload_bytes(self) -> usize {
        self.bytes() - meta::HEADER_BYTES
    }

    /// Pointers in an indirect block.
    #[must_use]
    pub const fn indirect_pointers(self) -> usize {
        self.payload_bytes() / 8
    }

    /// Room for entries in a directory leaf, in bytes.
    #[must_use]
    pub const fn leaf_bytes(self) -> usize {
        self.bytes() - dirent::LEAF_HEADER_BYTES
    }

    /// Depth of a directory's hash table when it is first made.
    #[must_use]
    pub const fn hash_depth_initial(self) -> u16 {
        // A table of half a block of 8-byte pointers: log2(size / 16).
        #[allow(clippy::cast_possible_truncation)]
        let depth = (self.shift - 4) as u16;
        depth
    }

    /// Block numbers in a log descriptor.
    #[must_use]
    pub const fn descriptor_pointers(self) -> usize {
        (self.bytes() - log::DESCRIPTOR_BYTES) / 8
    }

    /// Bytes of bitmap in the header block of a resource group.
    #[must_use]
    pub const fn bitmap_bytes_first(self) -> usize {
        self.bytes() - rgrp::HEADER_BYTES
    }

    /// Bytes of bitmap in each further block of a resource group's header.
    #[must_use]
    pub const fn bitmap_bytes_next(self) -> usize {
        self.payload_bytes()
    }

    /// Largest height of a metadata tree: at this height the tree addresses every offset of a file.
    #[must_use]
    pub const fn height_max(self) -> u16 {
        let mut height = 0;
        while height < 10 && self.capacity_bytes(height) < i64::MAX as u64 {
            height += 1;
        }
        height
    }

    /// Bytes of a file that a metadata tree of `height` addresses; `u64::MAX` when it is more.
    #[must_use]
    pub const fn capacity_bytes(self, height: u16) -> u64 {
        if height == 0 {
            return self.stuffed_bytes_max() as u64;
        }
        let mut bytes = self.bytes_u64() * self.dinode_pointers() as u64;
        let mut level = 1;
        while level < height {
            bytes = bytes.saturating_mul(self.indirect_pointers() as u64);
            level += 1;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_constants_are_those_of_the_format() {
        // size, stuffed, dinode pointers, indirect pointers, descriptor pointers, depth, height
        for row in [
            (512, 280, 35, 61, 55, 5, 10),
            (1024, 792, 99, 125, 119, 6, 8),
            (2048, 1816, 227, 253, 247, 7, 7),
            (4096, 3864, 483, 509, 503, 8, 6),
        ] {
            let size = BlockSize::new(row.0).unwrap();
            assert_eq!(
                (row.1, row.2, row.3, row.4, row.5, row.6),
                (
                    size.stuffed_bytes_max(),
                    size.dinode_pointers(),
                    size.indirect_pointers(),
                    size.descriptor_pointers(),
                    size.hash_depth_initial(),
                    size.height_max()
                )
            );
        }
        assert_eq!(BlockSize::MAX.capacity_bytes(3), 512_557_559_808);
        assert!([0, 1, 256, 513, 8192, u32::MAX].into_iter().all(|bytes| BlockSize::new(bytes).is_none()));
    }
}
