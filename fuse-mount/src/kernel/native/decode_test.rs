use super::super::abi::opcode::Opcode;
use super::*;

/// Bytes of a message, written down field by field.
#[derive(Default, Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_ne_bytes());
        self
    }
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
    fn zeroes(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }
}

fn bytes() -> Bytes {
    Bytes::default()
}

/// A whole message: header of inode 9, request 0x22, user 1000, group 100, process 77.
fn message(opcode: Opcode, body: &Bytes, extensions_len: u16) -> Vec<u8> {
    let len = u32::try_from(40 + body.0.len()).unwrap();
    let header = bytes().u32(len).u32(opcode.0).u64(0x22).u64(9).u32(1000).u32(100).u32(77).u16(extensions_len).u16(0);
    header.raw(&body.0).0
}

/// Decodes as a thread does that has read these bytes.
fn decode(message: &[u8], forms: Forms) -> Option<Result<Request, Refused>> {
    let header = header(&message[..message.len().min(80)], message.len()).ok()?;
    let body = message.get(40..).unwrap_or_default();
    Some(if header.opcode == Opcode::WRITE {
        let (body, data) = body.split_at(body.len().min(40));
        request(&header, body, data.len(), forms)
    } else {
        request(&header, body, 0, forms)
    })
}

fn decoded(opcode: Opcode, body: &Bytes) -> Request {
    decode(&message(opcode, body, 0), Forms::default()).unwrap().unwrap()
}

fn lock_body(kind: u32, flags: u32) -> Bytes {
    bytes().u64(5).u64(0xabc).u64(10).u64(19).u32(kind).u32(77).u32(flags).u32(0)
}

