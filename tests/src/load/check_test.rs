use super::super::history::Key;
use super::super::names::Event;
use super::*;

const STRICT: Rules = Rules { unsynced_may_be_zero: false };

fn create(history: &mut History, path: &str, file: FileId) {
    history.begin(Event::Create { path: path.to_owned(), file, mode: 0o644 });
    history.done();
}

fn write(history: &mut History, file: FileId, id: u64, at: u64, len: u64) {
    history.begin_change(file, Change::Write { id, at, len });
    history.done();
}

fn file(ino: u64, content: Vec<u8>) -> FoundEntry {
    FoundEntry::File { ino, nlink: 1, mode: 0o644, content }
}

fn found(entries: &[(&str, FoundEntry)]) -> Found {
    entries.iter().map(|(path, entry)| ((*path).to_owned(), entry.clone())).collect()
}

/// One file of 1000 bytes, synced; then appended to, not synced.
fn synced_then_appended() -> History {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    write(&mut history, 5, 1, 0, 1000);
    history.inode_acknowledged(Key::File(5));
    write(&mut history, 5, 2, 1000, 500);
    history
}

#[test]
fn synced_content_and_any_later_state_are_accepted() {
    let history = synced_then_appended();
    let mut content = data::bytes(1, 0, 1000);
    assert!(check(&history, &found(&[("t0/a", file(9, content.clone()))]), STRICT).is_ok());
    content.extend(data::bytes(2, 1000, 200));
    assert!(check(&history, &found(&[("t0/a", file(9, content.clone()))]), STRICT).is_ok());
    content.extend(data::bytes(2, 1200, 300));
    assert!(check(&history, &found(&[("t0/a", file(9, content))]), STRICT).is_ok());
}

#[test]
fn a_lost_a_short_and_a_changed_file_are_refused() {
    let history = synced_then_appended();
    let whole = data::bytes(1, 0, 1000);
    assert!(check(&history, &found(&[]), STRICT).is_err());
    assert!(check(&history, &found(&[("t0/a", file(9, whole[..999].to_vec()))]), STRICT).is_err());
    for at in [0, 500, 999] {
        let mut content = whole.clone();
        content[at] ^= 0x10;
        assert!(check(&history, &found(&[("t0/a", file(9, content))]), STRICT).is_err(), "byte {at}");
    }
    let mut zeroes = whole.clone();
    zeroes.extend([0; 100]);
    assert!(check(&history, &found(&[("t0/a", file(9, zeroes.clone()))]), STRICT).is_err());
    let lenient = Rules { unsynced_may_be_zero: true };
    assert!(check(&history, &found(&[("t0/a", file(9, zeroes))]), lenient).is_ok());
    let mut too_long = whole;
    too_long.extend(data::bytes(2, 1000, 501));
    assert!(check(&history, &found(&[("t0/a", file(9, too_long))]), STRICT).is_err());
}

#[test]
fn a_file_that_was_never_synced_may_be_missing_and_may_not_hold_foreign_bytes() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    write(&mut history, 5, 1, 0, 1000);
    assert!(check(&history, &found(&[]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/a", file(9, vec![]))]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/a", file(9, data::bytes(1, 0, 300)))]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/a", file(9, data::bytes(3, 0, 300)))]), STRICT).is_err());
}

#[test]
fn an_fsync_promises_the_operations_before_it() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    create(&mut history, "t0/b", 6);
    history.inode_acknowledged(Key::File(6));
    let both = found(&[("t0/a", file(1, vec![])), ("t0/b", file(2, vec![]))]);
    assert!(check(&history, &both, STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/b", file(2, vec![]))]), STRICT).is_err());
    assert!(check(&history, &found(&[("t0/a", file(2, vec![]))]), STRICT).is_err());
}

#[test]
fn an_fsync_does_not_promise_what_came_after_the_last_touch_of_its_inode() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    create(&mut history, "t0/b", 6);
    history.inode_acknowledged(Key::File(5));
    assert!(check(&history, &found(&[("t0/a", file(1, vec![]))]), STRICT).is_ok());
    assert!(check(&history, &found(&[]), STRICT).is_err());
}

