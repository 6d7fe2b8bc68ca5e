use super::*;

fn parse(list: &str) -> Result<Options, MountError> {
    Options::parse(&[list], false)
}

#[test]
fn a_usual_line_of_fstab_is_understood() {
    let options =
        parse("defaults,_netdev,nofail,x-systemd.requires=iscsid.service,comment=a b,noatime,single").unwrap();
    assert!(options.single);
    assert_eq!(options.fs.atime, AtimePolicy::Noatime);
    assert!(options.flags.contains(MountFlags::NOATIME));
    assert!(!options.flags.contains(MountFlags::RDONLY));
}

#[test]
fn an_old_line_of_gfs2_goes_on_working() {
    let old = "lockproto=lock_dlm,locktable=a:b,hostdata=jid=0:id=1,localflocks,debug,acl,num_glockd=3,statfs_quantum=30,quota=off,single";
    assert!(parse(old).unwrap().single);
}

#[test]
fn the_last_of_contradicting_options_counts() {
    assert!(!parse("ro,rw").unwrap().fs.read_only);
    assert!(parse("rw,ro").unwrap().fs.read_only);
    assert!(parse("rw,ro").unwrap().flags.contains(MountFlags::RDONLY));
    assert_eq!(parse("noatime,relatime").unwrap().flags, MountFlags::empty());
    assert!(parse("single").unwrap().fs.acl && parse("noacl,acl").unwrap().fs.acl);
    assert!(!parse("acl,noacl").unwrap().fs.acl);
    assert_eq!(parse("users,exec").unwrap().flags, MountFlags::NOSUID | MountFlags::NODEV);
    assert_eq!(Options::parse(&["nosuid", "suid"], false).unwrap().flags, MountFlags::empty());
}

#[test]
fn quotas_are_off_unless_asked_for() {
    let mode = |list| parse(list).unwrap().fs.quota;
    assert_eq!(mode("single"), quota::Mode::Off);
    assert_eq!([mode("quota"), mode("quota=on")], [quota::Mode::On; 2]);
    assert_eq!([mode("quota,noquota"), mode("quota=on,quota=off")], [quota::Mode::Off; 2]);
    assert_eq!([mode("quota=account"), mode("quota=quiet")], [quota::Mode::Account, quota::Mode::Quiet]);
    assert_eq!(parse("quota_quantum=5").unwrap().fs.quota_quantum, Duration::from_secs(5));
    for wrong in ["quota=", "quota=yes", "quota_quantum=0", "quota_quantum=x"] {
        assert!(matches!(parse(wrong), Err(MountError::BadValue { .. })), "{wrong}");
    }
}

#[test]
fn sizes_and_times_are_read_with_their_limits() {
    assert_eq!(parse("cache=64M").unwrap().fs.cache_bytes, 64 << 20);
    assert_eq!(parse("cache=2gib").unwrap().fs.cache_bytes, 2 << 30);
    assert_eq!(parse("commit=30").unwrap().fs.commit_interval, Duration::from_secs(30));
    for wrong in
        ["cache=", "cache=1", "cache=5X", "cache=99999999T", "cache=-1G", "commit=0", "commit=x", "commit=9999"]
    {
        assert!(matches!(parse(wrong), Err(MountError::BadValue { .. })), "{wrong}");
    }
}

#[test]
fn the_transport_is_native_unless_another_one_is_asked_for() {
    assert_eq!(parse("single").unwrap().transport, Transport::Native);
    assert_eq!(parse("transport=fuser").unwrap().transport, Transport::Fuser);
    assert_eq!(parse("transport=fuser,transport=native").unwrap().transport, Transport::Native);
    for wrong in ["transport=", "transport=libfuse", "transport=Native"] {
        assert!(matches!(parse(wrong), Err(MountError::BadValue { .. })), "{wrong}");
    }
    assert!(matches!(parse("transport"), Err(MountError::UnknownOption(_))));
}

#[test]
fn freed_blocks_are_discarded_where_that_is_asked_for() {
    assert!(!parse("single").unwrap().fs.discard);
    assert!(parse("discard").unwrap().fs.discard);
    assert!(!parse("discard,nodiscard").unwrap().fs.discard);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for option in [
        "data=writeback",
        "norecovery",
        "lease=3",
        "fence=auto",
        "spectator",
        "suiddir",
        "errors=panic",
        "node=a",
        "metrics=127.0.0.1:1",
    ] {
        match parse(option) {
            Err(MountError::NotYet { option: named, .. }) => assert_eq!(named, option),
            other => panic!("{option}: {other:?}"),
        }
    }
}

#[test]
fn unknown_options_are_refused_unless_sloppy() {
    for option in ["nonsense", "single=1", "commit", "ro=1", "uid=0"] {
        match parse(option) {
            Err(MountError::UnknownOption(named)) => assert_eq!(named, option),
            other => panic!("{option}: {other:?}"),
        }
    }
    assert_eq!(Options::parse(&["nonsense,single"], true).unwrap().ignored, ["nonsense"]);
}

#[test]
fn a_quoted_context_keeps_its_commas() {
    let options = parse(r#"context="system_u:object_r:tmp_t:s0:c127,c456",ro"#).unwrap();
    assert_eq!(options.security, [r#"context="system_u:object_r:tmp_t:s0:c127,c456""#]);
    assert!(options.fs.read_only);
}
