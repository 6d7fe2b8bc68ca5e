//! Sound and damaged volumes, looked at in every way.

use std::sync::Arc;
use std::sync::OnceLock;

use ::block::device::{BlockDevice, Durability, IoBuf};
use ::block::mem::MemDevice;
use fs_core::attr::{Caller, WriteFlags};
use fs_core::format::block_size::BlockSize;
use fs_core::fs::{Fs, MountOptions};
use fuse_mount::daemon::clock::Clock;
use serde_json::Value;

use super::*;

const SIZE_BYTES: u64 = 40 << 20;
const BLOCK_BYTES: usize = 1024;
/// Block of the superblock.
const SUPERBLOCK: u64 = 65536 / 1024;

/// A volume with some of everything, and blocks of it that are worth damaging.
struct Sample {
    bytes: Vec<u8>,
    metadata: Vec<u64>,
    root: u64,
    hashed: u64,
    large: u64,
}

fn sample() -> &'static Sample {
    static SAMPLE: OnceLock<Sample> = OnceLock::new();
    SAMPLE.get_or_init(|| runtime().block_on(make_sample()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

async fn make_sample() -> Sample {
    let device: Arc<dyn BlockDevice> = Arc::new(MemDevice::new(SIZE_BYTES));
    let block_size = BlockSize::new(1024).unwrap();
    let options =
        mkfs::options::Options { block_size, journals: Some(2), label: "sample".into(), ..Default::default() };
    let plan = mkfs::plan::Plan::new(SIZE_BYTES, &device.geometry(), &options).unwrap();
    let identity = mkfs::options::Identity::new(None, fs_core::attr::Timestamp { sec: 1_700_000_000, nsec: 5 });
    mkfs::format(&*device, &plan, &identity, false, &|_| ()).await.unwrap();

    let fs = Fs::mount(Arc::clone(&device), MountOptions::default(), Arc::new(Clock)).await.unwrap();
    let caller = Caller::default();
    let hashed = fs.mkdir(fs.root(), b"hashed", 0o755, caller).await.unwrap().ino;
    for number in 0..300 {
        let name = format!("a file with quite a long name, so that leaves are soon full: {number}");
        fs.mknod(hashed, name.as_bytes(), 0o100_644, (0, 0), caller).await.unwrap();
    }
    fs.symlink(fs.root(), b"odd \x1b[2J \xff", b"to\nwhere", caller).await.unwrap();
    let large = fs.mknod(fs.root(), b"large", 0o100_600, (0, 0), caller).await.unwrap().ino;
    for offset in [0, 5 << 20, 1 << 30, 1 << 40] {
        fs.write(large, offset, vec![7; 300_000], WriteFlags::default(), caller).await.unwrap();
    }
    let root = fs.root().get();
    fs.unmount().await.unwrap();
    // Once more, and not unmounted this time: the journal stays dirty.
    let fs = Fs::mount(Arc::clone(&device), MountOptions::default(), Arc::new(Clock)).await.unwrap();
    fs.mknod(fs.root(), b"logged only", 0o100_644, (0, 0), caller).await.unwrap();
    fs.sync().await.unwrap();

    let bytes = device.read(0, IoBuf::zeroed(usize::try_from(SIZE_BYTES).unwrap())).await.unwrap().to_vec();
    let mut printer = Printer::on(Vec::new(), Format { json: true });
    let view = View { out: &mut printer, volume: Volume::open(device).await.unwrap(), verbose: false };
    let (journal, other_journal) = (view.journal_map(0).await.unwrap().0, view.journal_map(1).await.unwrap().0);
    // Nearly all of a small volume is journals and room for quota changes: a few of these blocks are enough.
    let is_worth_it = |number: &u64| {
        let block = &bytes[usize::try_from(*number).unwrap() * BLOCK_BYTES..][..BLOCK_BYTES];
        let in_journal = [&journal, &other_journal].iter().any(|map| map.contains(BlockAddr(*number)));
        let kind = fs_core::format::meta::header(block).map(|header| header.kind.get());
        kind.is_some_and(|kind| (!in_journal && kind != 14) || number.is_multiple_of(250))
    };
    let metadata = (0..SIZE_BYTES / 1024).filter(is_worth_it).collect();
    Sample { bytes, metadata, root, hashed: hashed.get(), large: large.get() }
}

/// A device that holds `bytes`.
fn device(bytes: &[u8]) -> Arc<dyn BlockDevice> {
    let device = MemDevice::new(bytes.len() as u64);
    let zeroes = [0; 4096];
    for (number, chunk) in bytes.chunks(4096).enumerate().filter(|(_, chunk)| *chunk != &zeroes[..chunk.len()]) {
        let write = device.write(number as u64 * 4096, IoBuf::copied_from(chunk), Durability::Cached);
        runtime().block_on(write).unwrap();
    }
    Arc::new(device)
}

/// Shows `what` of the volume on `device`, as people see it and as programs do. True when nothing was wrong.
fn show_both(device: &Arc<dyn BlockDevice>, what: &What) -> (bool, String, Value) {
    let runtime = runtime();
    let print = |json| {
        let mut text = Vec::new();
        let mut printer = Printer::on(&mut text, Format { json });
        let shown = runtime.block_on(show(Arc::clone(device), what, &mut printer, !json));
        let well = matches!(&shown, Ok(status) if *status == ExitCode::SUCCESS);
        printer.complete(shown).ok();
        (well, String::from_utf8(text).unwrap())
    };
    let ((well, text), (well_too, json)) = (print(false), print(true));
    assert_eq!(well, well_too);
    (well, text, serde_json::from_str(&json).unwrap())
}

/// Every way to look at the sample; `block` is one of many.
fn ways(sample: &Sample, block: u64) -> Vec<What> {
    vec![
        What::Sb,
        What::Rgrp { n: None },
        What::Rgrp { n: Some(1) },
        What::Bitmap { n: 0 },
        What::Inode { n: sample.root },
        What::Inode { n: sample.large },
        What::Path { path: "/hashed/a file with quite a long name, so that leaves are soon full: 7".into() },
        What::Dir { n: sample.hashed },
        What::Dir { n: sample.root },
        What::Block { n: block },
        What::Journal { n: 0 },
    ]
}

#[test]
fn a_sound_volume_is_shown_without_problems() {
    let sample = sample();
    let device = device(&sample.bytes);
    for what in ways(sample, SUPERBLOCK) {
        let (well, text, json) = show_both(&device, &what);
        assert!(well, "{what:?}: {text}");
        assert_eq!(json["output_version"], 1, "{what:?}");
    }
    for block in sample.metadata.iter().step_by(sample.metadata.len() / 60 + 1) {
        let (well, text, _) = show_both(&device, &What::Block { n: *block });
        assert!(well, "block {block}: {text}");
    }
}

#[test]
fn what_is_shown_is_what_is_there() {
    let sample = sample();
    let device = device(&sample.bytes);
    let (_, _, json) = show_both(&device, &What::Dir { n: sample.hashed });
    assert_eq!(json["entries"].as_array().unwrap().len(), 302);
    assert_eq!(json["hashed"], true);
    let (_, text, json) = show_both(&device, &What::Dir { n: sample.root });
    assert!(text.contains(r"odd \u{1b}[2J \xff"), "{text}");
    assert_eq!(json["entries"].as_array().unwrap().len(), 5);
    let (_, text, json) = show_both(&device, &What::Journal { n: 0 });
    assert_eq!(json["state"], "dirty");
    assert!(text.contains("image") && text.contains("owner 2:"), "{text}");
    let (_, _, json) = show_both(&device, &What::Journal { n: 1 });
    assert_eq!(json["state"], "clean");
    let (_, _, json) = show_both(&device, &What::Sb);
    assert_eq!((&json["label"], &json["journals"]), (&"sample".into(), &2.into()));
    let (_, _, json) = show_both(&device, &What::Path { path: "large".into() });
    assert_eq!((&json["inode"], &json["kind"]), (&sample.large.into(), &"file".into()));
    let (_, _, json) = show_both(&device, &What::Block { n: sample.large });
    assert_eq!((&json["state"], &json["type"]), (&"dinode".into(), &4.into()));
}

#[test]
fn a_wrong_checksum_is_a_problem_that_names_its_block() {
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    let at = usize::try_from(sample.large).unwrap() * BLOCK_BYTES;
    bytes[at + 80] ^= 1;
    let device = device(&bytes);
    for what in [What::Block { n: sample.large }, What::Inode { n: sample.large }] {
        let (well, _, json) = show_both(&device, &what);
        let problem = json["problems"][0].as_str().unwrap_or_default().to_owned();
        assert!(!well && problem.starts_with(&format!("block {}: block checksum", sample.large)), "{problem}");
    }
}

#[test]
fn a_check_says_clean_or_names_rule_and_block() {
    let sample = sample();
    // The sample's journal is dirty; a mount closes it.
    let (well, text, json) = show_both(&device(&sample.bytes), &What::Check);
    assert!(!well && text.contains("journal-dirty"), "{text}");
    assert!(json["errors"].as_u64().unwrap() > 0);
    let device = device(&sample.bytes);
    runtime().block_on(async {
        let fs = Fs::mount(Arc::clone(&device), MountOptions::default(), Arc::new(Clock)).await.unwrap();
        fs.unmount().await.unwrap();
    });
    let (well, text, json) = show_both(&device, &What::Check);
    assert!(well && text.trim_end().ends_with("clean: 0 error(s), 0 note(s)"), "{text}");
    assert_eq!(
        (&json["findings"], &json["complete"], &json["errors"]),
        (&Value::Array(vec![]), &true.into(), &0.into())
    );

    let at = sample.hashed * BLOCK_BYTES as u64;
    let block = runtime().block_on(device.read(at, IoBuf::zeroed(BLOCK_BYTES))).unwrap();
    let mut damaged = IoBuf::copied_from(&block);
    // One link more than there are, and a true checksum.
    damaged[55] ^= 8;
    fs_core::format::meta::seal(BlockAddr(sample.hashed), &mut damaged, 0, 1);
    runtime().block_on(device.write(at, damaged, Durability::Cached)).unwrap();
    let (well, text, json) = show_both(&device, &What::Check);
    assert!(!well && text.trim_end().ends_with("damaged: 1 error(s), 0 note(s)"), "{text}");
    let finding = &json["findings"][0];
    assert_eq!((&finding["rule"], &finding["block"]), (&"link-count".into(), &sample.hashed.into()));
    assert_eq!((&finding["severity"], &finding["inode"]), (&"error".into(), &sample.hashed.into()));
}

#[test]
fn damaged_volumes_end_every_look_without_a_panic() {
    let sample = sample();
    let mut state = 1;
    let mut random = |end: usize| {
        state = u64::wrapping_add(state, 0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from(mixed >> 33).unwrap() % end
    };
    let mut found = 0;
    for round in 0..80 {
        let mut bytes = sample.bytes.clone();
        for _ in 0..=random(30) {
            let block = sample.metadata[random(sample.metadata.len())];
            let at = usize::try_from(block).unwrap() * BLOCK_BYTES;
            let other = sample.metadata[random(sample.metadata.len())];
            match random(4) {
                // A pointer, or a field, that leads to some other block.
                0 => bytes[at + 24 + 8 * random(125)..][..8].copy_from_slice(&other.to_be_bytes()),
                1 => bytes[at + 24 + random(990)] ^= 1 << random(8),
                // Whole blocks in wrong places: types and magic numbers are right, addresses are not.
                2 => bytes.copy_within(
                    usize::try_from(other).unwrap() * BLOCK_BYTES..(usize::try_from(other).unwrap() + 1) * BLOCK_BYTES,
                    at,
                ),
                _ => bytes[at + 20 + random(1000)..][..4].fill(u8::try_from(random(256)).unwrap()),
            }
        }
        let block = sample.metadata[random(sample.metadata.len())];
        let device = device(&bytes);
        let ways = ways(sample, block);
        for (index, what) in ways.iter().enumerate() {
            // One after the other: each look takes its time.
            if index % 4 == round % 4 {
                let (well, _, json) = show_both(&device, what);
                found += usize::from(!well);
                assert!(well != (json["error"].is_string() || json["problems"].is_array()), "{what:?}: {json}");
            }
        }
    }
    assert!(found > 40, "only {found} looks met the damage");
}

#[test]
fn a_device_that_is_cut_short_says_so() {
    let sample = sample();
    let (well, _, json) = show_both(&device(&sample.bytes[..20 << 20]), &What::Sb);
    assert!(!well && json["problems"].to_string().contains("cut short"), "{json}");
    for size in [0, 512, 65536, 66000 / 512 * 512] {
        let (well, _, json) = show_both(&device(&sample.bytes[..size]), &What::Sb);
        assert!(!well && json["error"].to_string().contains("too few for a volume"), "{json}");
    }
}

#[test]
fn what_is_not_there_is_refused_with_what_there_is() {
    let sample = sample();
    let device = device(&sample.bytes);
    for (what, wanted) in [
        (What::Rgrp { n: Some(999) }, "there is no resource group 999: the volume has"),
        (What::Bitmap { n: u64::MAX }, "there is no resource group"),
        (What::Journal { n: 2 }, "there is no journal 2: the volume has 2, counted from 0"),
        (What::Block { n: u64::MAX }, "is outside the device, which has"),
        (What::Inode { n: 0 }, "0 is no inode number"),
        (What::Inode { n: SUPERBLOCK }, "block 64: expected a dinode, found a superblock"),
        (What::Inode { n: u64::MAX }, "outside the volume's data"),
        (What::Dir { n: sample.large }, "is a file, not a directory"),
        (What::Path { path: "/large/x".into() }, "/large is not a directory"),
        (What::Path { path: "/hashed/none".into() }, "none is not in /hashed"),
    ] {
        let (well, _, json) = show_both(&device, &what);
        let error = json["error"].as_str().unwrap_or_default().to_owned();
        assert!(!well && error.contains(wanted), "{what:?}: {error}");
    }
}
