//! Volumes of `mkfs.gfs2` and of lunfs, read by the same parsers and held against each other.

use std::path::Path;

use fs_core::format::dinode::flags;
use fs_core::format::marker::{self, RawMarker};
use fs_core::format::superblock::LOCK_PROTOCOL;
use fs_core::geometry::ClusterArea;
use lunfs_tests::command::run;
use lunfs_tests::need;
use lunfs_tests::scratch::Scratch;

use crate::made::{GIB, MIB, make, options};
use crate::walk::{Found, Walk};

fn make_gfs2(image: &Path, size: &str, block_bytes: u32, journals: u32) {
    run("truncate", ["-s".as_ref(), size.as_ref(), image.as_os_str()]).ok();
    let (block, journals) = (block_bytes.to_string(), journals.to_string());
    let args = ["-O", "-q", "-K", "-p", "lock_nolock", "-J", "8", "-b", &block, "-j", &journals];
    run("mkfs.gfs2", args.iter().map(AsRef::as_ref).chain([image.as_os_str()])).ok();
}

/// Names of all system files of a volume with so many journals.
fn system_paths(journals: u32) -> Vec<String> {
    let mut paths: Vec<String> = ["", "/jindex", "/per_node", "/inum", "/statfs", "/rindex", "/quota"]
        .map(|name| format!("master{name}"))
        .to_vec();
    for node in 0..journals {
        paths.push(format!("master/jindex/journal{node}"));
        paths.extend(
            ["inum_range", "statfs_change", "quota_change"].map(|name| format!("master/per_node/{name}{node}")),
        );
    }
    paths.push("root".to_owned());
    paths.sort();
    paths
}

#[test]
fn volumes_of_mkfs_gfs2_are_parsed_to_the_last_block() {
    need::tools(&["mkfs.gfs2"]);
    let scratch = Scratch::new("golden");
    let image = scratch.path("gfs2");
    for block_bytes in [512, 1024, 2048, 4096] {
        for journals in [1, 3] {
            make_gfs2(&image, "200M", block_bytes, journals);
            let walk = Walk::of(&image);
            assert_eq!(walk.inodes.keys().cloned().collect::<Vec<_>>(), system_paths(journals));
            assert_eq!(walk.log_headers, u64::from(journals) * 8 * MIB / u64::from(block_bytes));
            assert_eq!((walk.stamped, walk.checksummed), (0, 0));
            assert_eq!(walk.superblock.lock_proto, "lock_nolock");
            std::fs::remove_file(&image).unwrap();
        }
    }
}

#[test]
fn our_volumes_are_parsed_to_the_last_block_and_every_block_is_sealed() {
    let scratch = Scratch::new("golden");
    let image = scratch.path("lunfs");
    for block_bytes in [512, 1024, 2048, 4096] {
        for (journals, size) in [(1, 20 * MIB), (3, 200 * MIB), (60, GIB)] {
            // Only with these does each shape of a directory occur: in its dinode, hashed, with a table in blocks.
            if journals == 60 && block_bytes != 512 {
                continue;
            }
            let plan = make(&image, size, &options(block_bytes, journals)).unwrap();
            let walk = Walk::of(&image);
            assert_eq!(walk.inodes.keys().cloned().collect::<Vec<_>>(), system_paths(journals));
            assert_eq!(walk.superblock.lock_proto, LOCK_PROTOCOL);
            assert_eq!(walk.stamped, walk.log_headers);
            assert_eq!(walk.unchecksummed, 0);
            assert_eq!(walk.rgrps(), plan.rgrps.iter().collect::<Vec<_>>());

            let bytes = std::fs::read(&image).unwrap();
            let marker = RawMarker::parse(&bytes[marker::OFFSET_BYTES as usize..], walk.superblock.uuid).unwrap();
            let area = ClusterArea::of_volume(size).map_or((0, 0), |area| area.range());
            assert_eq!((marker.area_offset_bytes.get(), marker.area_len_bytes.get()), area);
            let first = (plan.first_rgrp().0 * plan.block_size.bytes_u64()) as usize;
            let superblock_end = 65536 + plan.block_size.bytes();
            let is_zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
            assert!(is_zero(0..marker::OFFSET_BYTES as usize) && is_zero(superblock_end..first));
        }
    }
}

/// The fields of a dinode that do not say where something is or when it was made.
fn fields(found: &Found) -> Vec<(&'static str, u64)> {
    let raw = &found.raw;
    vec![
        ("formal", raw.num.formal.get()),
        ("mode", raw.mode.get().into()),
        ("uid", raw.uid.get().into()),
        ("gid", raw.gid.get().into()),
        ("nlink", raw.nlink.get().into()),
        ("size", raw.size.get()),
        ("blocks", raw.blocks.get()),
        ("major", raw.major.get().into()),
        ("minor", raw.minor.get().into()),
        ("generation", raw.generation.get()),
        ("flags", raw.flags.get().into()),
        ("payload_format", raw.payload_format.get().into()),
        ("height", raw.height.get().into()),
        ("depth", raw.depth.get().into()),
        ("entries", raw.entries.get().into()),
        ("eattr", raw.eattr.get()),
    ]
}

#[test]
fn our_inodes_and_entries_say_what_those_of_mkfs_gfs2_say() {
    need::tools(&["mkfs.gfs2"]);
    let scratch = Scratch::new("golden");
    let (theirs, ours) = (scratch.path("gfs2"), scratch.path("lunfs"));
    for block_bytes in [512, 1024, 2048, 4096] {
        for journals in [1, 3, 12] {
            make_gfs2(&theirs, "300M", block_bytes, journals);
            make(&ours, 300 * MIB, &options(block_bytes, journals)).unwrap();
            let (theirs, ours) = (Walk::of(&theirs), Walk::of(&ours));
            for (path, their) in &theirs.inodes {
                let our = &ours.inodes[path];
                let of_volume =
                    |field: &&(&str, u64)| path != "master/rindex" || !matches!(field.0, "size" | "blocks" | "height");
                let (their_fields, our_fields) = (fields(their), fields(our));
                assert_eq!(
                    our_fields.iter().filter(of_volume).collect::<Vec<_>>(),
                    their_fields.iter().filter(of_volume).collect::<Vec<_>>(),
                    "{block_bytes} {journals} {path}"
                );
                let names = |found: &Found| {
                    let all = found.entries.iter();
                    all.map(|(name, named)| (name.clone(), named.formal, named.hash, named.kind)).collect::<Vec<_>>()
                };
                assert_eq!(names(our), names(their), "{block_bytes} {journals} {path}");
                assert!(path == "root" || our.raw.flags.get() & flags::SYSTEM != 0);
            }
            for path in ["master/inum", "master/quota", "master/per_node/statfs_change0"] {
                assert_eq!(ours.content(path), theirs.content(path), "{path}");
            }
        }
    }
}
