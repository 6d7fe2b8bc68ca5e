//! The tables of a `.vhdx` file: right ones are followed, every wrong one is refused by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the tests' configuration does not reach functions beside the tests"
)]

mod common;
mod vhdx_disk;

use std::os::unix::fs::FileExt;

use block::device::{Durability, IoBuf};
use block::open;
use block::vhdx::VhdxError;
use common::{Scratch, assert_holds, block_on, work_at_random};
use vhdx_disk::format::*;
use vhdx_disk::*;
use zerocopy::FromBytes;

#[test]
fn both_sizes_of_sectors_are_read_and_written_right() {
    let scratch = Scratch::new();
    for sector in [512, 4096] {
        let disk = Disk::new(sector);
        let path = built(&scratch, &disk);
        let mut model = disk.content();
        let device = open(&path, WRITE).unwrap();
        assert_eq!(device.geometry().logical_sector_bytes, sector);
        assert_holds(&*device, &model);
        work_at_random(&*device, &mut model, 100, 2 * MIB, u64::from(sector));
        drop(device);
        assert_holds(&*open(&path, READ_ONLY).unwrap(), &model);
        if sector == 512 {
            assert!(converted_by_qemu(&scratch, &path).is_none_or(|seen| seen == model));
        }
    }
}

#[test]
fn the_first_write_of_a_session_changes_the_identifiers_in_both_headers() {
    let scratch = Scratch::new();
    let path = built(&scratch, &Disk::new(512));
    let headers = || {
        let bytes = std::fs::read(&path).unwrap();
        HEADER_OFFSETS.map(|at| RawHeader::read_from_prefix(&bytes[usize::try_from(at).unwrap()..]).unwrap().0)
    };
    let before = headers();
    let device = open(&path, WRITE).unwrap();
    block_on(device.read(0, IoBuf::zeroed(512))).unwrap();
    assert_eq!(headers(), before, "reading changes nothing");
    block_on(device.write(0, IoBuf::zeroed(512), Durability::Cached)).unwrap();
    let after = headers();
    assert_ne!(after[0].file_write_id, before[0].file_write_id);
    assert_ne!(after[0].data_write_id, before[0].data_write_id);
    assert_eq!(after[0].file_write_id, after[1].file_write_id);
    assert_eq!(after.map(|header| header.sequence.get()).iter().max(), Some(&12));
    block_on(device.write(0, IoBuf::zeroed(512), Durability::Cached)).unwrap();
    assert_eq!(headers(), after, "only the first write does");
}

#[test]
fn a_block_gets_its_place_at_the_end_of_the_file() {
    let scratch = Scratch::new();
    let path = built(&scratch, &Disk::new(512));
    let device = open(&path, WRITE).unwrap();
    block_on(device.write(3 * MIB + 512, IoBuf::copied_from(&[5; 512]), Durability::Durable)).unwrap();
    drop(device);
    let file = std::fs::read(&path).unwrap();
    assert_eq!(file.len() as u64, BLOCKS_AT + 3 * MIB);
    let entry = usize::try_from(BAT_AT).unwrap() + 3 * 8;
    assert_eq!(file[entry..entry + 8], present(2).to_le_bytes());
    let block = usize::try_from(BLOCKS_AT + 2 * MIB).unwrap();
    assert!(file[block..block + 512] == [0; 512] && file[block + 512..block + 1024] == [5; 512]);
}

#[test]
fn one_damaged_header_or_region_table_is_made_up_for_by_the_other() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    let content = disk.content();
    disk.headers[0].checksum.set(1);
    assert_holds(&*open(&built(&scratch, &disk), WRITE).unwrap(), &content);
    let mut disk = Disk::new(512);
    disk.headers[1].signature = *b"gone";
    let path = built(&scratch, &disk);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"damage", REGION_TABLE_OFFSETS[0] + 100).unwrap();
    assert_holds(&*open(&path, WRITE).unwrap(), &content);
    file.write_all_at(b"damage", REGION_TABLE_OFFSETS[1] + 100).unwrap();
    assert!(matches!(refused_file(&path, WRITE), VhdxError::RegionTablesDamaged));
}

