//! The ioctls that are served: from their numbers and bytes to requests that mean something, and back (ioctl_iflags(2),
//! linux/fs.h). The same for both transports.

use fs_core::attr::{Capabilities, InodeFlags};

use super::{Errno, Process};
use crate::quota;

const GETFLAGS: u32 = 0x8008_6601;
const SETFLAGS: u32 = 0x4008_6602;
/// The same for programs of 32 bits.
const GETFLAGS_32: u32 = 0x8004_6601;
const SETFLAGS_32: u32 = 0x4004_6602;
const FSGETXATTR: u32 = 0x801c_581f;
const FSSETXATTR: u32 = 0x401c_5820;
const GETFSLABEL: u32 = 0x8100_9431;
const SETFSLABEL: u32 = 0x4100_9432;
const FITRIM: u32 = 0xc018_5879;

/// Size of `struct fsxattr`, in bytes.
const FSXATTR_BYTES: usize = 28;
/// Size of a label with its zero, in bytes.
const LABEL_BYTES: usize = 256;

/// Flags as GETFLAGS has them, and as FSGETXATTR does (0: not at all).
const FLAGS: [(InodeFlags, u32, u32); 7] = [
    (InodeFlags::SYNC, 0x8, 0x20),
    (InodeFlags::IMMUTABLE, 0x10, 0x8),
    (InodeFlags::APPEND_ONLY, 0x20, 0x10),
    (InodeFlags::NO_ATIME, 0x80, 0x40),
    (InodeFlags::HASHED, 0x1000, 0),
    (InodeFlags::JOURNALED, 0x4000, 0),
    (InodeFlags::TOP_DIR, 0x2_0000, 0),
];

/// An ioctl.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ioctl {
    /// FS_IOC_GETFLAGS.
    Flags,
    /// FS_IOC_FSGETXATTR.
    ExtendedFlags,
    /// FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR: those of `within` become what `wanted` says.
    SetFlags {
        /// Flags to be set.
        wanted: InodeFlags,
        /// Flags that the ioctl speaks of.
        within: InodeFlags,
    },
    /// FS_IOC_GETFSLABEL.
    Label,
    /// FS_IOC_SETFSLABEL.
    SetLabel(Vec<u8>),
    /// FITRIM.
    Trim(Trim),
    /// One of [`quota::command`], with what came with it.
    Quota {
        /// Which one.
        command: u32,
        /// A [`quota::Record`], if it is what it should be.
        record: Vec<u8>,
    },
}

/// What FITRIM asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// Where to begin, in bytes from the start of the device.
    pub start_bytes: u64,
    /// How far, in bytes.
    pub len_bytes: u64,
    /// Free ranges shorter than this are left alone, in bytes.
    pub min_bytes: u64,
}

/// What an ioctl answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IoctlAnswer {
    /// It is done.
    Done,
    /// To [`Ioctl::Flags`].
    Flags(InodeFlags),
    /// To [`Ioctl::ExtendedFlags`].
    ExtendedFlags(InodeFlags),
    /// To [`Ioctl::Label`].
    Label(String),
    /// To [`Ioctl::Trim`]: what was asked for, with the length that was trimmed.
    Trimmed(Trim),
    /// To [`Ioctl::Quota`]: a [`quota::Record`], or nothing.
    Quota(Vec<u8>),
}

/// Who asks for an ioctl.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The process, and whose it is.
    pub process: Process,
    /// What it may do beyond that.
    pub capabilities: Capabilities,
}

impl Ioctl {
    /// The ioctl `command` with the bytes that came with it.
    ///
    /// # Errors
    /// NOTTY for one that is not served, INVAL for what makes no sense, OPNOTSUPP for flags that there are not.
    pub(super) fn parse(command: u32, data: &[u8]) -> Result<Self, Errno> {
        Ok(match command {
            GETFLAGS | GETFLAGS_32 => Self::Flags,
            SETFLAGS | SETFLAGS_32 => set_flags(number(data, 0)?)?,
            FSGETXATTR => Self::ExtendedFlags,
            FSSETXATTR => set_extended(data)?,
            GETFSLABEL => Self::Label,
            SETFSLABEL => {
                let end = data.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
                Self::SetLabel(data.get(..end).unwrap_or_default().to_vec())
            }
            FITRIM => Self::Trim(Trim {
                start_bytes: number64(data, 0)?,
                len_bytes: number64(data, 8)?,
                min_bytes: number64(data, 16)?,
            }),
            quota::command::GET | quota::command::NEXT | quota::command::SET | quota::command::SYNC => {
                Self::Quota { command, record: data.to_vec() }
            }
            _ => return Err(Errno::NOTTY),
        })
    }

    /// Whether it matters what its process may do.
    pub(super) const fn is_privileged(&self) -> bool {
        matches!(self, Self::SetFlags { .. } | Self::SetLabel(_) | Self::Trim(_) | Self::Quota { .. })
    }
}

impl IoctlAnswer {
    /// As the process gets it, in a buffer of at most `len_max`.
    pub(super) fn bytes(&self, len_max: usize) -> Vec<u8> {
        let mut bytes = match self {
            Self::Done => Vec::new(),
            Self::Flags(flags) => bits(*flags, |(_, flag, _)| *flag).to_ne_bytes().to_vec(),
            Self::ExtendedFlags(flags) => {
                let mut bytes = bits(*flags, |(_, _, extended)| *extended).to_ne_bytes().to_vec();
                bytes.resize(FSXATTR_BYTES, 0);
                bytes
            }
            Self::Label(label) => {
                let mut bytes = label.as_bytes().to_vec();
                bytes.resize(LABEL_BYTES, 0);
                bytes
            }
            Self::Trimmed(Trim { start_bytes, len_bytes, min_bytes }) => {
                [start_bytes, len_bytes, min_bytes].into_iter().flat_map(|number| number.to_ne_bytes()).collect()
            }
            Self::Quota(record) => record.clone(),
        };
        bytes.truncate(len_max);
        bytes
    }
}

