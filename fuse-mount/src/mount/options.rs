//! The options after `-o`.

use std::time::Duration;

use fs_core::fs::{AtimePolicy, MountOptions};
use fs_core::quota;
use rustix::mount::MountFlags;

use crate::error::MountError;
use crate::kernel::Transport;

/// What the options say.
#[derive(Debug, Clone)]
pub struct Options {
    /// For the filesystem.
    pub fs: MountOptions,
    /// For mount(2).
    pub flags: MountFlags,
    /// Handed on to the kernel: the contexts of security modules.
    pub security: Vec<String>,
    /// The daemon stays in front.
    pub foreground: bool,
    /// No other node will mount the volume meanwhile.
    pub single: bool,
    /// Reads may go through io_uring.
    pub io_uring: bool,
    /// Who speaks with the kernel.
    pub transport: Transport,
    /// What is mounted already is changed.
    pub remount: bool,
    /// Accepted, without a meaning here.
    pub ignored: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fs: MountOptions::default(),
            flags: MountFlags::empty(),
            security: Vec::new(),
            foreground: false,
            single: false,
            io_uring: true,
            transport: Transport::default(),
            remount: false,
            ignored: Vec::new(),
        }
    }
}

/// Options that mount(8), systemd and fstab handle, and defaults.
const FOR_OTHERS: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "nouser",
    "nofail",
    "_netdev",
    "loud",
    "silent",
    "nomand",
    "mand",
    "loop",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "allow_other",
    "default_permissions",
    "errors=withdraw",
    "data=ordered",
    "sloppy",
];

/// Options of mount.gfs2 that mean nothing here, so that an old line in fstab goes on working.
const MEANINGLESS: &[&str] = &[
    "barrier",
    "nobarrier",
    "debug",
    "nodebug",
    "upgrade",
    "localflocks",
    "localcaching",
    "oopses_ok",
    "ignore_local_fs",
    "loccookie",
    "noloccookie",
    "rgrplvb",
    "norgrplvb",
    "nosuiddir",
];

/// The same for options with a value.
const MEANINGLESS_WITH_VALUE: &[&str] = &[
    "lockproto",
    "locktable",
    "hostdata",
    "num_glockd",
    "statfs_quantum",
    "statfs_percent",
    "comment",
    "user_id",
    "group_id",
    "blksize",
    "max_read",
    "helper",
    "uhelper",
];

/// Options that are understood and cannot be honoured yet.
const NOT_YET: &[(&str, &str)] = &[
    ("data=writeback", "data is always written before the metadata that refers to it"),
    ("norecovery", "journals are always replayed"),
    ("spectator", "every mount takes a journal"),
    ("suiddir", "owners are not inherited"),
    ("meta", "the metadata filesystem is not shown"),
    ("errors=panic", "an inconsistency always leaves the volume (errors=withdraw)"),
    ("dirsync", "use fsync on the directory"),
    ("lease", "it needs several nodes"),
    ("fence", "it needs several nodes"),
    ("watchdog", "it needs several nodes"),
    ("addr", "it needs several nodes"),
    ("port", "it needs several nodes"),
    ("iface", "it needs several nodes"),
    ("node", "it needs several nodes"),
    ("metrics", "there are no metrics yet"),
];

/// Contexts of security modules, which the kernel reads itself.
const SECURITY: &[&str] = &["context", "fscontext", "defcontext", "rootcontext"];

/// Largest block cache that can be asked for, in bytes: enough for anybody, and far from an overflow.
const CACHE_MAX_BYTES: u64 = 1 << 50;
/// Smallest one, in bytes: the largest operation needs some of it.
const CACHE_MIN_BYTES: u64 = 16 << 20;

impl Options {
    /// Reads the values of all `-o`, in order; of contradicting options the last one counts.
    ///
    /// # Errors
    /// An option that is unknown (unless `sloppy`), wrong, or not in this version.
    pub fn parse<S: AsRef<str>>(lists: &[S], sloppy: bool) -> Result<Self, MountError> {
        let mut options = Self::default();
        for list in lists {
            for option in split(list.as_ref()) {
                match options.apply(option) {
                    Err(MountError::UnknownOption(name)) if sloppy => options.ignored.push(name),
                    result => result?,
                }
            }
        }
        if options.fs.atime == AtimePolicy::Noatime {
            options.flags |= MountFlags::NOATIME;
        }
        options.flags.set(MountFlags::RDONLY, options.fs.read_only);
        Ok(options)
    }

