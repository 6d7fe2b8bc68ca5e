use super::*;
use crate::journal::owner::OwnerKind;

fn image(addr: u64, block_size: BlockSize, fill: u8) -> LogImage {
    let mut block = vec![fill; block_size.bytes()];
    meta::start(&mut block, BlockKind::DINODE);
    LogImage { addr: BlockAddr(addr), image: block.into(), owner: Owner::new(OwnerKind::INODE, BlockAddr(addr + 1)) }
}

fn sizes() -> impl Iterator<Item = BlockSize> {
    [512, 1024, 2048, 4096].into_iter().filter_map(BlockSize::new)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(*bytes[at..].first_chunk().unwrap())
}

#[test]
fn the_number_of_blocks_is_known_beforehand() {
    for size in sizes() {
        let one = image(7, size, 1);
        let (meta, jdata) = (metadata_per_descriptor(size), jdata_per_descriptor(size));
        let (first, next) = (size.descriptor_pointers(), size.indirect_pointers());
        for metadata in [0, 1, meta - 1, meta, meta + 1, 3 * meta] {
            for data in [0, 1, jdata - 1, jdata, jdata + 1, 2 * jdata + 5] {
                for revokes in [0, 1, first - 1, first, first + 1, first + next, first + next + 1, first + 3 * next] {
                    let metadata = vec![one.clone(); metadata];
                    let data = vec![one.clone(); data];
                    let revokes = vec![BlockAddr(9); revokes];
                    let encoder = Encoder::new(0, size, &metadata, &data, &revokes);
                    assert_eq!(encoder.block_count(), blocks_needed(size, metadata.len(), data.len(), revokes.len()));
                }
            }
        }
    }
}

#[test]
fn descriptors_name_the_blocks_behind_them_in_the_kernels_order() {
    let size = BlockSize::MAX;
    let metadata = [image(30, size, 1), image(20, size, 2)];
    let mut plain = image(40, size, 3);
    plain.image = vec![9; size.bytes()].into();
    let jdata = [plain, image(41, size, 4)];
    let revokes: Vec<BlockAddr> = (100..800).map(BlockAddr).collect();
    let encoder = Encoder::new(5, size, &metadata, &jdata, &revokes);
    let mut out = IoBuf::with_capacity(0);
    // In two pieces, which must join.
    encoder.append(0..4, &mut out);
    encoder.append(4..encoder.block_count(), &mut out);
    let blocks: Vec<&[u8]> = out.chunks_exact(size.bytes()).collect();
    assert_eq!(blocks.len(), 3 + 3 + 2);

    assert_eq!(log::parse_descriptor(blocks[0]), Some((DescriptorKind::JDATA, 3, 2)));
    assert_eq!([72, 80, 88, 96].map(|at| number(blocks[0], at)), [40, 0, 41, 1]);
    assert_eq!(number(blocks[0], 72 + 32), Owner::new(OwnerKind::INODE, BlockAddr(41)).bits());
    assert_eq!(blocks[1], &*jdata[0].image);
    assert_eq!(blocks[2][..4], [0; 4]);
    assert_eq!(blocks[2][4..], jdata[1].image[4..]);

    assert_eq!(log::parse_descriptor(blocks[3]), Some((DescriptorKind::METADATA, 3, 2)));
    assert_eq!([72, 80].map(|at| number(blocks[3], at)), [20, 30]);
    assert_eq!(number(blocks[3], 88), Owner::new(OwnerKind::INODE, BlockAddr(21)).bits());
    assert!(blocks[3][72 + 32..].iter().all(|byte| *byte == 0));
    assert_eq!((blocks[4], blocks[5]), (&*metadata[1].image, &*metadata[0].image));

    assert_eq!(log::parse_descriptor(blocks[6]), Some((DescriptorKind::REVOKE, 2, 700)));
    assert_eq!((number(blocks[6], 72), number(blocks[6], 72 + 8 * 502)), (100, 602));
    assert_eq!(meta::header(blocks[7]).unwrap().kind.get(), BlockKind::LOG_CONTINUATION.0);
    assert_eq!(meta::header(blocks[7]).unwrap().format.get(), 1200);
    assert_eq!(
        (number(blocks[7], 24), number(blocks[7], 24 + 8 * 196), number(blocks[7], 24 + 8 * 197)),
        (603, 799, 0)
    );
}

#[test]
fn a_full_descriptor_has_room_for_all_owners() {
    for size in sizes() {
        let count = metadata_per_descriptor(size);
        let metadata: Vec<LogImage> = (1..=count as u64).map(|addr| image(addr, size, 1)).collect();
        let encoder = Encoder::new(0, size, &metadata, &[], &[]);
        let mut out = IoBuf::with_capacity(0);
        encoder.append(0..1, &mut out);
        let last = DESCRIPTOR_BYTES + 16 * count - 8;
        assert_eq!(number(&out, last), metadata[count - 1].owner.bits());
    }
}
