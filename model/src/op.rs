//! What users can ask for, and what they are answered.

use std::fmt;

use crate::acl::Acl;
use crate::errno::Errno;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'static [u32],
    /// Permission bits that new files shall not have.
    pub umask: u32,
}

impl User {
    /// A member of the group.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// May do what permissions forbid.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Everybody: the superuser, two people who share a group, and one who is in none.
pub const USERS: [User; 4] = [
    User { uid: 0, gid: 0, groups: &[], umask: 0o022 },
    User { uid: 1001, gid: 1001, groups: &[2000, 2001], umask: 0o022 },
    User { uid: 1002, gid: 1002, groups: &[2000], umask: 0o002 },
    User { uid: 1003, gid: 1003, groups: &[], umask: 0o077 },
];

/// Groups that files can have.
pub const GROUPS: [u32; 6] = [0, 1001, 1002, 1003, 2000, 2001];

/// A name: components below the directory that a sequence is run in. Empty is that directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Path(pub Vec<String>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        let short = |name: &String| if name.len() > 24 { format!("{}…", &name[..12]) } else { name.clone() };
        f.write_str(&self.0.iter().map(short).collect::<Vec<_>>().join("/"))
    }
}

/// What an operation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// What has this name.
    Named(Path),
    /// The file that is open in this slot.
    Open(usize),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(path) => write!(f, "{path}"),
            Self::Open(slot) => write!(f, "#{slot}"),
        }
    }
}

/// Files that can be open at the same time.
pub const SLOTS: usize = 4;

/// Types of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Socket.
    Socket,
    /// Character device.
    Char,
    /// Block device.
    Block,
}

impl Kind {
    /// The type bits of a mode.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::Char => 0o020_000,
            Self::Directory => 0o040_000,
            Self::Block => 0o060_000,
            Self::File => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }

    /// The type that a mode's type bits stand for.
    #[must_use]
    pub fn of_mode(mode: u32) -> Option<Self> {
        [Self::Fifo, Self::Char, Self::Directory, Self::Block, Self::File, Self::Symlink, Self::Socket]
            .into_iter()
            .find(|kind| kind.bits() == mode & 0o170_000)
    }
}

/// What rename does where the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// It takes its place.
    Replace,
    /// It fails.
    NoReplace,
    /// The two change places.
    Exchange,
}

/// What setxattr does where the attribute exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Sets it.
    Any,
    /// Fails if it exists.
    Create,
    /// Fails if it does not.
    Replace,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are the arguments of the system call
