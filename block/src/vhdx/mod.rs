//! Virtual disks in `.vhdx` files.

mod error;

use crate::device::{BlockDevice, Durability, Geometry, IoBuf, IoFuture};
use crate::raw::RawDevice;

pub use error::VhdxError;

/// The first bytes of every `.vhdx` file.
pub(crate) const SIGNATURE: [u8; 8] = *b"vhdxfile";

/// An open `.vhdx` file.
pub struct VhdxDevice {
    raw: RawDevice,
}

impl VhdxDevice {
    pub(crate) fn open(raw: RawDevice) -> Result<Self, VhdxError> {
        let _ = Self { raw };
        Err(VhdxError::Unsupported)
    }
}

impl BlockDevice for VhdxDevice {
    fn geometry(&self) -> Geometry {
        self.raw.geometry()
    }
    fn read(&self, offset_bytes: u64, buf: IoBuf) -> IoFuture<'_, IoBuf> {
        self.raw.read(offset_bytes, buf)
    }
    fn write(&self, offset_bytes: u64, data: IoBuf, durability: Durability) -> IoFuture<'_, IoBuf> {
        self.raw.write(offset_bytes, data, durability)
    }
    fn flush(&self) -> IoFuture<'_, ()> {
        self.raw.flush()
    }
    fn discard(&self, offset_bytes: u64, len_bytes: u64) -> IoFuture<'_, ()> {
        self.raw.discard(offset_bytes, len_bytes)
    }
}