#[test]
fn a_rename_is_atomic_and_in_order() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    write(&mut history, 5, 1, 0, 10);
    create(&mut history, "t0/b", 6);
    write(&mut history, 6, 2, 0, 10);
    history.inode_acknowledged(Key::File(5));
    history.inode_acknowledged(Key::File(6));
    history.begin(Event::Rename { from: "t0/a".into(), to: "t0/b".into() });
    history.done();
    create(&mut history, "t0/c", 7);

    let (one, two) = (file(1, data::bytes(1, 0, 10)), file(2, data::bytes(2, 0, 10)));
    let before = found(&[("t0/a", one.clone()), ("t0/b", two.clone())]);
    assert!(check(&history, &before, STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/b", one.clone())]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/b", one.clone()), ("t0/c", file(3, vec![]))]), STRICT).is_ok());
    // Lost altogether, still the old one, in both places, and a later operation without the rename before it.
    assert!(check(&history, &found(&[("t0/b", two.clone())]), STRICT).is_err());
    assert!(check(&history, &found(&[("t0/a", one.clone())]), STRICT).is_err());
    let later = found(&[("t0/a", one), ("t0/b", two), ("t0/c", file(3, vec![]))]);
    assert!(check(&history, &later, STRICT).is_err());
}

#[test]
fn an_operation_under_way_may_or_may_not_have_happened() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    history.inode_acknowledged(Key::File(5));
    history.begin(Event::Unlink { path: "t0/a".into() });
    assert!(check(&history, &found(&[("t0/a", file(1, vec![]))]), STRICT).is_ok());
    assert!(check(&history, &found(&[]), STRICT).is_ok());
}

#[test]
fn a_name_that_was_removed_durably_must_not_come_back() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    history.begin(Event::Unlink { path: "t0/a".into() });
    history.done();
    history.inode_acknowledged(history.dir_key("t0"));
    assert!(check(&history, &found(&[]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/a", file(1, vec![]))]), STRICT).is_err());
}

#[test]
fn links_share_an_inode_and_count() {
    let mut history = History::new(0);
    create(&mut history, "t0/a", 5);
    history.begin(Event::Link { from: "t0/a".into(), to: "t0/b".into() });
    history.done();
    history.inode_acknowledged(Key::File(5));
    let linked = |ino, nlink| FoundEntry::File { ino, nlink, mode: 0o644, content: vec![] };
    assert!(check(&history, &found(&[("t0/a", linked(1, 2)), ("t0/b", linked(1, 2))]), STRICT).is_ok());
    assert!(check(&history, &found(&[("t0/a", linked(1, 2)), ("t0/b", linked(2, 2))]), STRICT).is_err());
    assert!(check(&history, &found(&[("t0/a", linked(1, 1)), ("t0/b", linked(1, 1))]), STRICT).is_err());
}

#[test]
fn a_hole_reads_as_zeroes_and_a_cut_stays_cut() {
    let mut history = synced_then_appended();
    history.inode_acknowledged(Key::File(5));
    history.begin_change(5, Change::Truncate { to: 100 });
    history.done();
    history.begin_change(5, Change::Truncate { to: 300 });
    history.done();
    let mut content = data::bytes(1, 0, 100);
    content.resize(300, 0);
    assert!(check(&history, &found(&[("t0/a", file(9, content.clone()))]), STRICT).is_ok());
    content[50] = 0;
    assert!(check(&history, &found(&[("t0/a", file(9, content.clone()))]), STRICT).is_err());
    assert!(check(&history, &found(&[("t0/a", file(9, data::bytes(1, 0, 200)))]), STRICT).is_err());
}

#[test]
fn a_directory_moves_with_all_that_is_in_it() {
    let mut history = History::new(0);
    history.begin(Event::Mkdir { path: "t0/d".into(), dir: 7 });
    history.done();
    create(&mut history, "t0/d/a", 5);
    history.inode_acknowledged(Key::File(5));
    history.begin(Event::Rename { from: "t0/d".into(), to: "t0/e".into() });
    history.done();
    history.inode_acknowledged(history.dir_key("t0"));
    let moved = found(&[("t0/e", FoundEntry::Dir), ("t0/e/a", file(1, vec![]))]);
    assert!(check(&history, &moved, STRICT).is_ok());
    let stayed = found(&[("t0/d", FoundEntry::Dir), ("t0/d/a", file(1, vec![]))]);
    assert!(check(&history, &stayed, STRICT).is_err());
    assert!(check(&history, &found(&[("t0/e", FoundEntry::Dir)]), STRICT).is_err());
}

#[test]
fn a_link_is_promised_by_its_new_directory_and_not_by_the_old_one() {
    let mut history = History::new(0);
    create(&mut history, "shared/t0-a", 5);
    history.begin(Event::Mkdir { path: "t0/d".into(), dir: 7 });
    history.done();
    history.inode_acknowledged(history.dir_key("t0"));
    history.begin(Event::Link { from: "shared/t0-a".into(), to: "t0/d/b".into() });
    history.done();
    history.inode_acknowledged(history.dir_key("shared"));
    let without = found(&[("shared/t0-a", file(1, vec![])), ("t0/d", FoundEntry::Dir)]);
    assert!(check(&history, &without, STRICT).is_ok());
    history.inode_acknowledged(history.dir_key("t0/d"));
    assert!(check(&history, &without, STRICT).is_err());
}
