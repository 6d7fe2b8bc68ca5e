use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use block::device::Durability;
use block::mem::MemDevice;

use super::*;

/// The memory device answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory device never waits"),
    }
}

const SIZE: u64 = 64 << 20;

fn disk(parts: &[(u64, &[u8])]) -> MemDevice {
    let device = MemDevice::new(SIZE);
    for (offset, bytes) in parts {
        let (first, within) = (offset / 512 * 512, usize::try_from(offset % 512).unwrap());
        let len = (within + bytes.len()).next_multiple_of(512);
        let mut sectors = now(device.read(first, IoBuf::zeroed(len))).unwrap();
        sectors[within..within + bytes.len()].copy_from_slice(bytes);
        now(device.write(first, sectors, Durability::Cached)).unwrap();
    }
    device
}

fn names(device: &MemDevice) -> Vec<&'static str> {
    now(find(device)).unwrap().iter().map(|signature| signature.name).collect()
}

#[test]
fn an_empty_disk_has_no_signature_however_small() {
    assert!(names(&MemDevice::new(SIZE)).is_empty());
    assert!(names(&MemDevice::new(512)).is_empty());
}

#[test]
fn every_row_of_the_table_is_found() {
    for (name, offset, magic) in AT_START {
        assert_eq!(names(&disk(&[(*offset as u64, magic)])), [*name]);
    }
}

#[test]
fn what_stands_at_the_end_is_found() {
    assert_eq!(names(&disk(&[(SIZE - 512, b"EFI PART")])), ["GPT partition table"]);
    assert_eq!(names(&disk(&[(SIZE - 8192, &RAID_MAGIC[0])])), ["Linux RAID member"]);
    assert_eq!(names(&disk(&[(SIZE - 65536, &RAID_MAGIC[1])])), ["Linux RAID member"]);
    assert_eq!(names(&disk(&[(SIZE - (256 << 10) + (130 << 10), &ZFS_MAGIC[0])])), ["ZFS"]);
}

#[test]
fn a_partition_table_is_told_from_a_boot_sector() {
    let mut partition = [0; 16];
    partition[4] = 0x83;
    let end: &[u8] = &[0x55, 0xaa];
    assert_eq!(names(&disk(&[(446, &partition), (510, end)])), ["MBR partition table"]);
    assert!(names(&disk(&[(510, end)])).is_empty());
    partition[0] = 0x12;
    assert!(names(&disk(&[(446, &partition), (510, end)])).is_empty());
    assert_eq!(names(&disk(&[(82, b"FAT32   "), (510, end)])), ["FAT (vfat)"]);
}

#[test]
fn lunfs_is_told_from_gfs2_by_its_lock_protocol() {
    let magic: &[u8] = &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1];
    assert_eq!(names(&disk(&[(65536, magic), (65536 + 96, b"lock_lunfs")])), ["lunfs"]);
    assert_eq!(names(&disk(&[(65536, magic), (65536 + 96, b"lock_dlm")])), ["GFS2"]);
}
