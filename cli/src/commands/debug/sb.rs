//! `debug sb`: the superblock, and what the volume consists of.

use std::io::Write;

use fs_core::error::CorruptKind;
use fs_core::format::marker::RawMarker;
use fs_core::format::superblock::Superblock;
use fs_core::format::system_files::RawStatfs;
use zerocopy::FromBytes;

use super::View;
use super::tree::content;
use crate::output::{Explained, Printer, escape, human_bytes};

impl<W: Write> View<'_, W> {
    pub(super) async fn superblock(&mut self) -> anyhow::Result<()> {
        fields(self.out, &self.volume.superblock)?;
        marker_fields(self.out, self.volume.marker.as_ref())?;
        let (count, block_bytes) = (self.volume.blocks.count(), self.volume.block_bytes());
        let size = count.saturating_mul(block_bytes);
        self.out.field("device_blocks", Explained(count, human_bytes(size)))?;

        // A system file that cannot be read must not hide the others.
        match self.volume.journals().await {
            Ok(journals) => self.out.field("journals", journals)?,
            Err(problem) => self.volume.blocks.note(format!("{problem:#}")),
        }
        match self.volume.groups().await {
            Ok(groups) => {
                let data: u64 = groups.0.iter().map(|place| u64::from(place.data)).sum();
                let end = groups.0.iter().map(|place| place.end().0).max().unwrap_or(0);
                self.out.field("resource_groups", groups.0.len())?;
                self.out.field("blocks_in_groups", Explained(data, human_bytes(data.saturating_mul(block_bytes))))?;
                if end > count {
                    self.volume.blocks.note(format!(
                        "the device has {count} blocks, but resource groups reach up to block {end}: it was cut short"
                    ));
                }
            }
            Err(problem) => self.volume.blocks.note(format!("{problem:#}")),
        }
        if let Err(problem) = self.statfs().await {
            self.volume.blocks.note(format!("{problem:#}"));
        }
        Ok(())
    }

    /// The volume's counters, as the last node to leave wrote them.
    async fn statfs(&mut self) -> anyhow::Result<()> {
        let (dinode, image) = self.volume.master_file("statfs").await?;
        let bytes = content(&self.volume.blocks, &dinode, &image, size_of::<RawStatfs>()).await?;
        let shape = CorruptKind::SystemFileShape { name: "statfs" }.at(dinode.ino.addr());
        let statfs = RawStatfs::read_from_bytes(&bytes).map_err(|_| shape)?.get();
        self.out.section("statfs")?;
        self.out.field("total", statfs.total)?;
        self.out.field("free", statfs.free)?;
        self.out.field("dinodes", statfs.dinodes)?;
        Ok(self.out.end()?)
    }
}

/// The fields of the superblock.
pub(super) fn fields(out: &mut Printer<impl Write>, superblock: &Superblock) -> std::io::Result<()> {
    out.field("label", escape(superblock.lock_table.as_bytes()))?;
    out.field("uuid", uuid::Uuid::from_bytes(superblock.uuid).to_string())?;
    out.field("lock_protocol", escape(superblock.lock_proto.as_bytes()))?;
    out.field("fs_format", superblock.fs_format)?;
    out.field("block_size", superblock.block_size.bytes_u32())?;
    out.field("root", superblock.root.get())?;
    out.field("master", superblock.master.get())
}

fn marker_fields(out: &mut Printer<impl Write>, marker: Option<&RawMarker>) -> std::io::Result<()> {
    // Without it the volume is of another implementation, or a tool of another one has changed it.
    out.field("checksums", if marker.is_some() { "marked as true" } else { "not to be believed" })?;
    let Some(marker) = marker.filter(|marker| marker.area_len_bytes.get() != 0) else { return Ok(()) };
    out.section("cluster_area")?;
    out.field("offset_bytes", marker.area_offset_bytes.get())?;
    out.field("len_bytes", Explained(marker.area_len_bytes.get(), human_bytes(marker.area_len_bytes.get())))?;
    out.end()
}