/// One message of each kind, as the kernel sends it.
fn samples() -> Vec<(Opcode, Bytes)> {
    let setattr = bytes().u32(0b1_0111_1111).zeroes(84);
    let read = || bytes().u64(5).u64(4096).u32(8192).u32(0b10).u64(0xabc).u32(0o2).u32(0);
    let copy = || bytes().u64(5).u64(0).u64(11).u64(6).u64(4096).u64(100).u64(0);
    vec![
        (Opcode::LOOKUP, bytes().raw(b"name\0")),
        (Opcode::FORGET, bytes().u64(3)),
        (Opcode::GETATTR, bytes().u32(1).u32(0).u64(5)),
        (Opcode::SETATTR, setattr),
        (Opcode::READLINK, bytes()),
        (Opcode::SYMLINK, bytes().raw(b"name\0target\0")),
        (Opcode::MKNOD, bytes().u32(0o20_644).u32(0x107).u32(0o22).u32(0).raw(b"name\0")),
        (Opcode::MKDIR, bytes().u32(0o755).u32(0o22).raw(b"name\0")),
        (Opcode::UNLINK, bytes().raw(b"name\0")),
        (Opcode::RMDIR, bytes().raw(b"name\0")),
        (Opcode::RENAME, bytes().u64(10).raw(b"old\0new\0")),
        (Opcode::LINK, bytes().u64(12).raw(b"name\0")),
        (Opcode::OPEN, bytes().u32(0o1002).u32(1)),
        (Opcode::READ, read()),
        (Opcode::WRITE, bytes().u64(5).u64(4096).u32(4).u32(0b101).u64(0xabc).u32(0o2001).u32(0).raw(b"data")),
        (Opcode::STATFS, bytes()),
        (Opcode::RELEASE, bytes().u64(5).u32(0o2).u32(0b11).u64(0xabc)),
        (Opcode::FSYNC, bytes().u64(5).u32(1).u32(0)),
        (Opcode::SETXATTR, bytes().u32(5).u32(1).raw(b"user.a\0value")),
        (Opcode::GETXATTR, bytes().u32(100).u32(0).raw(b"user.a\0")),
        (Opcode::LISTXATTR, bytes().u32(100).u32(0)),
        (Opcode::REMOVEXATTR, bytes().raw(b"user.a\0")),
        (Opcode::FLUSH, bytes().u64(5).u64(0).u64(0xabc)),
        (Opcode::OPENDIR, bytes().u32(0o200_000).u32(0)),
        (Opcode::READDIR, read()),
        (Opcode::RELEASEDIR, bytes().u64(5).u32(0).u32(0).u64(0)),
        (Opcode::FSYNCDIR, bytes().u64(5).u32(0).u32(0)),
        (Opcode::GETLK, lock_body(1, 0)),
        (Opcode::SETLK, lock_body(2, 1)),
        (Opcode::SETLKW, lock_body(0, 0)),
        (Opcode::ACCESS, bytes().u32(4).u32(0)),
        (Opcode::CREATE, bytes().u32(0o301).u32(0o100_644).u32(0o22).u32(1).raw(b"name\0")),
        (Opcode::INTERRUPT, bytes().u64(0x20)),
        (Opcode::BMAP, bytes().u64(7).u32(512).u32(0)),
        (Opcode::DESTROY, bytes()),
        (Opcode::IOCTL, bytes().u64(5).u32(16).u32(0x6601).u64(0x1234).u32(3).u32(8).raw(b"abc")),
        (Opcode::POLL, bytes().u64(5).u64(6).u32(1).u32(4)),
        (Opcode::NOTIFY_REPLY, bytes().u64(0).u64(4096).u32(2).u32(0).u64(0).u64(0).raw(b"ab")),
        (Opcode::BATCH_FORGET, bytes().u32(2).u32(0).u64(7).u64(1).u64(8).u64(2)),
        (Opcode::FALLOCATE, bytes().u64(5).u64(4096).u64(100).u32(1).u32(0)),
        (Opcode::READDIRPLUS, read()),
        (Opcode::RENAME2, bytes().u64(10).u32(2).u32(0).raw(b"old\0new\0")),
        (Opcode::LSEEK, bytes().u64(5).u64(u64::MAX).u32(4).u32(0)),
        (Opcode::COPY_FILE_RANGE, copy()),
        (Opcode::SYNCFS, bytes().u64(0)),
        (Opcode::TMPFILE, bytes().u32(0o202).u32(0o100_600).u32(0o22).u32(0).raw(b"/\0")),
        (Opcode::STATX, bytes().u32(0).u32(0).u64(0).u32(0x100).u32(0xfff)),
        (Opcode::COPY_FILE_RANGE_64, copy()),
    ]
}

/// What is never served: it comes first and only once, needs shared memory, or is not of a filesystem.
const UNSERVED: [Opcode; 6] = [
    Opcode::INIT,
    Opcode::SETUPMAPPING,
    Opcode::REMOVEMAPPING,
    Opcode::CUSE_INIT,
    Opcode::CUSE_INIT_SWAPPED,
    Opcode::INIT_SWAPPED,
];

#[test]
fn every_kind_of_request_has_a_sample_or_a_reason() {
    for opcode in Opcode::ALL {
        let sampled = samples().iter().any(|(sampled, _)| sampled == opcode);
        assert!(sampled != UNSERVED.contains(opcode), "{}", opcode.name());
    }
    for opcode in UNSERVED.into_iter().chain([Opcode(0), Opcode(7), Opcode(54), Opcode(u32::MAX)]) {
        assert_eq!(decode(&message(opcode, &bytes().zeroes(100), 0), Forms::default()), Some(Err(Refused::Unknown)));
    }
}

#[test]
fn headers_say_who_asks_for_what() {
    let message = message(Opcode::STATFS, &bytes(), 0);
    let header = header(&message, message.len()).unwrap();
    assert_eq!((header.opcode, header.unique, header.node, header.pid), (Opcode::STATFS, 0x22, NodeId(9), 77));
    assert_eq!((header.caller.uid, header.caller.gid), (1000, 100));
}