    fn apply(&mut self, option: &str) -> Result<(), MountError> {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("ro", None) => self.fs.read_only = true,
            ("rw", None) => self.fs.read_only = false,
            ("relatime" | "atime" | "norelatime" | "nostrictatime", None) => self.set_atime(AtimePolicy::Relatime),
            ("noatime", None) => self.set_atime(AtimePolicy::Noatime),
            ("strictatime", None) => self.set_atime(AtimePolicy::Strictatime),
            ("nodiratime", None) => self.flags |= MountFlags::NODIRATIME,
            ("user" | "users", None) => self.flags |= MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            ("owner" | "group", None) => self.flags |= MountFlags::NOSUID | MountFlags::NODEV,
            ("foreground", None) => self.foreground = true,
            ("discard", None) => self.fs.discard = true,
            ("nodiscard", None) => self.fs.discard = false,
            ("acl", None) => self.fs.acl = true,
            ("noacl", None) => self.fs.acl = false,
            ("quota", None) => self.fs.quota = quota::Mode::On,
            ("noquota", None) => self.fs.quota = quota::Mode::Off,
            ("quota", Some(value)) => self.fs.quota = quota_mode(option, value)?,
            ("quota_quantum", Some(value)) => self.fs.quota_quantum = seconds(option, value)?,
            ("single", None) => self.single = true,
            ("remount", None) => self.remount = true,
            ("io_uring", None) => self.io_uring = true,
            ("no_io_uring", None) => self.io_uring = false,
            ("transport", Some(value)) => self.transport = transport(option, value)?,
            ("commit", Some(value)) => self.fs.commit_interval = seconds(option, value)?,
            ("cache", Some(value)) => self.fs.cache_bytes = cache_bytes(option, value)?,
            (_, Some(_)) if SECURITY.contains(&name) => self.security.push(option.to_owned()),
            _ => return self.apply_flag_or_refuse(option, name),
        }
        Ok(())
    }

    fn apply_flag_or_refuse(&mut self, option: &str, name: &str) -> Result<(), MountError> {
        if let Some((flag, set)) = kernel_flag(option) {
            self.flags.set(flag, set);
            return Ok(());
        }
        if FOR_OTHERS.contains(&option)
            || MEANINGLESS.contains(&option)
            || MEANINGLESS_WITH_VALUE.contains(&name)
            || name.starts_with("x-")
            || name.starts_with("X-")
        {
            self.ignored.push(option.to_owned());
            return Ok(());
        }
        match NOT_YET.iter().find(|(known, _)| *known == option || *known == name) {
            Some((_, reason)) => Err(MountError::NotYet { option: option.to_owned(), reason }),
            None => Err(MountError::UnknownOption(option.to_owned())),
        }
    }

    fn set_atime(&mut self, policy: AtimePolicy) {
        self.fs.atime = policy;
        self.flags.remove(MountFlags::NOATIME);
    }
}

/// Options that are flags of mount(2), and whether they set or clear it.
fn kernel_flag(option: &str) -> Option<(MountFlags, bool)> {
    Some(match option {
        "nosuid" => (MountFlags::NOSUID, true),
        "suid" => (MountFlags::NOSUID, false),
        "nodev" => (MountFlags::NODEV, true),
        "dev" => (MountFlags::NODEV, false),
        "noexec" => (MountFlags::NOEXEC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        "async" => (MountFlags::SYNCHRONOUS, false),
        "diratime" => (MountFlags::NODIRATIME, false),
        _ => return None,
    })
}

fn transport(option: &str, value: &str) -> Result<Transport, MountError> {
    match value {
        "native" => Ok(Transport::Native),
        "fuser" => Ok(Transport::Fuser),
        _ => Err(MountError::BadValue { option: option.to_owned(), expected: "needs native or fuser" }),
    }
}

fn quota_mode(option: &str, value: &str) -> Result<quota::Mode, MountError> {
    match value {
        "off" => Ok(quota::Mode::Off),
        "account" => Ok(quota::Mode::Account),
        "on" => Ok(quota::Mode::On),
        "quiet" => Ok(quota::Mode::Quiet),
        _ => Err(MountError::BadValue { option: option.to_owned(), expected: "needs off, account, on or quiet" }),
    }
}

fn seconds(option: &str, value: &str) -> Result<Duration, MountError> {
    let seconds = value.parse::<u64>().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| MountError::BadValue { option: option.to_owned(), expected: "needs 1 to 3600 seconds" })
}

/// A number of bytes with a binary suffix, as in `512M`.
fn cache_bytes(option: &str, value: &str) -> Result<u64, MountError> {
    let expected = "needs a size from 16M on, as in cache=512M";
    let wrong = || MountError::BadValue { option: option.to_owned(), expected };
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match value.get(digits.len()..).unwrap_or_default().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(wrong)?;
    if (CACHE_MIN_BYTES..=CACHE_MAX_BYTES).contains(&bytes) { Ok(bytes) } else { Err(wrong()) }
}

/// Splits at commas outside of double quotes; empty parts are left out.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
    .map(str::trim)
    .filter(|option| !option.is_empty())
}

#[cfg(test)]
#[path = "options_test.rs"]
mod tests;