pub enum Op {
    /// mknod: anything but directories and links.
    Create { path: Path, kind: Kind, mode: u32, rdev: (u32, u32) },
    /// mkdir.
    Mkdir { path: Path, mode: u32 },
    /// symlink.
    Symlink { path: Path, text: String },
    /// link.
    Link { from: Path, to: Path },
    /// unlink.
    Unlink { path: Path },
    /// rmdir.
    Rmdir { path: Path },
    /// renameat2.
    Rename { from: Path, to: Path, mode: Rename },
    /// pwrite of [`crate::rng::bytes`] of `tag`; `at: None` appends, `sync` is O_SYNC.
    Write { target: Target, at: Option<u64>, len: usize, tag: u64, sync: bool },
    /// pread.
    Read { target: Target, at: u64, len: usize },
    /// truncate.
    Truncate { target: Target, size: u64 },
    /// chmod.
    Chmod { path: Path, mode: u32 },
    /// lchown.
    Chown { path: Path, uid: Option<u32>, gid: Option<u32> },
    /// utimensat with times of its own; in seconds.
    Utimes { path: Path, mtime: i64 },
    /// setxattr of `user.NAME`; the value is [`crate::rng::bytes`] of `tag`.
    SetXattr { path: Path, name: String, len: usize, tag: u64, mode: XattrMode },
    /// removexattr.
    RemoveXattr { path: Path, name: String },
    /// Sets an access control list, or removes it.
    SetAcl { path: Path, default: bool, acl: Option<Acl> },
    /// lstat.
    Stat { path: Path },
    /// readlink.
    Readlink { path: Path },
    /// readdir: all names.
    List { path: Path },
    /// Opens a regular file to read and write; what was open in the slot is closed.
    Open { path: Path, slot: usize },
    /// close.
    Close { slot: usize },
    /// fsync, of directories too.
    Fsync { target: Target },
    /// syncfs.
    Sync,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, kind, mode, .. } => write!(f, "create {path} {kind:?} {mode:o}"),
            Self::Mkdir { path, mode } => write!(f, "mkdir {path} {mode:o}"),
            Self::Symlink { path, text } => write!(f, "symlink {path} → {} bytes", text.len()),
            Self::Link { from, to } => write!(f, "link {from} {to}"),
            Self::Unlink { path } => write!(f, "unlink {path}"),
            Self::Rmdir { path } => write!(f, "rmdir {path}"),
            Self::Rename { from, to, mode } => write!(f, "rename {from} {to} {mode:?}"),
            Self::Write { target, at, len, tag, sync } => {
                let at = at.map_or_else(|| "its end".to_owned(), |at| at.to_string());
                write!(f, "write {target} {len} bytes at {at}, tag {tag}{}", if *sync { ", O_SYNC" } else { "" })
            }
            Self::Read { target, at, len } => write!(f, "read {target} {len} bytes at {at}"),
            Self::Truncate { target, size } => write!(f, "truncate {target} {size}"),
            Self::Chmod { path, mode } => write!(f, "chmod {path} {mode:o}"),
            Self::Chown { path, uid, gid } => write!(f, "chown {path} {uid:?}:{gid:?}"),
            Self::Utimes { path, mtime } => write!(f, "utimes {path} {mtime}"),
            Self::SetXattr { path, name, len, mode, .. } => {
                write!(f, "setxattr {path} {}… {len} bytes {mode:?}", &name[..name.len().min(8)])
            }
            Self::RemoveXattr { path, name } => write!(f, "removexattr {path} {}…", &name[..name.len().min(8)]),
            Self::SetAcl { path, default, acl } => write!(f, "setacl {path} default: {default} {acl:?}"),
            Self::Stat { path } => write!(f, "stat {path}"),
            Self::Readlink { path } => write!(f, "readlink {path}"),
            Self::List { path } => write!(f, "list {path}"),
            Self::Open { path, slot } => write!(f, "open {path} as #{slot}"),
            Self::Close { slot } => write!(f, "close #{slot}"),
            Self::Fsync { target } => write!(f, "fsync {target}"),
            Self::Sync => f.write_str("sync"),
        }
    }
}

/// An operation and who asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Index into [`USERS`].
    pub user: usize,
    /// What.
    pub op: Op,
}

impl Step {
    /// Who asks.
    #[must_use]
    pub fn user(&self) -> &'static User {
        &USERS[self.user]
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}: {}", self.user().uid, self.op)
    }
}

/// A list of steps, one in a line.
#[must_use]
pub fn listing(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("    {step}\n")).collect()
}

/// What lstat says, as far as the model knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Type.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Names; of a directory, 2 and one for each below it.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file or link; 0 of anything else.
    pub size: u64,
    /// Major and minor number of device nodes.
    pub rdev: (u32, u32),
    /// Time of the last change of the content, in seconds, where utimes has set it and nothing has changed since.
    pub mtime: Option<i64>,
}

/// An answer that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// So many bytes are written.
    Wrote(usize),
    /// Content, or the text of a link.
    Bytes(Vec<u8>),
    /// Names of a directory, sorted, without `.` and `..`.
    Names(Vec<String>),
    /// Attributes.
    Stat(Stat),
}

/// What an operation is answered.
pub type Outcome = Result<Answer, Errno>;