fn number(data: &[u8], offset: usize) -> Result<u32, Errno> {
    let bytes = data.get(offset..).and_then(|bytes| bytes.first_chunk()).ok_or(Errno::INVAL)?;
    Ok(u32::from_ne_bytes(*bytes))
}

fn number64(data: &[u8], offset: usize) -> Result<u64, Errno> {
    let bytes = data.get(offset..).and_then(|bytes| bytes.first_chunk()).ok_or(Errno::INVAL)?;
    Ok(u64::from_ne_bytes(*bytes))
}

fn bits(flags: InodeFlags, of: impl Fn(&(InodeFlags, u32, u32)) -> u32) -> u32 {
    FLAGS.iter().filter(|entry| flags.contains(entry.0)).fold(0, |bits, entry| bits | of(entry))
}

/// The flags that `bits` stand for, and all that could stand there; `None` if there is another bit.
fn flags(bits: u32, of: impl Fn(&(InodeFlags, u32, u32)) -> u32) -> Option<(InodeFlags, InodeFlags)> {
    let (mut wanted, mut within, mut left) = (InodeFlags::default(), InodeFlags::default(), bits);
    for entry in FLAGS.iter().filter(|entry| of(entry) != 0) {
        within = within.union(entry.0);
        if bits & of(entry) != 0 {
            wanted = wanted.union(entry.0);
        }
        left &= !of(entry);
    }
    (left == 0).then_some((wanted, within))
}

fn set_flags(bits: u32) -> Result<Ioctl, Errno> {
    let (wanted, within) = flags(bits, |(_, flag, _)| *flag).ok_or(Errno::OPNOTSUPP)?;
    Ok(Ioctl::SetFlags { wanted, within })
}

/// Sizes of extents, projects and the like are not for this filesystem; that attributes exist is only ever told.
fn set_extended(data: &[u8]) -> Result<Ioctl, Errno> {
    const HAS_ATTRIBUTES: u32 = 1 << 31;
    let (extended, extent_bytes, project, copy_extent_bytes) =
        (number(data, 0)?, number(data, 4)?, number(data, 12)?, number(data, 16)?);
    if (extent_bytes, project, copy_extent_bytes) != (0, 0, 0) {
        return Err(Errno::OPNOTSUPP);
    }
    let (wanted, within) = flags(extended & !HAS_ATTRIBUTES, |(_, _, bit)| *bit).ok_or(Errno::OPNOTSUPP)?;
    Ok(Ioctl::SetFlags { wanted, within })
}

#[cfg(test)]
mod tests {
    use super::*;

    const I: InodeFlags = InodeFlags::IMMUTABLE;
    const J: InodeFlags = InodeFlags::JOURNALED;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        // Direction (write 1, read 2), size, letter, number.
        let number = |direction: u32, size: u32, letter: u8, number: u32| {
            direction << 30 | size << 16 | u32::from(letter) << 8 | number
        };
        assert_eq!(GETFLAGS, number(2, 8, b'f', 1));
        assert_eq!(SETFLAGS, number(1, 8, b'f', 2));
        assert_eq!((GETFLAGS_32, SETFLAGS_32), (number(2, 4, b'f', 1), number(1, 4, b'f', 2)));
        assert_eq!((FSGETXATTR, FSSETXATTR), (number(2, 28, b'X', 31), number(1, 28, b'X', 32)));
        assert_eq!((GETFSLABEL, SETFSLABEL), (number(2, 256, 0x94, 49), number(1, 256, 0x94, 50)));
        assert_eq!(FITRIM, number(3, 24, b'X', 121));
    }

    #[test]
    fn flags_survive_the_way_there_and_back() {
        let said = IoctlAnswer::Flags(I.union(J)).bytes(8);
        assert_eq!(said, 0x4010_u32.to_ne_bytes());
        let Ok(Ioctl::SetFlags { wanted, within }) = Ioctl::parse(SETFLAGS, &said) else { panic!() };
        assert!(wanted == I.union(J) && within.contains(InodeFlags::TOP_DIR));
        let said = IoctlAnswer::ExtendedFlags(I.union(J)).bytes(100);
        assert_eq!((said.len(), number(&said, 0)), (FSXATTR_BYTES, Ok(8)));
        let Ok(Ioctl::SetFlags { wanted, within }) = Ioctl::parse(FSSETXATTR, &said) else { panic!() };
        assert!(wanted == I && !within.contains(J), "what cannot be said is left alone");
    }

    #[test]
    fn what_there_is_not_is_refused_and_nothing_is_read_past_the_end() {
        assert_eq!(Ioctl::parse(0x1234, &[]), Err(Errno::NOTTY));
        assert_eq!(Ioctl::parse(SETFLAGS, &4_u32.to_ne_bytes()), Err(Errno::OPNOTSUPP), "compressed");
        let mut project = vec![0; FSXATTR_BYTES];
        project[12] = 1;
        assert_eq!(Ioctl::parse(FSSETXATTR, &project), Err(Errno::OPNOTSUPP));
        for command in [SETFLAGS, FSSETXATTR, SETFSLABEL, FITRIM] {
            for len in 0..4 {
                assert_eq!(Ioctl::parse(command, &vec![1; len]), Err(Errno::INVAL));
            }
        }
        assert_eq!(Ioctl::parse(SETFSLABEL, b"name\0rest"), Ok(Ioctl::SetLabel(b"name".to_vec())));
        assert_eq!(IoctlAnswer::Label("name".into()).bytes(2), b"na");
    }
}
