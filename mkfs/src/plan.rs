//! From options and a size to a layout. Pure: needs no device.

use block::device::Geometry;
use fs_core::addr::BlockAddr;
use fs_core::format::block_size::BlockSize;
use fs_core::geometry::{
    AREA_VOLUME_BYTES_MIN, ClusterArea, FIRST_RGRP_BYTES_WITHOUT_AREA, LARGE_AREA_VOLUME_BYTES_MIN, RgrpShape,
};

use crate::error::PlanError;
use crate::options::{
    JOURNAL_BYTES_MAX, JOURNAL_BYTES_MIN, JOURNALS_DEFAULT, JOURNALS_MAX, JOURNALS_SHARE, LABEL_BYTES_MAX, Options,
    RGRP_BYTES_MAX, RGRP_BYTES_MIN, journal_bytes_default, rgrp_bytes_default,
};
use crate::rgrps::{Rgrps, divide};
use crate::system::{NodeFiles, NodeInodes, Numbers, SharedFiles, SharedInodes};

/// Resource groups start at multiples of this, in bytes: the sector of most disks, whatever the block size.
const ALIGN_BYTES: u64 = 4096;
/// Free blocks of the smallest volume: something can be done with it, and be repaired on it.
const FREE_BLOCKS_MIN: u64 = 64;

/// The layout of a new volume.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Size of the volume, in bytes.
    pub size_bytes: u64,
    /// Block size.
    pub block_size: BlockSize,
    /// Label.
    pub label: String,
    /// Journals.
    pub journals: u32,
    /// Journals that it would have if it were larger.
    pub journals_wanted: u32,
    /// Size of each journal, in blocks.
    pub journal_blocks: u64,
    /// Gap that is kept for the cluster area.
    pub area: Option<ClusterArea>,
    /// Resource groups: one for each journal, then one with the system files, then the rest.
    pub rgrps: Rgrps,
    /// Shapes of each node's files.
    pub node_files: NodeFiles,
    /// Places of each node's files.
    pub nodes: Vec<NodeInodes>,
    /// Shapes of the files that the volume has once.
    pub shared_files: SharedFiles,
    /// Places of these.
    pub shared: SharedInodes,
}

/// Numbers that do not depend on how many journals there are.
#[derive(Clone, Copy)]
struct Frame {
    size_bytes: u64,
    block_size: BlockSize,
}

impl Frame {
    /// Blocks that resource groups are aligned to.
    fn unit(self) -> u64 {
        (ALIGN_BYTES / self.block_size.bytes_u64()).max(1)
    }

    fn first_rgrp(self) -> u64 {
        let bytes = ClusterArea::of_volume(self.size_bytes).map_or(FIRST_RGRP_BYTES_WITHOUT_AREA, |area| area.end);
        bytes / self.block_size.bytes_u64()
    }

    /// Blocks that resource groups can have.
    fn space(self) -> u64 {
        let blocks = (self.size_bytes / self.block_size.bytes_u64()).saturating_sub(self.first_rgrp());
        blocks - blocks % self.unit()
    }

    /// Blocks of one journal's resource group.
    fn journal_span(self, journal_bytes: u64) -> u64 {
        let files = NodeFiles::new(journal_bytes / self.block_size.bytes_u64(), self.block_size);
        // The largest journal has 2^21 blocks; a group may describe twice that.
        RgrpShape::span_for(files.blocks(), self.block_size).unwrap_or(u64::MAX / 256).next_multiple_of(self.unit())
    }

    /// Blocks of the smallest resource group that holds the system files, of which `rgrps` is the number of groups
    /// that are no journal's.
    fn system_span(self, journals: u32, rgrps: u64) -> Option<u64> {
        let files = SharedFiles::new(journals, rgrps + u64::from(journals), self.block_size);
        let span = RgrpShape::span_for(files.blocks() + FREE_BLOCKS_MIN, self.block_size)?;
        Some(span.next_multiple_of(self.unit()))
    }