#[test]
fn damaged_and_unknown_headers_are_refused_by_name() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    disk.headers.iter_mut().for_each(|header| header.checksum.set(1));
    assert_refused!(scratch, disk, VhdxError::HeadersDamaged);
    let mut disk = Disk::new(512);
    disk.headers[1].sequence.set(10);
    disk.headers[1].data_write_id = Guid([1; 16]);
    assert_refused!(scratch, disk, VhdxError::HeadersContradict);
    let mut disk = Disk::new(512);
    disk.headers[0].version.set(2);
    assert_refused!(scratch, disk, VhdxError::Version { version: 2 });
    let mut disk = Disk::new(512);
    disk.headers[0].log_offset_bytes.set(MIB + 1);
    assert_refused!(scratch, disk, VhdxError::LogPlace { .. });
    let mut disk = Disk::new(512);
    disk.headers[0].log_offset_bytes.set(BAT_AT);
    assert_refused!(scratch, disk, VhdxError::Overlap { .. });
}

#[test]
fn regions_that_are_unknown_missing_twice_or_misplaced_are_refused_by_name() {
    let scratch = Scratch::new();
    let unknown = region(Guid([3; 16]), 8 * MIB, MIB);
    let mut disk = Disk::new(512);
    disk.regions.push(unknown);
    assert_refused!(scratch, disk, VhdxError::RegionUnknown { .. });
    disk.regions[2].required.set(0);
    assert_holds(&*open(&built(&scratch, &disk), WRITE).unwrap(), &disk.content());
    for missing in 0..2 {
        let mut disk = Disk::new(512);
        disk.regions.remove(missing);
        assert_refused!(scratch, disk, VhdxError::RegionMissing { .. });
    }
    let mut disk = Disk::new(512);
    disk.regions.push(disk.regions[0]);
    assert_refused!(scratch, disk, VhdxError::RegionTwice { .. });
    for (at, len) in [(0, MIB), (BAT_AT + 512, MIB), (BAT_AT, 512), (BAT_AT, 0)] {
        let mut disk = Disk::new(512);
        disk.regions[0] = region(Guid::REGION_BAT, at, len);
        assert_refused!(scratch, disk, VhdxError::RegionPlace { .. });
    }
    let mut disk = Disk::new(512);
    disk.regions[0].offset_bytes.set(u64::MAX - MIB + 1);
    assert_refused!(scratch, disk, VhdxError::Truncated { what: "block table", .. });
    let mut disk = Disk::new(512);
    disk.regions[0].offset_bytes.set(METADATA_AT);
    assert_refused!(scratch, disk, VhdxError::Overlap { .. });
}

#[test]
fn metadata_that_are_unknown_missing_twice_or_impossible_are_refused_by_name() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    disk.items.push(item(Guid([3; 16]), &[1]));
    assert_refused!(scratch, disk, VhdxError::MetadataUnknown { .. });
    disk.items[5].0.flags.set(0);
    assert_holds(&*open(&built(&scratch, &disk), WRITE).unwrap(), &disk.content());
    for missing in [0, 1, 3, 4] {
        let mut disk = Disk::new(512);
        disk.items.remove(missing);
        assert_refused!(scratch, disk, VhdxError::MetadataMissing { .. });
    }
    let mut disk = Disk::new(512);
    disk.items.push(disk.items[1].clone());
    assert_refused!(scratch, disk, VhdxError::MetadataTwice { .. });
    for (offset, len) in [(8, 8), (u32::MAX, 8), (1 << 20, 8), (TABLE_LEN, 7)] {
        let mut disk = Disk::new(512);
        disk.items[1].0.offset_bytes.set(offset);
        disk.items[1].0.len_bytes.set(len);
        assert_refused!(scratch, disk, VhdxError::MetadataPlace { .. });
    }
    for (id, value) in [
        (Guid::DISK_SIZE, 0_u64.to_le_bytes().to_vec()),
        (Guid::DISK_SIZE, 513_u64.to_le_bytes().to_vec()),
        (Guid::DISK_SIZE, u64::MAX.to_le_bytes().to_vec()),
        (Guid::LOGICAL_SECTOR, 1024_u32.to_le_bytes().to_vec()),
        (Guid::PHYSICAL_SECTOR, 0_u32.to_le_bytes().to_vec()),
        (Guid::FILE_PARAMETERS, [0; 8].to_vec()),
        (Guid::FILE_PARAMETERS, [1, 0, 16, 0, 0, 0, 0, 0].to_vec()),
        (Guid::FILE_PARAMETERS, [0, 0, 0, 0x80, 0, 0, 0, 0].to_vec()),
    ] {
        let mut disk = Disk::new(512);
        disk.set_item(id, &value);
        assert_refused!(scratch, disk, VhdxError::MetadataValue { .. });
    }
    let mut disk = Disk::new(512);
    disk.set_item(Guid::FILE_PARAMETERS, &[0, 0, 16, 0, 2, 0, 0, 0]);
    assert_refused!(scratch, disk, VhdxError::Differencing);
    let path = built(&scratch, &Disk::new(512));
    std::fs::File::options().write(true).open(&path).unwrap().write_all_at(b"X", METADATA_AT).unwrap();
    assert!(matches!(refused_file(&path, WRITE), VhdxError::MetadataDamaged));
}

