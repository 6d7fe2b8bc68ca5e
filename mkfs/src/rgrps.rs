//! Where the resource groups are: one for each journal, one for the system files, the rest of nearly equal size.

use fs_core::addr::BlockAddr;
use fs_core::format::block_size::BlockSize;
use fs_core::format::rgrp::RgrpPlace;
use fs_core::geometry::RgrpShape;

/// Resource groups of the same length, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Series {
    first: u64,
    span: u64,
    count: u64,
    shape: RgrpShape,
}

/// All resource groups of a volume. A few numbers, however many groups there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgrps {
    series: Vec<Series>,
    end: u64,
    block_size: BlockSize,
}

impl Rgrps {
    /// No groups yet; the first will stand at block `first`.
    #[must_use]
    pub const fn starting_at(first: u64, block_size: BlockSize) -> Self {
        Self { series: Vec::new(), end: first, block_size }
    }

    /// Adds `count` groups that take `span` blocks each; `None` when that is no possible size.
    pub fn append(&mut self, count: u64, span: u64) -> Option<()> {
        if count > 0 {
            let shape = RgrpShape::in_span(span, self.block_size)?;
            self.series.push(Series { first: self.end, span, count, shape });
            self.end = self.end.checked_add(span.checked_mul(count)?)?;
        }
        Some(())
    }

    /// First block behind the last group.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.series.iter().map(|series| series.count).sum()
    }

    /// Blocks that bitmaps describe, all together.
    #[must_use]
    pub fn data_blocks(&self) -> u64 {
        self.series.iter().map(|series| series.count * u64::from(series.shape.data)).sum()
    }

    /// Header and bitmap blocks, all together.
    #[must_use]
    pub fn header_blocks(&self) -> u64 {
        self.series.iter().map(|series| series.count * u64::from(series.shape.length)).sum()
    }

    /// The group with this number.
    #[must_use]
    pub fn place(&self, number: u64) -> Option<RgrpPlace> {
        let mut before = 0;
        for series in &self.series {
            if number - before < series.count {
                return Some(series.place(number - before));
            }
            before += series.count;
        }
        None
    }

    /// All of them, sorted by address.
    pub fn iter(&self) -> impl Iterator<Item = RgrpPlace> + '_ {
        self.series.iter().flat_map(|series| (0..series.count).map(|number| series.place(number)))
    }
}

impl Series {
    fn place(&self, number: u64) -> RgrpPlace {
        let addr = self.first + number * self.span;
        RgrpPlace {
            addr: BlockAddr(addr),
            length: self.shape.length,
            data0: BlockAddr(addr + u64::from(self.shape.length)),
            data: self.shape.data,
        }
    }
}

/// Divides `blocks` into groups of at most `target` blocks, as equal as multiples of `unit` allow; the first may have to
/// hold more than the others. Both are multiples of `unit`.
#[must_use]
pub fn divide(
    blocks: u64,
    target: u64,
    unit: u64,
    first_needs: impl Fn(u64) -> Option<u64>,
) -> Option<Vec<(u64, u64)>> {
    let count = blocks.div_ceil(target).max(1);
    if let Some(equal) = equal_parts(blocks, count, unit)
        && first_needs(count)? <= equal.first().map_or(0, |(_, span)| *span)
    {
        return Some(equal);
    }
    let first = first_needs(count + 1)?.next_multiple_of(unit);
    let rest = blocks.checked_sub(first)?;
    let mut parts = vec![(1, first)];
    if rest >= target.min(blocks) / 2 {
        parts.extend(equal_parts(rest, rest.div_ceil(target).max(1), unit)?);
    } else {
        parts = vec![(1, first + rest)];
    }
    Some(parts)
}

/// `count` parts of `blocks`, larger ones first: at most two sizes that differ by `unit`.
fn equal_parts(blocks: u64, count: u64, unit: u64) -> Option<Vec<(u64, u64)>> {
    let units = blocks / unit;
    let (small, larger) = (units.checked_div(count)?, units.checked_rem(count)?);
    Some(
        vec![(larger, (small + 1) * unit), (count - larger, small * unit)]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_fill_the_space_and_differ_by_one_unit() {
        let parts = divide(1000, 300, 1, |_| Some(10)).unwrap();
        assert_eq!(parts, [(4, 250)]);
        assert_eq!(divide(1001, 300, 1, |_| Some(10)).unwrap(), [(1, 251), (3, 250)]);
        assert_eq!(divide(1008, 300, 8, |_| Some(10)).unwrap(), [(2, 256), (2, 248)]);
    }

    #[test]
    fn the_first_part_is_as_large_as_it_must_be() {
        assert_eq!(divide(1000, 300, 1, |_| Some(400)).unwrap(), [(1, 400), (2, 300)]);
        assert_eq!(divide(500, 300, 1, |_| Some(400)).unwrap(), [(1, 500)]);
        assert_eq!(divide(300, 300, 1, |_| Some(400)), None);
    }

    #[test]
    fn groups_are_found_by_number() {
        let mut rgrps = Rgrps::starting_at(100, BlockSize::MAX);
        rgrps.append(3, 1001).unwrap();
        rgrps.append(2, 1000).unwrap();
        let listed: Vec<_> = rgrps.iter().collect();
        assert_eq!((rgrps.count(), rgrps.end()), (5, 100 + 5003));
        for (number, place) in (0..).zip(&listed) {
            assert_eq!(rgrps.place(number).as_ref(), Some(place));
        }
        assert_eq!(rgrps.place(5), None);
    }
}
