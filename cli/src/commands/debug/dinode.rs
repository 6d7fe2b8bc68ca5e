//! `debug inode`: a dinode, and where the inode's content stands.

use std::io::Write;

use fs_core::addr::InodeNo;
use fs_core::attr::{FileKind, Timestamp};
use fs_core::blocks::{BlockImage, Blocks};
use fs_core::format::dinode::{self, Dinode, RawDinode, flags};
use fs_core::format::meta::BlockKind;
use zerocopy::FromBytes;

use super::View;
use super::directory::kind_name;
use super::time;
use super::tree::Tree;
use crate::output::{Explained, Printer, escape, human_bytes};

/// Runs of content that are listed unless all are asked for.
const EXTENTS_SHOWN: u64 = 16;

/// Names of the flags.
const FLAGS: [(u32, &str); 11] = [
    (flags::JDATA, "jdata"),
    (flags::EXHASH, "exhash"),
    (flags::EA_INDIRECT, "ea_indirect"),
    (flags::IMMUTABLE, "immutable"),
    (flags::APPENDONLY, "appendonly"),
    (flags::NOATIME, "noatime"),
    (flags::SYNC, "sync"),
    (flags::SYSTEM, "system"),
    (flags::TOPDIR, "topdir"),
    (flags::TRUNC_IN_PROG, "trunc_in_prog"),
    (flags::INHERIT_JDATA, "inherit_jdata"),
];

impl<W: Write> View<'_, W> {
    pub(super) async fn inode(&mut self, ino: InodeNo) -> anyhow::Result<()> {
        let image = self.volume.blocks.meta(ino.addr(), BlockKind::DINODE).await?;
        fields(self.out, &image)?;
        let dinode = Dinode::parse(ino, &image, self.volume.superblock.block_size)?;
        if dinode.kind == FileKind::Symlink {
            let bytes = image.get(dinode::HEADER_BYTES..).unwrap_or_default();
            let len = usize::try_from(dinode.size).unwrap_or(usize::MAX).min(bytes.len());
            self.out.field("target", escape(bytes.get(..len).unwrap_or_default()))?;
        }
        if dinode.is_stuffed() {
            self.out.field("content", "in the dinode")?;
            return Ok(());
        }
        self.extents(&dinode, image).await
    }

    /// Where the content stands: runs of blocks.
    async fn extents(&mut self, dinode: &Dinode, image: BlockImage) -> anyhow::Result<()> {
        self.out.table("extents", &[("logical", 14), ("block", 14), ("blocks", 9)])?;
        let mut tree = Tree::new(&self.volume.blocks, dinode, image);
        let mut pending = None;
        let mut shown = 0;
        loop {
            match tree.next_extent(&mut pending).await {
                Ok(Some(extent)) if self.verbose || shown < EXTENTS_SHOWN => {
                    self.out.row(&[&extent.position, &extent.addr.0, &extent.count])?;
                    shown += 1;
                }
                Ok(Some(_)) => {
                    self.out.end()?;
                    self.out.field("more_extents", Explained(true, "--verbose shows all".to_owned()))?;
                    return Ok(());
                }
                Ok(None) => break,
                Err(problem) => {
                    self.volume.blocks.note(problem);
                    break;
                }
            }
        }
        Ok(self.out.end()?)
    }
}

/// The fields of a dinode, true or not.
pub(super) fn fields(out: &mut Printer<impl Write>, image: &[u8]) -> std::io::Result<()> {
    let Ok((raw, _)) = RawDinode::ref_from_prefix(image) else { return Ok(()) };
    let mode = raw.mode.get();
    let kind = FileKind::from_mode(mode);
    out.field("inode", raw.num.addr.get())?;
    out.field("formal", raw.num.formal.get())?;
    out.field("kind", kind.map_or("unknown", kind_name))?;
    out.field("mode", format!("{mode:06o}"))?;
    out.field("uid", raw.uid.get())?;
    out.field("gid", raw.gid.get())?;
    out.field("nlink", raw.nlink.get())?;
    out.field("size", Explained(raw.size.get(), human_bytes(raw.size.get())))?;
    out.field("blocks", raw.blocks.get())?;
    let times = [
        ("atime", raw.atime, raw.atime_nsec),
        ("mtime", raw.mtime, raw.mtime_nsec),
        ("ctime", raw.ctime, raw.ctime_nsec),
    ];
    for (name, sec, nsec) in times {
        out.field(name, time::date(Timestamp { sec: sec.get(), nsec: nsec.get() }))?;
    }
    if matches!(kind, Some(FileKind::CharDevice | FileKind::BlockDevice)) {
        out.field("device", format!("{}:{}", raw.major.get(), raw.minor.get()))?;
    }
    out.field("goal", raw.goal_meta.get())?;
    out.field("generation", raw.generation.get())?;
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| raw.flags.get() & bit != 0).map(|(_, name)| *name).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
    out.field("flags", Explained(format!("{:#x}", raw.flags.get()), names))?;
    out.field("height", raw.height.get())?;
    if kind == Some(FileKind::Directory) {
        out.field("depth", raw.depth.get())?;
        out.field("entries", raw.entries.get())?;
    }
    let eattr = raw.eattr.get();
    out.field("xattr_block", (eattr != 0).then_some(eattr))
}