#[test]
fn each_sample_means_what_it_says() {
    let lock = |kind, flock| Lock { owner: 0xabc, start: 10, end: 19, kind, pid: 77, flock };
    let (name, value) = (|| b"user.a".to_vec(), || b"value".to_vec());
    let readdir = Readdir { handle: 5, after: 4096, len_bytes: 8192 };
    for (opcode, body) in samples() {
        let found = decoded(opcode, &body);
        let wanted = match opcode {
            Opcode::LOOKUP => Request::Lookup { name: b"name".to_vec() },
            Opcode::FORGET => Request::Forget(vec![(NodeId(9), 3)]),
            Opcode::GETATTR => Request::Getattr { handle: Some(5) },
            Opcode::SYMLINK => Request::Symlink {
                name: b"name".to_vec(),
                target: b"target".to_vec(),
                extensions: Extensions::default(),
            },
            Opcode::RENAME => {
                let (name, new_name) = (b"old".to_vec(), b"new".to_vec());
                Request::Rename { name, new_parent: NodeId(10), new_name, flags: 0 }
            }
            Opcode::RENAME2 => {
                let (name, new_name) = (b"old".to_vec(), b"new".to_vec());
                Request::Rename { name, new_parent: NodeId(10), new_name, flags: 2 }
            }
            Opcode::LINK => Request::Link { source: NodeId(12), name: b"name".to_vec() },
            Opcode::OPEN => Request::Open { flags: 0o1002, kill_suidgid: true },
            Opcode::READ => {
                Request::Read { handle: 5, offset_bytes: 4096, len_bytes: 8192, owner: Some(0xabc), flags: 2 }
            }
            Opcode::WRITE => Request::Write(Write {
                handle: 5,
                offset_bytes: 4096,
                len_bytes: 4,
                write_flags: 0b101,
                owner: None,
                flags: 0o2001,
            }),
            Opcode::RELEASE => Request::Release { handle: 5, flags: 2, flush: true, flock_unlock: Some(0xabc) },
            Opcode::RELEASEDIR => Request::Release { handle: 5, flags: 0, flush: false, flock_unlock: None },
            Opcode::FSYNC => Request::Fsync { handle: 5, data_only: true },
            Opcode::FSYNCDIR => Request::Fsync { handle: 5, data_only: false },
            Opcode::SETXATTR => Request::Setxattr { name: name(), value: value(), flags: 1, kill_sgid: None },
            Opcode::GETXATTR => Request::Getxattr { name: name(), size_bytes: 100 },
            Opcode::LISTXATTR => Request::Listxattr { size_bytes: 100 },
            Opcode::REMOVEXATTR => Request::Removexattr { name: name() },
            Opcode::READDIR => Request::Readdir(readdir),
            Opcode::READDIRPLUS => Request::Readdirplus(readdir),
            Opcode::GETLK => Request::Getlk { handle: 5, lock: lock(LockKind::Exclusive, false) },
            Opcode::SETLK => Request::Setlk { handle: 5, lock: lock(LockKind::Unlock, true), wait: false },
            Opcode::SETLKW => Request::Setlk { handle: 5, lock: lock(LockKind::Shared, false), wait: true },
            Opcode::CREATE => Request::Create {
                name: b"name".to_vec(),
                mode: 0o100_644,
                umask: 0o22,
                flags: 0o301,
                kill_suidgid: true,
                extensions: Extensions::default(),
            },
            Opcode::INTERRUPT => Request::Interrupt { of: 0x20 },
            Opcode::NOTIFY_REPLY => Request::NotifyReply { offset_bytes: 4096, data: b"ab".to_vec() },
            Opcode::BATCH_FORGET => Request::Forget(vec![(NodeId(7), 1), (NodeId(8), 2)]),
            Opcode::LSEEK => Request::Lseek { handle: 5, offset_bytes: -1, whence: 4 },
            Opcode::IOCTL => Request::Ioctl {
                handle: 5,
                flags: 16,
                command: 0x6601,
                argument: 0x1234,
                data: b"abc".to_vec(),
                out_size_bytes: 8,
            },
            Opcode::STATX => Request::Statx { handle: None, flags: 0x100, mask: 0xfff },
            // The others differ only in their numbers.
            _ => continue,
        };
        assert_eq!(found, wanted, "{}", opcode.name());
    }
}

