//! Changing entries: a new name, a name less, another inode for a name.
//!
//! What an insertion changes beside the dinode is usually one leaf. When that is full: two leaves and the table blocks
//! that point to the lower half of its range. When the table has to double: all of the table. The most is what names of
//! one hash can do to a linear directory: the table goes to depth 17 (1 MiB, and the tree above it) with 19 leaves, which
//! makes 278 blocks of 4096 bytes, or 2206 of 512 bytes.

use super::area;
use super::leaf::{self, Chain, Node};
use super::lookup::locate;
use super::table::{self, Table};
use super::{Link, check_name};
use crate::blocks::Edit;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, DIR_DEPTH_MAX, Dinode, flags};
use crate::format::dirent::{self, LEAF_HEADER_BYTES, Leaf, Target};
use crate::format::indirect::{FIRST_IN_DINODE, set_pointer};
use crate::format::meta::BlockKind;

/// Gives `name`, which `dir` does not have, to the inode of `link`.
///
/// # Errors
/// `NameTooLong`, `Invalid` for an impossible name, `TooManyLinks`, `NoSpace`, `Corrupt`, and as [`Edit::edit`].
pub async fn insert(edit: &mut impl Edit, dir: &mut Dinode, name: &[u8], link: Link) -> Result<(), FsError> {
    check_name(name)?;
    let entries = dir.entries.checked_add(1).ok_or(FsError::TooManyLinks)?;
    let target = link.named(name, dirent::hash(name));
    if dir.is_hashed() || !insert_linear(edit, dir, target).await? {
        insert_hashed(edit, dir, target).await?;
    }
    dir.entries = entries;
    Ok(())
}

/// Takes `name` out of `dir`. The leaf stays, even if it was its last name.
///
/// # Errors
/// `NotFound`, `Corrupt`, and as [`Edit::edit`].
pub async fn remove(edit: &mut impl Edit, dir: &mut Dinode, name: &[u8]) -> Result<Link, FsError> {
    let place = locate(edit, dir, name).await?.ok_or(FsError::NotFound)?;
    let broken = CorruptKind::DirectoryEntries { entries: dir.entries }.at(dir.ino.addr());
    let entries = dir.entries.checked_sub(1).ok_or(broken)?;
    let now = edit.now();
    let block = edit.edit(place.addr, place.kind()).await?;
    if let Some(leaf) = place.leaf {
        let broken = CorruptKind::LeafEntries { entries: leaf.entries }.at(place.addr);
        let entries = leaf.entries.checked_sub(1).ok_or(broken)?;
        Leaf { entries, ..leaf }.write_to(block, dir.ino, now);
    }
    area::take(area::part_mut(block, place.first()), place.hit);
    dir.entries = entries;
    Ok(place.hit.link)
}

/// Gives `name`, which `dir` has, to the inode of `link`; returns what it stood for. Changes the entry in its place.
///
/// # Errors
/// `NotFound`, `Corrupt`, and as [`Edit::edit`].
pub async fn replace(edit: &mut impl Edit, dir: &Dinode, name: &[u8], link: Link) -> Result<Link, FsError> {
    let place = locate(edit, dir, name).await?.ok_or(FsError::NotFound)?;
    let block = edit.edit(place.addr, place.kind()).await?;
    let area = area::part_mut(block, place.first());
    dirent::set_target(area, place.hit.offset, link.ino, link.formal, link.kind);
    Ok(place.hit.link)
}

/// Inserts into the dinode, and returns true; or gives the directory a hash table, when there is no room.
async fn insert_linear(edit: &mut impl Edit, dir: &mut Dinode, target: Target<'_>) -> Result<bool, FsError> {
    let addr = dir.ino.addr();
    let image = edit.meta(addr, BlockKind::DINODE).await?;
    let old = area::part(&image, dinode::HEADER_BYTES);
    let (count, room) = area::survey(addr, old, dirent::space_for(target.name.len()))?;
    if count != dir.entries {
        return Err(CorruptKind::DirectoryEntries { entries: dir.entries }.at(addr));
    }
    if let Some(room) = room {
        let block = edit.edit(addr, BlockKind::DINODE).await?;
        area::put(area::part_mut(block, dinode::HEADER_BYTES), room, target);
        return Ok(true);
    }
    let leaf = table::allocate(edit, dir).await?;
    let now = edit.now();
    let block = edit.create(leaf, BlockKind::LEAF);
    let entries = area::repack(addr, old, area::part_mut(block, LEAF_HEADER_BYTES), |_| true)?;
    Leaf { depth: 0, entries, next: None, distance: 1 }.write_to(block, dir.ino, now);

    dir.depth = edit.block_size().hash_depth_initial();
    dir.size = 8 << dir.depth;
    dir.flags |= flags::EXHASH;
    let block = edit.edit(addr, BlockKind::DINODE).await?;
    area::part_mut(block, FIRST_IN_DINODE).fill(0);
    for slot in 0..1 << dir.depth {
        set_pointer(block, FIRST_IN_DINODE, slot, Some(leaf));
    }
    Ok(false)
}

/// Inserts into the leaf of the name's hash, making room in it first. Each round but the last makes a leaf or the table
/// deeper, and both have a limit.
async fn insert_hashed(edit: &mut impl Edit, dir: &mut Dinode, target: Target<'_>) -> Result<(), FsError> {
    let space = dirent::space_for(target.name.len());
    loop {
        let slot = table::slot_of(target.hash, dir);
        let first = Table::default().leaf(edit, dir, slot).await?;
        let mut chain = Chain::new(dir, first);
        let mut last = None;
        while let Some(node) = chain.next(edit).await? {
            let (count, room) = area::survey(node.addr, node.area(), space)?;
            node.check_entries(count)?;
            let Some(room) = room else {
                last = Some(node);
                continue;
            };
            let broken = CorruptKind::LeafEntries { entries: node.leaf.entries }.at(node.addr);
            let entries = node.leaf.entries.checked_add(1).ok_or(broken)?;
            let now = edit.now();
            let block = edit.edit(node.addr, BlockKind::LEAF).await?;
            Leaf { entries, ..node.leaf }.write_to(block, dir.ino, now);
            area::put(area::part_mut(block, LEAF_HEADER_BYTES), room, target);
            return Ok(());
        }
        // A chain has at least its first leaf. One that can be split is alone: `Chain` has checked it.
        let Some(full) = last else { return Err(CorruptKind::HashTableHole { slot }.at(dir.ino.addr())) };
        if full.leaf.depth < dir.depth {
            leaf::split(edit, dir, &full, slot).await?;
        } else if dir.depth < DIR_DEPTH_MAX {
            table::double(edit, dir).await?;
        } else {
            return append(edit, dir, &full, target).await;
        }
    }
}

/// Puts a new leaf with the entry behind `last`, the last leaf of a chain.
async fn append(edit: &mut impl Edit, dir: &mut Dinode, last: &Node, target: Target<'_>) -> Result<(), FsError> {
    let addr = table::allocate(edit, dir).await?;
    let now = edit.now();
    let block = edit.create(addr, BlockKind::LEAF);
    let area = area::part_mut(block, LEAF_HEADER_BYTES);
    let whole = area.len();
    dirent::write(area, 0, whole, target);
    let distance = last.position.saturating_add(1);
    Leaf { depth: last.leaf.depth, entries: 1, next: None, distance }.write_to(block, dir.ino, now);
    let block = edit.edit(last.addr, BlockKind::LEAF).await?;
    Leaf { next: Some(addr), ..last.leaf }.write_to(block, dir.ino, now);
    Ok(())
}
