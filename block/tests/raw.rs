//! Image files and block devices.

#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

mod common;

use std::path::Path;
use std::task::{Context, Poll, Waker};

use block::device::{DeviceError, Durability, IoBuf};
use block::{OpenError, OpenOptions, open, open_to_fill};
use common::{Loop, Scratch, assert_holds, block_on, work_at_random};

const MIB: u64 = 1 << 20;
const THREADS: OpenOptions = OpenOptions { read_only: false, io_uring: false };
const RING: OpenOptions = OpenOptions { read_only: false, io_uring: true };
const READ_ONLY: OpenOptions = OpenOptions { read_only: true, io_uring: true };

fn works_like_an_array(path: &Path, options: OpenOptions, seed: u64) {
    let device = open(path, options).unwrap();
    let mut model = std::fs::read(path).unwrap();
    work_at_random(&*device, &mut model, 400, 64 * 1024, seed);
    drop(device);
    assert_holds(&*open(path, READ_ONLY).unwrap(), &model);
    // What other programs see, through the page cache.
    assert!(std::fs::read(path).unwrap()[..model.len()] == model[..]);
}

#[test]
fn an_image_behaves_like_an_array_of_bytes() {
    let scratch = Scratch::new();
    works_like_an_array(&scratch.image("ring", 4 * MIB), RING, 1);
    works_like_an_array(&scratch.image("threads", 4 * MIB), THREADS, 2);
}

#[test]
fn an_image_on_a_filesystem_without_direct_io_behaves_the_same() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return;
    }
    let scratch = Scratch::within(shm);
    works_like_an_array(&scratch.image("ring", 4 * MIB), RING, 3);
    works_like_an_array(&scratch.image("threads", 4 * MIB), THREADS, 4);
}

/// Long writes pass the page cache, short ones do not: neither undoes the other.
#[test]
fn an_image_that_is_filled_by_short_and_long_writes_holds_all_of_them() {
    let scratch = Scratch::new();
    let path = scratch.image("image", 16 * MIB);
    let device = open_to_fill(&path, RING).unwrap();
    let mut model = std::fs::read(&path).unwrap();
    let page = 4096;
    // Side by side, over each other, and at places where only the page cache takes them.
    let places =
        [(0, 16), (16, 256), (272, 2), (274, 512), (100, 1), (786, 256), (800, 3), (780, 512), (1290, 200), (512, 2)];
    for (step, (first, pages)) in places.into_iter().cycle().take(60).enumerate() {
        let shift = if step % 7 == 6 { 512 } else { 0 };
        let (offset, len) = (first * page + shift, pages * page);
        let bytes = vec![u8::try_from(step).unwrap() + 1; len];
        let data = IoBuf::copied_from(&bytes);
        block_on(device.write(offset as u64, data, Durability::Cached)).unwrap();
        model[offset..offset + len].copy_from_slice(&bytes);
        if step % 5 == 0 {
            assert_holds(&*device, &model);
        }
    }
    block_on(device.flush()).unwrap();
    drop(device);
    assert_holds(&*open(&path, READ_ONLY).unwrap(), &model);
    assert!(std::fs::read(&path).unwrap() == model);
}

#[test]
fn a_block_device_behaves_like_an_array_of_bytes() {
    let scratch = Scratch::new();
    for (sector, seed) in [("512", 5), ("4096", 6)] {
        let image = scratch.image(sector, 4 * MIB);
        let Some(disk) = Loop::over(&image, &["--direct-io=on", "--sector-size", sector]) else { return };
        let geometry = open(disk.path(), RING).unwrap().geometry();
        assert_eq!(geometry.logical_sector_bytes.to_string(), sector);
        assert_eq!(geometry.size_bytes, 4 * MIB);
        assert!(geometry.discards, "a loop device over a file discards");
        works_like_an_array(disk.path(), RING, seed);
        works_like_an_array(disk.path(), THREADS, seed + 10);
    }
}

