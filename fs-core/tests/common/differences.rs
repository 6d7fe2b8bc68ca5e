//! Where the checker and `fsck.gfs2 -n` (gfs2-utils 3.5) are of different opinions, and why.

/// What the checker reports and `fsck.gfs2 -n` does not mind. By name of the rule.
const ONLY_OURS: &[(&str, &str)] = &[
    // What it does not know.
    ("bad-checksum", "it does not know lunfs's checksums"),
    ("marker-invalid", "it does not know lunfs's marker; a note"),
    ("cluster-area-overlap", "it does not know lunfs's marker"),
    // What it does not look at, and readers do.
    ("multihost-format", "no kernel mounts such a volume"),
    ("block-size", "it does not look at the shift; no kernel mounts such a volume"),
    ("repair-interrupted", "it goes on with the repair; nobody mounts such a volume"),
    ("dinode-height", "of a file without content it does not look at the height"),
    ("dinode-size", "no kernel reads such a file"),
    ("stuffed-size", "no kernel reads such a file"),
    ("symlink-shape", "no kernel reads such a link"),
    ("directory-size", "the kernel refuses such a directory"),
    ("linear-directory-size", "all writers set it"),
    ("directory-not-journaled", "the kernel relies on it"),
    ("dirent-target", "of files with one name it compares neither number nor type"),
    ("dirent-kind", "of files with one name it does not look at the type"),
    ("name-twice", "it does not compare names"),
    ("goal", "it does not look at the goals of system files"),
    ("xattr-chain", "it does not look at the lengths of all records"),
    ("xattr-last", "it does not look at which record is the last"),
    ("xattr-value", "it does not look at the lengths of values"),
    ("statfs", "it compares the statfs file alone, without what mounts will add to it"),
    ("quota-change-twice", "it looks at the headers of quota change blocks only; the kernel takes it for damage"),
    ("system-file-shape", "it repairs the sizes of some in memory, also with -n"),
    ("system-flag", "it sets the master directory's in memory, also with -n"),
    ("journal-shape", "it does not look for holes in journals"),
    ("journal-dirty", "it says so, and examines what is in place, which may be sound"),
    ("journal-chain", "it does not read a log that it does not replay"),
    // Notes.
    ("rgrp-copy", "readers do not look at it"),
    ("rgrp-skip", "readers do not look at it"),
    ("rgrp-unlisted", "an interrupted growth leaves one behind"),
    ("generation-ahead", "readers do not look at it"),
    ("truncation-unfinished", "the next user of the inode finishes it"),
    ("leaf-owner", "readers do not look at it"),
    ("quota-size", "readers do not look at it"),
    ("statfs-pending", "the next mount adds it"),
    ("journal-header", "torn writes leave such blocks behind"),
    ("journal-sequence", "it minds more than ten"),
];

/// Rules with which come others that follow from them.
const EXCUSES: &[(&str, &str)] = &[
    ("xattr-list-hole", "it stops at the first zero in a list of extended attribute blocks; the kernel does not"),
    ("dirent-chain", "a record that leads out of its block ends its walk over the entries"),
    ("parent-wrong", "it sets `..` right in memory, also with -n, before it counts names"),
];

/// What `fsck.gfs2 -n` reports, and the checker does not. By a part of what it prints. None was found.
const ONLY_THEIRS: &[(&str, &str)] = &[];

/// It is known that `fsck.gfs2` does not mind these rules being broken together.
pub(crate) fn is_only_ours(rules: &[&str]) -> bool {
    let is_in = |list: &[(&str, &str)], rule: &str| list.iter().any(|(name, _)| *name == rule);
    rules.iter().any(|rule| is_in(EXCUSES, rule)) || rules.iter().all(|rule| is_in(ONLY_OURS, rule))
}

/// It is known that the checker does not mind what `fsck.gfs2` says here.
pub(crate) fn is_only_theirs(output: &str) -> bool {
    ONLY_THEIRS.iter().any(|(part, _)| output.contains(part))
}
