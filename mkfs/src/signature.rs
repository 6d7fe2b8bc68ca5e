//! What stands on a device already: filesystems, partition tables, volume managers.
//!
//! A published table, as it is: each row is a few bytes that all disks of one kind have at one place.

use block::device::{BlockDevice, DeviceError, IoBuf};
use fs_core::format::superblock;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// What it is, as people call it.
    pub name: &'static str,
    /// Where it stands, in bytes from the start of the device.
    pub offset_bytes: u64,
}

/// Bytes at the start of a device that are looked at.
const HEAD_BYTES: u64 = 272 << 10;
/// Bytes at the end of a device that are looked at, and that are cleared when there was something.
pub(crate) const TAIL_BYTES: u64 = 512 << 10;
/// Unit in which both are read, in bytes: a multiple of all sectors.
const UNIT_BYTES: u64 = 4096;

/// Name, offset from the start of the device, bytes.
const AT_START: &[(&str, usize, &[u8])] = &[
    ("ext2, ext3 or ext4", 1080, &[0x53, 0xef]),
    ("XFS", 0, b"XFSB"),
    ("Btrfs", 0x1_0040, b"_BHRfS_M"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT (vfat)", 54, b"FAT12   "),
    ("FAT (vfat)", 54, b"FAT16   "),
    ("FAT (vfat)", 82, b"FAT32   "),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("swap space", 4086, b"SWAP-SPACE"),
    ("swap space", 65526, b"SWAPSPACE2"),
    ("LVM physical volume", 0, b"LABELONE"),
    ("LVM physical volume", 512, b"LABELONE"),
    ("LVM physical volume", 1024, b"LABELONE"),
    ("LVM physical volume", 1536, b"LABELONE"),
    ("Linux RAID member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("Linux RAID member", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("LUKS encrypted volume", 0, b"LUKS\xba\xbe"),
    ("BitLocker encrypted volume", 3, b"-FVE-FS-"),
    ("GPT partition table", 512, b"EFI PART"),
    ("GPT partition table", 4096, b"EFI PART"),
    ("ISO 9660", 32769, b"CD001"),
    ("UDF", 32769, b"BEA01"),
    ("SquashFS", 0, b"hsqs"),
    ("EROFS", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("F2FS", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("NILFS2", 1030, &[0x34, 0x34]),
    ("JFS", 32768, b"JFS1"),
    ("ReiserFS", 65588, b"ReIsEr"),
    ("OCFS2", 1024, b"OCFSV2"),
    ("OCFS2", 2048, b"OCFSV2"),
    ("OCFS2", 4096, b"OCFSV2"),
    ("OCFS2", 8192, b"OCFSV2"),
    ("bcache", 4120, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    ("bcachefs", 4120, &[0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9]),
    ("Ceph OSD", 0, b"bluestore block device"),
    ("APFS", 32, b"NXSB"),
    ("HFS+", 1024, b"H+\0\x04"),
    ("HFS+", 1024, b"HX\0\x05"),
];

/// The magic number of a ZFS uberblock, in both byte orders, and where the array of them is in a label.
const ZFS_MAGIC: [[u8; 8]; 2] = [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()];
const ZFS_UBERBLOCKS: std::ops::Range<usize> = 128 << 10..256 << 10;
const ZFS_STEP: usize = 1024;

/// Linux RAID members of the kinds that keep their superblock at the end.
const RAID_MAGIC: [[u8; 4]; 2] = [[0xfc, 0x4e, 0x2b, 0xa9], [0xa9, 0x2b, 0x4e, 0xfc]];

/// What is found at the start and at the end of `device`: each kind once.
///
/// # Errors
/// Those of the device.
pub async fn find(device: &dyn BlockDevice) -> Result<Vec<Signature>, DeviceError> {
    let size = device.geometry().size_bytes;
    let head = read(device, 0, HEAD_BYTES.min(size)).await?;
    let tail_at = size.saturating_sub(TAIL_BYTES) / UNIT_BYTES * UNIT_BYTES;
    let tail = read(device, tail_at, size - tail_at).await?;
    let mut found = in_head(&head);
    found.extend(in_tail(&tail, tail_at, size));
    let mut seen = Vec::new();
    found.retain(|signature| {
        let is_new = !seen.contains(&signature.name);
        seen.push(signature.name);
        is_new
    });
    Ok(found)
}

async fn read(device: &dyn BlockDevice, offset: u64, len: u64) -> Result<IoBuf, DeviceError> {
    device.read(offset, IoBuf::zeroed(usize::try_from(len).unwrap_or(0))).await
}

fn has(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

fn in_head(head: &[u8]) -> Vec<Signature> {
    let at = |name, offset: usize| Signature { name, offset_bytes: offset as u64 };
    let rows = AT_START.iter().filter(|(_, offset, magic)| has(head, *offset, magic));
    let mut found: Vec<Signature> = rows.map(|(name, offset, _)| at(name, *offset)).collect();
    let superblock_at = usize::try_from(superblock::OFFSET_BYTES).unwrap_or(0);
    if has(head, superblock_at, &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1]) {
        let ours = superblock::LOCK_PROTOCOL.as_bytes();
        let protocol = superblock_at + core::mem::offset_of!(superblock::RawSuperblock, lock_proto);
        found.push(at(if has(head, protocol, ours) { "lunfs" } else { "GFS2" }, superblock_at));
    }
    if is_zfs_label(head) {
        found.push(at("ZFS", ZFS_UBERBLOCKS.start));
    }
    // Boot sectors of FAT and NTFS end like a partition table, and GPT disks have one that says so.
    if found.is_empty() && is_partition_table(head) {
        found.push(at("MBR partition table", 510));
    }
    found
}

fn is_zfs_label(label: &[u8]) -> bool {
    ZFS_UBERBLOCKS.step_by(ZFS_STEP).any(|offset| ZFS_MAGIC.iter().any(|magic| has(label, offset, magic)))
}

/// A boot sector with at least one partition, and nothing in its table that no partition can have.
fn is_partition_table(head: &[u8]) -> bool {
    let Some(entries) = head.get(446..510).filter(|_| has(head, 510, &[0x55, 0xaa])) else { return false };
    let is_used = |entry: &[u8]| entry.get(4).is_some_and(|kind| *kind != 0);
    let is_odd = |entry: &[u8]| entry.first().is_some_and(|flag| flag & 0x7f != 0);
    entries.chunks_exact(16).any(is_used) && !entries.chunks_exact(16).any(is_odd)
}

fn in_tail(tail: &[u8], tail_at: u64, size: u64) -> Vec<Signature> {
    let has_at = |offset: Option<u64>, magic: &[u8]| {
        let within = offset.and_then(|offset| usize::try_from(offset.checked_sub(tail_at)?).ok());
        within.is_some_and(|within| has(tail, within, magic))
    };
    let mut found = Vec::new();
    for sector in [512, 4096] {
        let offset = size.checked_sub(sector);
        if has_at(offset, b"EFI PART") {
            found.extend(offset.map(|offset_bytes| Signature { name: "GPT partition table", offset_bytes }));
        }
    }
    // Version 1.0 stands 8 KiB or more before the end, version 0.90 in the last whole 64 KiB.
    let version_1 = (size / 512).checked_sub(16).map(|sector| (sector & !7) * 512);
    let version_0 = (size & !0xffff).checked_sub(0x1_0000);
    for offset in [version_1, version_0] {
        if RAID_MAGIC.iter().any(|magic| has_at(offset, magic)) {
            found.extend(offset.map(|offset_bytes| Signature { name: "Linux RAID member", offset_bytes }));
        }
    }
    // Two labels of 256 KiB end where the device's last whole 256 KiB end.
    let labels_end = size & !0x3_ffff;
    for label_at in [labels_end.checked_sub(512 << 10), labels_end.checked_sub(256 << 10)].into_iter().flatten() {
        let within = label_at.checked_sub(tail_at).and_then(|within| usize::try_from(within).ok());
        if within.and_then(|within| tail.get(within..)).is_some_and(is_zfs_label) {
            found.push(Signature { name: "ZFS", offset_bytes: label_at });
        }
    }
    found
}

#[cfg(test)]
#[path = "signature_test.rs"]
mod tests;