#[test]
fn a_metadata_item_may_stand_across_two_sectors() {
    let scratch = Scratch::new();
    let mut disk = Disk::new(512);
    disk.items[1].0.offset_bytes.set(TABLE_LEN + 4092);
    let path = built(&scratch, &disk);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&(4 * MIB).to_le_bytes(), METADATA_AT + TABLE_BYTES as u64 + 4092).unwrap();
    assert_holds(&*open(&path, WRITE).unwrap(), &disk.content());
}

#[test]
fn block_tables_that_contradict_the_file_are_refused_by_name() {
    let scratch = Scratch::new();
    let with = |entry: u64| {
        let mut disk = Disk::new(512);
        disk.bat[0] = entry;
        disk
    };
    for state in [4, 5, 7] {
        assert_refused!(scratch, with(present(0) & !7 | state), VhdxError::BlockState { block: 0, .. });
    }
    assert_refused!(scratch, with(6), VhdxError::BlockPlace { block: 0, .. });
    assert_refused!(scratch, with(present(0)), VhdxError::Overlap { .. });
    assert_refused!(scratch, with((BAT_AT / MIB) << 20 | 6), VhdxError::Overlap { .. });
    assert_refused!(scratch, with((LOG_AT / MIB) << 20 | 6), VhdxError::Overlap { .. });
    assert_refused!(scratch, with(present(2)), VhdxError::Truncated { what: "content", .. });
    assert_refused!(scratch, with(!7 | 6), VhdxError::Truncated { .. } | VhdxError::BlockPlace { .. });
    let mut disk = Disk::new(512);
    disk.set_item(Guid::DISK_SIZE, &(64_u64 << 40).to_le_bytes());
    assert_refused!(scratch, disk, VhdxError::BlockTableShort { .. });
}

#[test]
fn a_file_that_was_cut_anywhere_is_an_error_and_says_truncated() {
    let scratch = Scratch::new();
    let whole = BLOCKS_AT + 2 * MIB;
    for len in (0..whole / MIB).map(|mib| mib * MIB + 512).chain([70_000, 140_000, 200_000, 300_000, whole - 512]) {
        let path = built(&scratch, &Disk::new(512));
        std::fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
        let error = refused_file(&path, WRITE);
        assert!(matches!(error, VhdxError::Truncated { .. }), "{len}: {error:?}");
    }
}

#[test]
fn writers_that_meet_in_a_new_block_lose_nothing() {
    let scratch = Scratch::new();
    let path = built(&scratch, &Disk::new(512));
    let device = open(&path, WRITE).unwrap();
    let sectors: Vec<u64> = (0..64).collect();
    let fill = |sector: u64| u8::try_from(sector).unwrap() + 1;
    // All at once, each to its own sector, in the two blocks that have no content yet.
    let writes = sectors.iter().flat_map(|sector| [(0, *sector), (3 * MIB, *sector)]).map(|(block, sector)| {
        device.write(block + sector * 4096, IoBuf::copied_from(&[fill(sector); 512]), Durability::Cached)
    });
    for written in block_on(futures_util::future::join_all(writes)) {
        written.unwrap();
    }
    drop(device);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), BLOCKS_AT + 4 * MIB, "each block got one place");
    let device = open(&path, READ_ONLY).unwrap();
    for block in [0, 3 * MIB] {
        for sector in &sectors {
            let seen = block_on(device.read(block + sector * 4096, IoBuf::zeroed(4096))).unwrap();
            assert!(seen[..512] == [fill(*sector); 512] && seen[512..] == [0; 3584]);
        }
    }
}

#[test]
fn a_discarded_range_leaves_the_rest_as_it_was() {
    let scratch = Scratch::new();
    let disk = Disk::new(512);
    let path = built(&scratch, &disk);
    let device = open(&path, WRITE).unwrap();
    assert!(device.geometry().discards);
    // From within the first block, which has no content, into the third.
    block_on(device.discard(512, 2 * MIB + 512)).unwrap();
    drop(device);
    let mut content = disk.content();
    content[512..usize::try_from(2 * MIB + 1024).unwrap()].fill(0);
    assert_holds(&*open(&path, WRITE).unwrap(), &content);
}
