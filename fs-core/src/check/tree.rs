//! Rules of pointer trees: each pointer leads to a block that is the inode's alone, of the right kind.

use super::read::BATCH_BLOCKS;
use super::walk::Walk;
use crate::addr::BlockAddr;
use crate::format::indirect::{self, FIRST_IN_DINODE, FIRST_IN_INDIRECT};
use crate::format::meta::BlockKind;

/// Blocks of a tree that are in memory at once: what they point to has to be remembered as well.
const TREE_BATCH: usize = BATCH_BLOCKS / 4;

/// Walks the tree behind the dinode and claims all its blocks. The height is possible. Ends on any disk: the levels are
/// counted down, and no block is followed twice.
pub(super) async fn check(walk: &mut Walk<'_>) {
    let height = walk.dinode.height;
    let root = walk.image.clone();
    // Indirect blocks to be read, with the number of levels below them: 1 when they point to data.
    let mut open: Vec<(BlockAddr, u16)> = Vec::new();
    claim_all(walk, walk.dinode.ino.addr(), &root, FIRST_IN_DINODE, height, &mut open);
    while !open.is_empty() && !walk.checker.tally.is_cancelled() {
        // From the end, so that not more than the way down is open at once.
        let batch = open.split_off(open.len().saturating_sub(TREE_BATCH));
        let addrs: Vec<BlockAddr> = batch.iter().map(|(addr, _)| *addr).collect();
        let images = walk.reader().many(&addrs).await;
        for ((addr, levels), image) in batch.into_iter().zip(images) {
            if let Some(image) = walk.checked(addr, image, BlockKind::INDIRECT) {
                claim_all(walk, addr, &image, FIRST_IN_INDIRECT, levels, &mut open);
            }
        }
    }
    // Cut off: what was counted is not all.
    walk.broken |= !open.is_empty();
}

/// Claims what an array of pointers, `levels` above the data, leads to.
fn claim_all(
    walk: &mut Walk<'_>,
    addr: BlockAddr,
    image: &[u8],
    first: usize,
    levels: u16,
    open: &mut Vec<(BlockAddr, u16)>,
) {
    let Some(below) = levels.checked_sub(1) else { return };
    for pointer in (0..indirect::count(image, first)).filter_map(|index| indirect::pointer(image, first, index)) {
        if walk.claim(pointer, addr) && below > 0 {
            open.push((pointer, below));
        }
    }
}
