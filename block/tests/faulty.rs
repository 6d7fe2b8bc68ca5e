//! Injected errors and counts.

#![allow(clippy::unwrap_used, reason = "the tests' configuration does not reach functions beside the tests")]

mod common;

use std::sync::Arc;

use block::device::{BlockDevice, DeviceError, Durability, IoBuf, Operation};
use block::faulty::FaultyDevice;
use block::mem::MemDevice;
use common::block_on;

fn write(device: &FaultyDevice) -> Result<(), DeviceError> {
    block_on(device.write(0, IoBuf::zeroed(512), Durability::Cached)).map(drop)
}

fn device() -> FaultyDevice {
    FaultyDevice::new(Arc::new(MemDevice::new(1 << 20)))
}

#[test]
fn the_nth_request_fails_once() {
    for n in 0..5 {
        let device = device();
        device.fail_nth(Operation::Write, n);
        let failed: Vec<bool> = (0..6).map(|_| write(&device).is_err()).collect();
        let expected: Vec<bool> = (0..6).map(|index| index == n).collect();
        assert_eq!(failed, expected);
    }
}

#[test]
fn from_the_nth_on_all_fail_until_the_device_is_healed() {
    let device = device();
    device.fail_from(Operation::Flush, 2);
    let flush = || block_on(device.flush()).is_ok();
    assert_eq!([flush(), flush(), flush(), flush()], [true, true, false, false]);
    assert!(write(&device).is_ok(), "other requests go on");
    device.heal();
    assert!(flush());
}

#[test]
fn a_failed_write_does_not_reach_the_disk() {
    let device = device();
    device.fail_nth(Operation::Write, 0);
    let data = IoBuf::copied_from(&[1; 512]);
    block_on(device.write(0, data, Durability::Durable)).unwrap_err();
    assert_eq!(block_on(device.read(0, IoBuf::zeroed(512))).unwrap()[..], [0; 512]);
}

#[test]
fn requests_and_bytes_are_counted_by_kind() {
    let device = device();
    device.fail_nth(Operation::Discard, 0);
    write(&device).unwrap();
    block_on(device.write(0, IoBuf::zeroed(1024), Durability::Durable)).unwrap();
    block_on(device.read(0, IoBuf::zeroed(2048))).unwrap();
    block_on(device.flush()).unwrap();
    block_on(device.discard(0, 4096)).unwrap_err();
    let counts = device.counts();
    assert_eq!((counts.writes.requests, counts.writes.bytes, counts.durable_writes), (2, 1536, 1));
    assert_eq!((counts.reads.requests, counts.reads.bytes), (1, 2048));
    assert_eq!((counts.flushes.requests, counts.flushes.bytes), (1, 0));
    assert_eq!((counts.discards.requests, counts.discards.bytes, counts.discards.faults), (1, 4096, 1));
    device.reset_counts();
    assert_eq!(device.counts().of(Operation::Read).requests, 0);
}
