//! `debug rgrp`: resource groups.

use std::io::Write;

use fs_core::blocks::BlockImage;
use fs_core::error::FsError;
use fs_core::format::rgrp::{FLAG_NOALLOC, FLAG_TRIMMED, RawRgrpHeader, RgrpHeader, RgrpPlace};
use futures_util::StreamExt;
use futures_util::stream;
use zerocopy::FromBytes;

use super::View;
use crate::output::{Explained, Printer, human_bytes};

/// Headers that are read at once when all groups are listed.
const READS_AT_ONCE: usize = 64;

impl<W: Write> View<'_, W> {
    pub(super) async fn groups(&mut self) -> anyhow::Result<()> {
        let groups = self.volume.groups().await?;
        let blocks = &self.volume.blocks;
        let read = groups.0.iter().map(|place| async move { (place, blocks.verified(place.addr).await) });
        let mut read = stream::iter(read).buffered(READS_AT_ONCE);
        self.out.field("resource_groups", groups.0.len())?;
        self.out
            .table("groups", &[("n", 7), ("block", 12), ("length", 7), ("blocks", 9), ("free", 9), ("dinodes", 9)])?;
        let (mut n, mut free, mut dinodes) = (0_u64, 0_u64, 0_u64);
        while let Some((place, read)) = read.next().await {
            let header = read.and_then(|(image, verdict)| checked(place, &image, verdict));
            let header = header.inspect_err(|problem| blocks.note(problem)).ok();
            free += header.map_or(0, |header| u64::from(header.free));
            dinodes += header.map_or(0, |header| u64::from(header.dinodes));
            let counts = (header.map(|header| header.free), header.map(|header| header.dinodes));
            self.out.row(&[&n, &place.addr.0, &place.length, &place.data, &counts.0, &counts.1])?;
            n += 1;
        }
        self.out.end()?;
        self.out.field("free", Explained(free, human_bytes(free.saturating_mul(self.volume.block_bytes()))))?;
        Ok(self.out.field("dinodes", dinodes)?)
    }

    pub(super) async fn group(&mut self, n: u64) -> anyhow::Result<()> {
        let groups = self.volume.groups().await?;
        let place = groups.get(n)?;
        let out = &mut *self.out;
        out.field("n", n)?;
        out.field("block", place.addr.0)?;
        out.field("length", place.length)?;
        out.field("data0", place.data0.0)?;
        out.field("blocks", Explained(place.data, human_bytes(u64::from(place.data) * self.volume.block_bytes())))?;
        let (image, verdict) = self.volume.blocks.verified(place.addr).await?;
        header_fields(out, &image)?;
        if let Err(problem) = checked(place, &image, verdict) {
            self.volume.blocks.note(problem);
        }
        Ok(())
    }
}

fn checked(place: &RgrpPlace, image: &BlockImage, verdict: Result<(), FsError>) -> Result<RgrpHeader, FsError> {
    let header = RgrpHeader::parse(place, image)?;
    verdict.map(|()| header)
}

/// The fields of a group's header, true or not.
pub(super) fn header_fields(out: &mut Printer<impl Write>, image: &[u8]) -> std::io::Result<()> {
    let Ok((raw, _)) = RawRgrpHeader::ref_from_prefix(image) else { return Ok(()) };
    let flags = raw.flags.get();
    let names = [(FLAG_NOALLOC, "noalloc"), (FLAG_TRIMMED, "trimmed")];
    let names: Vec<_> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    out.field("flags", Explained(flags, if names.is_empty() { "none".to_owned() } else { names.join(" ") }))?;
    out.field("free", raw.free.get())?;
    out.field("dinodes", raw.dinodes.get())?;
    out.field("skip", raw.skip.get())?;
    out.field("next_generation", raw.igeneration.get())?;
    out.field("crc", format!("{:#010x}", raw.crc.get()))
}
