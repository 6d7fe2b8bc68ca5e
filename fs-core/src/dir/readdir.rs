//! Listing a directory, in an order in which every name has its place for good.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use siphasher::sip::SipHasher13;

use super::area;
use super::leaf::Chain;
use super::lookup::lookup;
use super::table::{self, Table};
use super::{DOT, DOT_DOT, Link};
use crate::attr::DirEntry;
use crate::blocks::Blocks;
use crate::error::{CorruptKind, FsError};
use crate::format::dinode::{self, Dinode};
use crate::format::dirent::{self, Target};
use crate::format::meta::BlockKind;

/// Cookies of `.` and `..`, and the smallest of other names.
const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;
const COOKIE_NAMES: u64 = 4;
/// Where in a cookie the hash of the name starts.
const HASH_SHIFT: u32 = 31;

/// Makes cookies. All nodes of a volume make the same.
///
/// ```text
/// bit 62 … 31  hash of the name: cookies rise with the slots of the table
///     30 …  1  second hash: names that share a hash are no rarity, for CRC-32 is linear
///           0  the name is not the first one of those that share both
/// ```
#[derive(Debug, Clone)]
pub struct CookieKey(SipHasher13);

impl CookieKey {
    /// The key of the volume with this UUID.
    #[must_use]
    pub fn new(uuid: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(uuid))
    }

    /// The cookie of a name with bit 0 clear.
    pub(super) fn base(&self, hash: u32, name: &[u8]) -> u64 {
        let second = self.0.hash(name) >> 34;
        (u64::from(hash) << HASH_SHIFT | second << 1).max(COOKIE_NAMES)
    }
}

/// The next entries of `dir` after the cookie `after` (0: from the start), at most `count_max`, in the order of their
/// cookies. None: the end.
///
/// A name that exists throughout a listing is in it exactly once, whatever else is created or removed between the
/// calls: cookies depend on names alone. The exception are names that share both hashes. The first of them by name has
/// an even cookie, all others the odd one after it. Two of them are told apart as long as both exist; when the first
/// goes between two calls of which the earlier ended with it, the other is skipped. With three, a call that ends
/// between the second and the third skips the third.
///
/// # Errors
/// `Corrupt`, and as [`Blocks::meta`].
pub async fn read(
    blocks: &impl Blocks,
    dir: &Dinode,
    after: u64,
    count_max: usize,
    key: &CookieKey,
) -> Result<Vec<DirEntry>, FsError> {
    let mut found = Vec::new();
    for (cookie, name) in [(COOKIE_DOT, DOT), (COOKIE_DOT_DOT, DOT_DOT)] {
        // A directory without them is still worth listing.
        if after < cookie
            && found.len() < count_max
            && let Some(link) = lookup(blocks, dir, name).await?
        {
            found.push(DirEntry { ino: link.ino, kind: link.kind, name: name.to_vec(), cookie });
        }
    }
    let wanted = count_max - found.len();
    if wanted == 0 || after >= i64::MAX.unsigned_abs() {
        return Ok(found);
    }
    let mut smallest = collect(blocks, dir, after, wanted, key).await?.into_sorted_vec();
    let mut previous = None;
    for Candidate { base, name, link } in smallest.drain(..) {
        let cookie = if previous == Some(base) { base | 1 } else { base };
        previous = Some(base);
        if cookie > after && found.len() < count_max {
            found.push(DirEntry { ino: link.ino, kind: link.kind, name, cookie });
        }
    }
    Ok(found)
}

/// The smallest names after `after`: `wanted` ones, and the one before them if its cookie is `after` itself, so that it
/// is known who is first among equals.
async fn collect(
    blocks: &impl Blocks,
    dir: &Dinode,
    after: u64,
    wanted: usize,
    key: &CookieKey,
) -> Result<BinaryHeap<Candidate>, FsError> {
    // Odd: all equals were there already.
    let least = (after + 1) & !1;
    let mut smallest = Smallest { heap: BinaryHeap::new(), least, count_max: wanted.saturating_add(1), key };
    if !dir.is_hashed() {
        let addr = dir.ino.addr();
        let image = blocks.meta(addr, BlockKind::DINODE).await?;
        for entry in dirent::entries(addr, area::part(&image, dinode::HEADER_BYTES)) {
            if let Some(target) = entry?.target {
                smallest.offer(&target);
            }
        }
        return Ok(smallest.heap);
    }
    // Names of later leaves are greater than all of this one, so the first leaf that fills the heap is the last.
    let (mut table, mut leaves) = (Table::default(), 0);
    let hash = u32::try_from(least >> HASH_SHIFT).unwrap_or(u32::MAX);
    let mut slot = table::slot_of(hash, dir);
    while slot < table::slots(dir) && smallest.heap.len() < smallest.count_max {
        let first = table.leaf(blocks, dir, slot).await?;
        let mut chain = Chain::new(dir, first);
        let mut end = slot + 1;
        while let Some(node) = chain.next(blocks).await? {
            // Each leaf is a block of its own, unless slots far from each other share one.
            leaves += 1;
            if leaves > dir.blocks {
                return Err(CorruptKind::PointerCircle.at(node.addr));
            }
            let range = table::range(dir, node.leaf.depth, slot);
            let mut count = 0;
            for entry in dirent::entries(node.addr, node.area()) {
                let entry = entry?;
                let Some(target) = entry.target else { continue };
                if !range.contains(&table::slot_of(target.hash, dir)) {
                    return Err(CorruptKind::DirentLeaf { offset: entry.offset }.at(node.addr));
                }
                count += 1;
                smallest.offer(&target);
            }
            node.check_entries(count)?;
            end = range.end;
        }
        slot = end;
    }
    Ok(smallest.heap)
}

/// A name that may be among the next ones.
#[derive(Debug)]
struct Candidate {
    base: u64,
    name: Vec<u8>,
    link: Link,
}

impl Candidate {
    fn place(&self) -> (u64, &[u8]) {
        (self.base, &self.name)
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for Candidate {}

/// Keeps the smallest of all names that are offered: a chain of leaves may be longer than memory.
struct Smallest<'a> {
    heap: BinaryHeap<Candidate>,
    least: u64,
    count_max: usize,
    key: &'a CookieKey,
}

impl Smallest<'_> {
    fn offer(&mut self, target: &Target<'_>) {
        let base = self.key.base(target.hash, target.name);
        if base < self.least || target.name == DOT || target.name == DOT_DOT {
            return;
        }
        if self.heap.len() == self.count_max {
            if self.heap.peek().is_some_and(|greatest| greatest.place() <= (base, target.name)) {
                return;
            }
            self.heap.pop();
        }
        self.heap.push(Candidate { base, name: target.name.to_vec(), link: Link::from(*target) });
    }
}