    /// Blocks behind the first resource group that a volume with so many journals needs at least.
    fn needed(self, journals: u32, journal_bytes: u64) -> u64 {
        let system = self.system_span(journals, 1).unwrap_or(u64::MAX / 256);
        self.journal_span(journal_bytes).saturating_mul(u64::from(journals)).saturating_add(system)
    }

    fn bytes(self, blocks: u64) -> u64 {
        blocks.saturating_mul(self.block_size.bytes_u64())
    }
}

impl Plan {
    /// Lays out a volume of `size_bytes` on a device with these sectors.
    ///
    /// # Errors
    /// What cannot be done as it was asked for.
    pub fn new(size_bytes: u64, geometry: &Geometry, options: &Options) -> Result<Self, PlanError> {
        check(geometry, options)?;
        let frame = Frame { size_bytes, block_size: options.block_size };
        let (journals, journal_bytes) = choose_journals(frame, options)?;
        let rgrp_bytes = options.rgrp_bytes.unwrap_or_else(|| rgrp_bytes_default(size_bytes, journals));
        Self::lay_out(frame, journals, journal_bytes, rgrp_bytes, options).ok_or(PlanError::TooManyRgrps { size_bytes })
    }

    fn lay_out(frame: Frame, journals: u32, journal_bytes: u64, rgrp_bytes: u64, options: &Options) -> Option<Self> {
        let block_size = frame.block_size;
        let journal_blocks = journal_bytes / block_size.bytes_u64();
        let mut rgrps = Rgrps::starting_at(frame.first_rgrp(), block_size);
        let journal_span = frame.journal_span(journal_bytes);
        rgrps.append(u64::from(journals), journal_span)?;
        let rest = frame.space().checked_sub(journal_span.checked_mul(u64::from(journals))?)?;
        let target = rgrp_bytes / block_size.bytes_u64();
        for (count, span) in divide(rest, target, frame.unit(), |count| frame.system_span(journals, count))? {
            rgrps.append(count, span)?;
        }

        let numbers = Numbers::new(journals);
        let node_files = NodeFiles::new(journal_blocks, block_size);
        let places = rgrps.iter().zip(0..journals);
        let nodes: Option<Vec<_>> =
            places.map(|(place, node)| node_files.place(&numbers, node, place.data0.0)).collect();
        let shared_files = SharedFiles::new(journals, rgrps.count(), block_size);
        let system_group = rgrps.place(u64::from(journals))?;
        if shared_files.blocks() > u64::from(system_group.data) {
            return None;
        }
        Some(Self {
            size_bytes: frame.size_bytes,
            block_size,
            label: options.label.clone(),
            journals,
            journals_wanted: options.journals.unwrap_or(JOURNALS_DEFAULT),
            journal_blocks,
            area: ClusterArea::of_volume(frame.size_bytes),
            nodes: nodes?,
            shared: SharedInodes::place(&shared_files, numbers, system_group.data0.0)?,
            shared_files,
            node_files,
            rgrps,
        })
    }