#[test]
fn times_are_signed_and_exact() {
    for (sec, nsec) in [(-2_i64, 500_000_000), (i64::MIN, 0), (i64::MAX, 999_999_999), (0, 1)] {
        let valid = setattr::ATIME | setattr::MTIME;
        let body = bytes().u32(valid).zeroes(4 + 3 * 8).u64(sec.cast_unsigned()).u64(sec.cast_unsigned()).u64(0);
        let body = body.u32(nsec).u32(nsec).u32(0).zeroes(20);
        let Request::Setattr(found) = decoded(Opcode::SETATTR, &body) else { panic!("SETATTR") };
        let at = Some(NewTime::At(Timestamp { sec, nsec }));
        assert_eq!(found.change, SetAttr { atime: at, mtime: at, ..SetAttr::default() });
    }
}

#[test]
fn setattr_sets_what_its_bits_say() {
    let fields = |valid| bytes().u32(valid).u32(0).u64(5).u64(1234).u64(0xabc).zeroes(24 + 12);
    let with = |valid| fields(valid).u32(0o104_755).u32(0).u32(12).u32(34).u32(0);
    let of = |valid| match decoded(Opcode::SETATTR, &with(valid)) {
        Request::Setattr(found) => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(0).change, SetAttr::default());
    assert_eq!(of(setattr::MODE).change, SetAttr { permissions: Some(0o4755), ..SetAttr::default() });
    assert_eq!(of(setattr::UID).change, SetAttr { uid: Some(12), ..SetAttr::default() });
    assert_eq!(of(setattr::GID).change, SetAttr { gid: Some(34), ..SetAttr::default() });
    assert_eq!(of(setattr::SIZE).change, SetAttr { size_bytes: Some(1234), ..SetAttr::default() });
    let now = of(setattr::ATIME | setattr::ATIME_NOW | setattr::MTIME_NOW).change;
    assert_eq!(now, SetAttr { atime: Some(NewTime::Now), ..SetAttr::default() });
    assert_eq!(of(setattr::FH).handle, Some(5));
    assert_eq!(of(setattr::LOCKOWNER).lock_owner, Some(0xabc));
    assert!(of(setattr::KILL_SUIDGID).kill_suidgid && !of(setattr::FH).kill_suidgid);
}

#[test]
fn extended_attributes_come_in_two_forms() {
    let body = bytes().u32(5).u32(2).u32(1).u32(0).raw(b"user.a\0value");
    let found = decode(&message(Opcode::SETXATTR, &body, 0), Forms { setxattr_ext: true }).unwrap().unwrap();
    let wanted =
        Request::Setxattr { name: b"user.a".to_vec(), value: b"value".to_vec(), flags: 2, kill_sgid: Some(true) };
    assert_eq!(found, wanted);
}

