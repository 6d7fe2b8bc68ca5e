//! `debug bitmap`: which blocks of a resource group are in use, and as what.

use std::io::Write;

use fs_core::addr::BlockAddr;
use fs_core::blocks::Blocks;
use fs_core::error::CorruptKind;
use fs_core::format::meta::BlockKind;
use fs_core::format::rgrp::{BlockState, RgrpHeader, RgrpPlace};

use super::View;
use super::volume::Volume;

/// How many blocks are in each state.
#[derive(Default)]
struct Counts {
    free: u32,
    used: u32,
    unlinked: u32,
    dinode: u32,
}

impl Counts {
    fn add(&mut self, state: BlockState, count: u32) {
        let counter = match state {
            BlockState::Free => &mut self.free,
            BlockState::Used => &mut self.used,
            BlockState::Unlinked => &mut self.unlinked,
            BlockState::Dinode => &mut self.dinode,
        };
        *counter += count;
    }
}

impl<W: Write> View<'_, W> {
    pub(super) async fn bitmap(&mut self, n: u64) -> anyhow::Result<()> {
        let groups = self.volume.groups().await?;
        let place = groups.get(n)?;
        self.out.field("n", n)?;
        self.out.field("block", place.addr.0)?;
        let mut counts = Counts::default();
        self.out.table("runs", &[("from", 12), ("to", 12), ("blocks", 9), ("state", 0)])?;
        // The run that is being extended: its first index and state.
        let mut run: Option<(u32, BlockState)> = None;
        let mut index = 0;
        for header_block in 0..place.length {
            for state in states(&self.volume, place, header_block).await? {
                match run {
                    Some((_, same)) if same == state => {}
                    _ => {
                        self.run(place, &mut counts, run, index)?;
                        run = Some((index, state));
                    }
                }
                index += 1;
                if index == place.data {
                    break;
                }
            }
        }
        self.run(place, &mut counts, run, index)?;
        self.out.end()?;
        self.out.section("counts")?;
        self.out.field("free", counts.free)?;
        self.out.field("used", counts.used)?;
        self.out.field("unlinked", counts.unlinked)?;
        self.out.field("dinodes", counts.dinode)?;
        self.out.end()?;
        self.compare(place, &counts).await
    }

    /// One row, for the run that ends before `end`.
    fn run(
        &mut self,
        place: &RgrpPlace,
        counts: &mut Counts,
        run: Option<(u32, BlockState)>,
        end: u32,
    ) -> std::io::Result<()> {
        let Some((start, state)) = run.filter(|(start, _)| *start < end) else { return Ok(()) };
        counts.add(state, end - start);
        self.out.row(&[&place.block_at(start).0, &place.block_at(end - 1).0, &(end - start), &state_name(state)])
    }

    /// Compares the bitmap with what the header counts.
    async fn compare(&mut self, place: &RgrpPlace, counts: &Counts) -> anyhow::Result<()> {
        let blocks = &self.volume.blocks;
        let image = blocks.meta(place.addr, BlockKind::RGRP).await?;
        match RgrpHeader::parse(place, &image) {
            Ok(header) if header.free != counts.free => {
                blocks.note(CorruptKind::RgrpFreeCount { counted: header.free, found: counts.free }.at(place.addr));
            }
            Ok(_) => {}
            Err(problem) => blocks.note(problem),
        }
        Ok(())
    }
}

/// The states in one of a group's header blocks. The last one may hold more than the group has blocks.
async fn states(volume: &Volume, place: &RgrpPlace, header_block: u32) -> anyhow::Result<Vec<BlockState>> {
    let kind = if header_block == 0 { BlockKind::RGRP } else { BlockKind::RGRP_BITMAP };
    let first =
        if header_block == 0 { fs_core::format::rgrp::HEADER_BYTES } else { fs_core::format::meta::HEADER_BYTES };
    let addr = BlockAddr(place.addr.0 + u64::from(header_block));
    let image = volume.blocks.meta(addr, kind).await?;
    let bytes = image.get(first..).unwrap_or_default();
    Ok(bytes.iter().flat_map(|byte| [0, 2, 4, 6].map(|shift| BlockState::from_bits(byte >> shift))).collect())
}

/// The word for a state.
pub(super) const fn state_name(state: BlockState) -> &'static str {
    match state {
        BlockState::Free => "free",
        BlockState::Used => "used",
        BlockState::Unlinked => "unlinked",
        BlockState::Dinode => "dinode",
    }
}
