//! Making volumes with the library.

use std::fs::File;
use std::path::Path;

use block::OpenOptions;
use fs_core::attr::Timestamp;
use fs_core::format::block_size::BlockSize;
use mkfs::error::MkfsError;
use mkfs::options::{Identity, Options};
use mkfs::plan::Plan;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// Makes a volume of lunfs in a new image file.
pub(crate) fn make(image: &Path, size_bytes: u64, options: &Options) -> Result<Plan, MkfsError> {
    File::create(image).unwrap().set_len(size_bytes).unwrap();
    let device = block::open(image, OpenOptions { read_only: false, io_uring: false }).unwrap();
    let plan = Plan::new(device.geometry().size_bytes, &device.geometry(), options)?;
    let identity = Identity::new(None, Timestamp { sec: 1_700_000_000, nsec: 5 });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(mkfs::format(device.as_ref(), &plan, &identity, false, &|_| {}))?;
    Ok(plan)
}

/// Block size and journals; the rest as it comes.
pub(crate) fn options(block_bytes: u32, journals: u32) -> Options {
    Options { block_size: BlockSize::new(block_bytes).unwrap(), journals: Some(journals), ..Options::default() }
}