#[test]
fn extensions_follow_the_names() {
    let groups = bytes().u32(20).u32(extension::GROUPS).u32(2).u32(55).u32(66).zeroes(4);
    let context = b"system_u:object_r:tmp_t:s0\0";
    let size = u32::try_from(context.len()).unwrap();
    let security = bytes().u32(16 + 17 + size).u32(1).u32(size).u32(0).raw(b"security.selinux\0").raw(context);
    let security = security.zeroes(4);
    assert_eq!((groups.0.len() % 8, security.0.len() % 8), (0, 0));
    let both = bytes().raw(&security.0).raw(&groups.0);
    let unknown = bytes().u32(12).u32(99).zeroes(8).raw(&groups.0);
    for (extensions, with_security) in [(&both, true), (&groups, false), (&unknown, false)] {
        let body = bytes().u32(0o755).u32(0o22).raw(b"name\0").raw(&extensions.0);
        let len = u16::try_from(extensions.0.len() / 8).unwrap();
        let Ok(Request::Mkdir { name, extensions, .. }) =
            decode(&message(Opcode::MKDIR, &body, len), Forms::default()).unwrap()
        else {
            panic!("MKDIR")
        };
        assert_eq!((name, extensions.groups), (b"name".to_vec(), vec![55, 66]));
        let wanted = with_security.then(|| (b"security.selinux".to_vec(), context.to_vec()));
        assert_eq!(extensions.security.first(), wanted.as_ref());
    }
    let short = bytes().raw(b"name\0");
    assert_eq!(decode(&message(Opcode::LOOKUP, &short, 1), Forms::default()), Some(Err(Refused::Malformed)));
}

#[test]
fn a_header_that_cannot_be_right_ends_the_session() {
    let good = message(Opcode::LOOKUP, &bytes().raw(b"name\0"), 0);
    for len in 0..good.len() {
        assert_eq!(decode(&good[..len], Forms::default()), None, "{len} bytes");
    }
    assert_eq!(decode(&[good.clone(), vec![0]].concat(), Forms::default()), None);
}

#[test]
fn a_request_that_is_cut_off_is_refused_or_means_the_same() {
    for (opcode, body) in samples() {
        let whole = decoded(opcode, &body);
        for len in 0..body.0.len() {
            match decode(&message(opcode, &Bytes(body.0[..len].to_vec()), 0), Forms::default()).unwrap() {
                Err(refused) => assert_eq!(refused, Refused::Malformed, "{} with {len} bytes", opcode.name()),
                Ok(found) => assert_eq!(found, whole, "{} with {len} bytes", opcode.name()),
            }
        }
    }
}

#[test]
fn announced_counts_are_not_believed() {
    let batch = bytes().u32(u32::MAX).u32(0).zeroes(64);
    assert_eq!(decode(&message(Opcode::BATCH_FORGET, &batch, 0), Forms::default()), Some(Err(Refused::Malformed)));
    let value = bytes().u32(u32::MAX).u32(0).raw(b"user.a\0value");
    assert_eq!(decode(&message(Opcode::SETXATTR, &value, 0), Forms::default()), Some(Err(Refused::Malformed)));
    let write = bytes().u64(5).u64(0).u32(1000).u32(0).u64(0).u64(0).raw(b"short");
    assert_eq!(decode(&message(Opcode::WRITE, &write, 0), Forms::default()), Some(Err(Refused::Malformed)));
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }
}

#[test]
fn whatever_arrives_is_a_request_or_an_error() {
    let seed = std::env::var("LUNFS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = Random(seed);
    println!("LUNFS_SEED={seed}");
    let samples = samples();
    let (mut served, mut refused) = (0_u32, 0_u32);
    for round in 0..200_000 {
        let (opcode, body) = &samples[random.below(samples.len())];
        let mut message = message(*opcode, body, u16::try_from(random.below(4)).unwrap());
        if round % 4 == 0 {
            let len = 40 + random.below(300);
            message.resize_with(len, || u8::try_from(random.below(256)).unwrap());
        }
        for _ in 0..random.below(6) {
            let place = random.below(message.len());
            message[place] = if random.below(3) == 0 { 0xff } else { u8::try_from(random.below(256)).unwrap() };
        }
        message.truncate(40 + random.below(message.len() - 39));
        if random.below(8) != 0 {
            let len = u32::try_from(message.len()).unwrap();
            message[..4].copy_from_slice(&len.to_ne_bytes());
        }
        match decode(&message, Forms { setxattr_ext: random.below(2) == 0 }) {
            Some(Ok(_)) => served += 1,
            _ => refused += 1,
        }
    }
    assert!(served > 10_000 && refused > 10_000, "{served} served, {refused} refused");
}