#[test]
fn an_image_on_a_disk_with_large_sectors_still_has_small_ones() {
    let scratch = Scratch::new();
    let image = scratch.image("disk", 64 * MIB);
    let Some(disk) = Loop::over(&image, &["--direct-io=on", "--sector-size", "4096"]) else { return };
    common::run("mkfs.ext4", &["-q", disk.path().to_str().unwrap()]);
    let mount_point = scratch.path("mnt");
    std::fs::create_dir(&mount_point).unwrap();
    common::run("mount", &[disk.path().to_str().unwrap(), mount_point.to_str().unwrap()]);
    let inner = mount_point.join("image");
    std::fs::File::create(&inner).unwrap().set_len(4 * MIB).unwrap();
    let outcome = std::panic::catch_unwind(|| {
        assert_eq!(open(&inner, RING).unwrap().geometry().logical_sector_bytes, 512);
        works_like_an_array(&inner, RING, 7);
    });
    common::run("umount", &[mount_point.to_str().unwrap()]);
    outcome.unwrap();
}

#[test]
fn many_reads_at_once_are_all_answered_with_the_right_bytes() {
    let scratch = Scratch::new();
    let path = scratch.image("image", 4 * MIB);
    let bytes: Vec<u8> = (0..4 * MIB / 4).flat_map(|word| u32::try_from(word).unwrap().to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    for options in [RING, THREADS] {
        let device = open(&path, options).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (device, bytes) = (&device, &bytes);
                scope.spawn(move || {
                    // More at once than the device has in flight.
                    let reads = (0..1024_usize).map(|index| device.read(index as u64 * 4096, IoBuf::zeroed(4096)));
                    let answers = block_on(futures_util::future::join_all(reads));
                    for (index, answer) in answers.into_iter().enumerate() {
                        let expected = &bytes[index * 4096..][..4096];
                        assert!(answer.unwrap()[..] == *expected, "thread {thread}, read {index}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_caller_that_goes_away_takes_nothing_with_it() {
    let scratch = Scratch::new();
    let path = scratch.image("image", MIB);
    for options in [RING, THREADS] {
        let device = open(&path, options).unwrap();
        for index in 0..200_u64 {
            let mut read = device.read(index % 16 * 4096, IoBuf::zeroed(4096));
            let mut context = Context::from_waker(Waker::noop());
            let _ = read.as_mut().poll(&mut context);
        }
        let data = IoBuf::copied_from(&[7; 4096]);
        let mut write = device.write(0, data, Durability::Cached);
        let _ = write.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(write);
        // Dropping the device waits for what was begun, so the write is there.
        drop(device);
        assert_eq!(std::fs::read(&path).unwrap()[..4096], [7; 4096]);
        std::fs::write(&path, vec![0; usize::try_from(MIB).unwrap()]).unwrap();
    }
}

#[test]
fn reads_of_threads_that_have_ended_are_answered() {
    let scratch = Scratch::new();
    let path = scratch.image("image", MIB);
    let device = open(&path, RING).unwrap();
    for _ in 0..100 {
        let mut read = device.read(0, IoBuf::zeroed(65536));
        let begun = std::thread::scope(|scope| {
            let begin = scope.spawn(|| read.as_mut().poll(&mut Context::from_waker(Waker::noop())));
            begin.join().unwrap()
        });
        let answer = match begun {
            Poll::Ready(answer) => answer,
            Poll::Pending => block_on(read),
        };
        assert_eq!(answer.unwrap().len(), 65536);
    }
}

#[test]
fn requests_outside_the_device_or_across_sectors_are_refused() {
    let scratch = Scratch::new();
    let device = open(&scratch.image("image", MIB + 511), RING).unwrap();
    assert_eq!(device.geometry().size_bytes, MIB, "what is not a whole sector does not count");
    for (offset, len) in [(MIB, 512), (MIB - 512, 1024), (1, 512), (0, 100), (u64::MAX - 511, 512)] {
        let refused = block_on(device.read(offset, IoBuf::zeroed(len))).unwrap_err();
        assert!(matches!(refused, DeviceError::OutOfRange { .. }), "{refused:?}");
        let refused = block_on(device.write(offset, IoBuf::zeroed(len), Durability::Cached)).unwrap_err();
        assert!(matches!(refused, DeviceError::OutOfRange { .. }), "{refused:?}");
    }
    assert!(matches!(block_on(device.discard(MIB, 512)).unwrap_err(), DeviceError::OutOfRange { .. }));
}

#[test]
fn a_grown_image_is_usable_without_opening_it_again() {
    let scratch = Scratch::new();
    let path = scratch.image("image", MIB);
    let device = open(&path, RING).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(2 * MIB).unwrap();
    assert_eq!(block_on(device.read(MIB, IoBuf::zeroed(512))).unwrap().len(), 512);
    assert_eq!(device.geometry().size_bytes, 2 * MIB);
}

#[test]
fn a_read_past_the_end_of_a_shrunk_image_is_an_error() {
    let scratch = Scratch::new();
    let path = scratch.image("image", 2 * MIB);
    for options in [RING, THREADS] {
        std::fs::File::options().write(true).open(&path).unwrap().set_len(2 * MIB).unwrap();
        let device = open(&path, options).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(MIB).unwrap();
        let failed = block_on(device.read(MIB - 4096, IoBuf::zeroed(8192))).unwrap_err();
        assert!(matches!(failed, DeviceError::Io { .. }), "{failed:?}");
    }
}

#[test]
fn a_read_only_device_takes_no_writes() {
    let scratch = Scratch::new();
    let device = open(&scratch.image("image", MIB), READ_ONLY).unwrap();
    assert!(device.geometry().read_only);
    let refused = block_on(device.write(0, IoBuf::zeroed(512), Durability::Cached)).unwrap_err();
    assert!(matches!(refused, DeviceError::ReadOnly { .. }), "{refused:?}");
    assert!(matches!(block_on(device.discard(0, 512)).unwrap_err(), DeviceError::ReadOnly { .. }));
    block_on(device.flush()).unwrap();
}

#[test]
fn a_discarded_range_of_an_image_takes_no_space() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let path = scratch.image("image", MIB);
    let device = open(&path, RING).unwrap();
    let all = IoBuf::copied_from(&vec![9; usize::try_from(MIB).unwrap()]);
    block_on(device.write(0, all, Durability::Durable)).unwrap();
    let before = std::fs::metadata(&path).unwrap().blocks();
    block_on(device.discard(0, MIB)).unwrap();
    assert!(std::fs::metadata(&path).unwrap().blocks() < before);
}

#[test]
fn what_cannot_be_opened_says_why() {
    let scratch = Scratch::new();
    let error = |path: &Path| open(path, RING).err().unwrap();
    assert!(matches!(error(&scratch.path("missing")), OpenError::NotFound { .. }));
    assert!(matches!(error(&scratch.image("file", MIB).join("below")), OpenError::NotFound { .. }));
    assert!(matches!(error(&scratch.path("")), OpenError::Directory { .. }));
    assert!(matches!(error(Path::new("/dev/null")), OpenError::NotADisk { kind: "character device", .. }));
    common::run("mkfifo", &[scratch.path("pipe").to_str().unwrap()]);
    assert!(matches!(error(&scratch.path("pipe")), OpenError::NotADisk { kind: "pipe", .. }));
    assert!(matches!(error(&scratch.image("empty", 0)), OpenError::Empty { size_bytes: 0, .. }));
    assert!(matches!(error(&scratch.image("short", 511)), OpenError::Empty { size_bytes: 511, .. }));
    assert!(matches!(error(&scratch.image("plain.vhdx", MIB)), OpenError::NotVhdx { .. }));
}

#[test]
fn a_write_protected_device_is_told_from_one_that_the_user_may_not_write() {
    let scratch = Scratch::new();
    let image = scratch.image("image", MIB);
    let Some(disk) = Loop::over(&image, &["--read-only"]) else { return };
    let error = open(disk.path(), RING).err().unwrap();
    assert!(error.is_read_only_medium(), "{error:?}");
    assert!(open(disk.path(), READ_ONLY).unwrap().geometry().read_only);
}