    /// Blocks in use of the resource group with this number.
    #[must_use]
    pub fn used_in_rgrp(&self, number: u64) -> u64 {
        match number.cmp(&u64::from(self.journals)) {
            std::cmp::Ordering::Less => self.node_files.blocks(),
            std::cmp::Ordering::Equal => self.shared_files.blocks(),
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Blocks that are free in a new volume.
    #[must_use]
    pub fn free_blocks(&self) -> u64 {
        let used = self.node_files.blocks() * u64::from(self.journals) + self.shared_files.blocks();
        self.rgrps.data_blocks().saturating_sub(used)
    }

    /// Inodes of a new volume.
    #[must_use]
    pub fn dinodes(&self) -> u64 {
        self.shared.next_formal - 1
    }

    /// Size of each journal, in bytes.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        self.journal_blocks * self.block_size.bytes_u64()
    }

    /// First block of the first resource group.
    #[must_use]
    pub fn first_rgrp(&self) -> BlockAddr {
        self.rgrps.place(0).map_or(BlockAddr(0), |place| place.addr)
    }
}

fn check(geometry: &Geometry, options: &Options) -> Result<(), PlanError> {
    let block_bytes = options.block_size.bytes_u32();
    if block_bytes < geometry.logical_sector_bytes {
        return Err(PlanError::BlockBelowSector { block_bytes, sector_bytes: geometry.logical_sector_bytes });
    }
    if let Some(journals) = options.journals.filter(|journals| !(1..=JOURNALS_MAX).contains(journals)) {
        return Err(PlanError::JournalCount { journals });
    }
    let sizes = JOURNAL_BYTES_MIN..=JOURNAL_BYTES_MAX;
    if let Some(journal_bytes) = options.journal_bytes.filter(|bytes| !sizes.contains(bytes)) {
        return Err(PlanError::JournalSize { journal_bytes });
    }
    let sizes = RGRP_BYTES_MIN..=RGRP_BYTES_MAX;
    if let Some(rgrp_bytes) = options.rgrp_bytes.filter(|bytes| !sizes.contains(bytes)) {
        return Err(PlanError::RgrpSize { rgrp_bytes });
    }
    if options.label.len() > LABEL_BYTES_MAX {
        return Err(PlanError::LabelLength { bytes: options.label.len() });
    }
    // The kernel makes path names of it, blkid and fstab text.
    let odd = |character: &char| character.is_control() || matches!(character, '/' | '"' | '\\');
    match options.label.chars().find(odd) {
        Some(character) => Err(PlanError::LabelCharacter { character }),
        None => Ok(()),
    }
}

/// How many journals of which size.
fn choose_journals(frame: Frame, options: &Options) -> Result<(u32, u64), PlanError> {
    let size_of = |journals: u32| {
        let chosen =
            options.journal_bytes.unwrap_or_else(|| journal_bytes_default(frame.size_bytes / u64::from(journals)));
        chosen - chosen % frame.block_size.bytes_u64()
    };
    let fits = |journals| frame.needed(journals, size_of(journals)) <= frame.space();
    if !fits(1) {
        let minimum_bytes = minimum_bytes(frame.block_size, size_of(1));
        return Err(PlanError::TooSmall { size_bytes: frame.size_bytes, minimum_bytes });
    }
    if let Some(journals) = options.journals {
        if !fits(journals) {
            let journal_bytes = size_of(journals);
            let fit = (1..journals).rev().find(|count| frame.needed(*count, journal_bytes) <= frame.space());
            return Err(PlanError::JournalsDoNotFit {
                journals,
                journal_bytes,
                needed_bytes: frame.bytes(frame.first_rgrp() + frame.needed(journals, journal_bytes)),
                size_bytes: frame.size_bytes,
                fit: fit.unwrap_or(0),
            });
        }
        return Ok((journals, size_of(journals)));
    }
    let modest = |journals: &u32| {
        let taken = frame.journal_span(size_of(*journals)).saturating_mul(u64::from(*journals));
        fits(*journals) && taken <= frame.space() / JOURNALS_SHARE
    };
    let journals = (1..=JOURNALS_DEFAULT).rev().find(modest).unwrap_or(1);
    Ok((journals, size_of(journals)))
}

/// Size of the smallest volume with one journal. The larger a volume, the more is kept for its cluster area.
fn minimum_bytes(block_size: BlockSize, journal_bytes: u64) -> u64 {
    let at_least = |size_bytes: u64| {
        let frame = Frame { size_bytes, block_size };
        frame.bytes(frame.first_rgrp() + frame.needed(1, journal_bytes)).max(size_bytes)
    };
    let small = at_least(0);
    if small < AREA_VOLUME_BYTES_MIN {
        return small;
    }
    let medium = at_least(AREA_VOLUME_BYTES_MIN);
    if medium < LARGE_AREA_VOLUME_BYTES_MIN { medium } else { at_least(LARGE_AREA_VOLUME_BYTES_MIN) }
}

#[cfg(test)]
#[path = "plan_test.rs"]
mod tests;
