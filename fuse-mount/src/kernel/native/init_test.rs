use super::*;

fn options() -> TransportOptions {
    TransportOptions { write_max_bytes: 1 << 20, background_max: 100, ..TransportOptions::default() }
}

fn offer_of(major: u32, minor: u32, flags: u64) -> Offer {
    Offer { major, minor, max_readahead: 131_072, flags }
}

fn agreed(offer: &Offer, has_locks: bool) -> (InitOut, u64) {
    match respond(offer, &options(), has_locks) {
        Response::Agreed { answer, flags } => (answer, flags),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_current_kernel_is_asked_for_what_it_offers() {
    let (answer, flags) = agreed(&offer_of(7, 45, u64::MAX), false);
    assert_eq!((answer.major, answer.minor), (7, 45));
    assert_eq!(flags, WANTED | ACLS);
    assert_eq!(u64::from(answer.flags) | u64::from(answer.flags2) << 32, flags);
    assert_eq!((answer.max_write, answer.time_gran), (1 << 20, 1));
    assert_eq!(usize::from(answer.max_pages) * rustix::param::page_size(), 1 << 20);
    assert_eq!((answer.max_background, answer.congestion_threshold, answer.max_readahead), (100, 75, 131_072));
}

#[test]
fn what_would_be_wrong_is_never_asked_for() {
    let (_, flags) = agreed(&offer_of(7, 45, u64::MAX), true);
    let never = init::WRITEBACK_CACHE
        | init::ATOMIC_O_TRUNC
        | init::NO_OPEN_SUPPORT
        | init::HANDLE_KILLPRIV
        | init::HANDLE_KILLPRIV_V2
        | init::EXPORT_SUPPORT
        | init::CREATE_SUPP_GROUP
        | init::SECURITY_CTX;
    assert_eq!(init::names(flags & never), [""; 0]);
    let without = TransportOptions { acl: false, ..options() };
    assert_eq!(wanted(&without, false) & ACLS, 0, "lists only where they are honoured");
    assert_eq!(flags & LOCKS, LOCKS, "locks only where they are kept here");
}

#[test]
fn what_is_not_offered_is_not_asked_for() {
    let (answer, flags) = agreed(&offer_of(7, 31, init::ASYNC_READ | init::WRITEBACK_CACHE), false);
    assert_eq!((answer.minor, flags, answer.flags2), (31, init::ASYNC_READ, 0));
    let (answer, _) = agreed(&offer_of(7, 99, 0), false);
    assert_eq!(answer.minor, MINOR, "a newer kernel falls back");
}

#[test]
fn other_versions_are_asked_again_or_refused() {
    let answer = match respond(&offer_of(8, 0, u64::MAX), &options(), false) {
        Response::AskAgain(answer) => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!((answer.major, answer.flags), (7, 0));
    for (major, minor) in [(7, 30), (7, 0), (6, 99), (0, 0)] {
        assert_eq!(respond(&offer_of(major, minor, u64::MAX), &options(), false), Response::TooOld);
    }
}

#[test]
fn init_has_been_growing_and_is_read_in_each_length() {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let ext = u32::try_from(init::EXT).unwrap();
    assert_eq!(offer(&words(&[7, 31, 5, 1])), Some(Offer { major: 7, minor: 31, max_readahead: 5, flags: 1 }));
    let mut long = vec![7, 45, 5, ext, 0b1_0000];
    long.resize(16, 0);
    let flags = init::EXT | init::DIRECT_IO_ALLOW_MMAP;
    assert_eq!(offer(&words(&long)), Some(Offer { major: 7, minor: 45, max_readahead: 5, flags }));
    assert_eq!(offer(&words(&[7, 45, 5])), None);
}
