use super::*;

const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn geometry(sector_bytes: u32) -> Geometry {
    Geometry {
        size_bytes: u64::MAX,
        logical_sector_bytes: sector_bytes,
        physical_sector_bytes: sector_bytes,
        read_only: false,
        discards: false,
    }
}

fn plan(size_bytes: u64, options: &Options) -> Result<Plan, PlanError> {
    Plan::new(size_bytes, &geometry(512), options)
}

fn block_sizes() -> impl Iterator<Item = BlockSize> {
    [512, 1024, 2048, 4096].into_iter().filter_map(BlockSize::new)
}

/// Everything is inside the volume and nothing overlaps.
fn check_layout(plan: &Plan) {
    let block = plan.block_size.bytes_u64();
    let rgrps = &plan.rgrps;
    let last = rgrps.place(rgrps.count() - 1).unwrap();
    assert!(last.end().0 <= rgrps.end() && rgrps.end() * block <= plan.size_bytes);
    let unused = plan.size_bytes - rgrps.end() * block;
    assert!(unused < ALIGN_BYTES + block, "{unused} bytes at the end are in no group");
    for number in (0..rgrps.count().min(200)).chain([rgrps.count() - 1]) {
        let place = rgrps.place(number).unwrap();
        assert!((place.addr.0 * block).is_multiple_of(ALIGN_BYTES));
        assert!(plan.used_in_rgrp(number) <= u64::from(place.data), "group {number}");
        if let Some(next) = rgrps.place(number + 1) {
            assert!(place.end() <= next.addr);
        }
    }
    assert!(plan.free_blocks() >= FREE_BLOCKS_MIN);
}

#[test]
fn volumes_of_all_sizes_are_laid_out_without_overlap() {
    for block_size in block_sizes() {
        for size in [20 * (1 << 20), GIB / 8 - 512, GIB / 8, GIB + 12_345 * 512, 100 * GIB, 16 * TIB - 4096, 64 * TIB] {
            for rgrp_bytes in [None, Some(RGRP_BYTES_MIN), Some(RGRP_BYTES_MAX)] {
                check_layout(&plan(size, &Options { block_size, rgrp_bytes, ..Options::default() }).unwrap());
            }
        }
    }
}

#[test]
fn the_smallest_volume_is_what_the_error_says_in_every_class() {
    for block_size in block_sizes() {
        for journal_mib in [8, 64, 123, 128, 1000, 1020, 1024] {
            let journal_bytes = Some(journal_mib << 20);
            let options = Options { block_size, journal_bytes, journals: Some(1), ..Options::default() };
            let Err(PlanError::TooSmall { minimum_bytes, .. }) = plan(65536, &options) else { panic!("64 KiB") };
            check_layout(&plan(minimum_bytes, &options).unwrap());
            if !matches!(minimum_bytes, AREA_VOLUME_BYTES_MIN | LARGE_AREA_VOLUME_BYTES_MIN) {
                assert!(plan(minimum_bytes - 4096, &options).is_err(), "{block_size:?} {journal_mib}");
            }
        }
    }
}

#[test]
fn groups_grow_for_their_own_list_where_it_is_long() {
    let options = Options { rgrp_bytes: Some(RGRP_BYTES_MIN), ..Options::default() };
    let plan = plan(64 * TIB, &options).unwrap();
    let system = plan.rgrps.place(8).unwrap();
    assert!(u64::from(system.data) * 4096 > 190 << 20, "rindex has 192 MiB");
}

#[test]
fn small_volumes_get_fewer_journals_unless_they_were_asked_for() {
    let journals = |size, journals| plan(size, &Options { journals, ..Options::default() }).unwrap().journals;
    assert_eq!((journals(20 << 20, None), journals(GIB / 8, None), journals(GIB, None)), (1, 3, 8));
    assert_eq!(journals(GIB / 8, Some(14)), 14);
    let refused = plan(GIB / 8, &Options { journals: Some(15), ..Options::default() }).unwrap_err();
    assert!(matches!(refused, PlanError::JournalsDoNotFit { fit: 14, .. }), "{refused}");
}

#[test]
fn blocks_are_not_smaller_than_sectors() {
    let options = Options { block_size: BlockSize::MIN, ..Options::default() };
    let refused = Plan::new(GIB, &geometry(4096), &options).unwrap_err();
    assert_eq!(refused, PlanError::BlockBelowSector { block_bytes: 512, sector_bytes: 4096 });
}
