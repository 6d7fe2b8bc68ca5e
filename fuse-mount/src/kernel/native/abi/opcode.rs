//! What a request asks for.

/// Kinds of requests. A wrapper and not an `enum`: a newer kernel may send others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opcode(pub(crate) u32);

macro_rules! opcodes {
    ($($name:ident = $number:literal,)*) => {
        impl Opcode {
            $( pub(crate) const $name: Self = Self($number); )*
            /// All that are declared.
            pub(crate) const ALL: &[Self] = &[$( Self::$name ),*];

            /// What the protocol calls it.
            pub(crate) const fn name(self) -> &'static str {
                match self { $( Self::$name => stringify!($name), )* _ => "unknown" }
            }
        }
    };
}

opcodes! {
    LOOKUP = 1,
    FORGET = 2,
    GETATTR = 3,
    SETATTR = 4,
    READLINK = 5,
    SYMLINK = 6,
    MKNOD = 8,
    MKDIR = 9,
    UNLINK = 10,
    RMDIR = 11,
    RENAME = 12,
    LINK = 13,
    OPEN = 14,
    READ = 15,
    WRITE = 16,
    STATFS = 17,
    RELEASE = 18,
    FSYNC = 20,
    SETXATTR = 21,
    GETXATTR = 22,
    LISTXATTR = 23,
    REMOVEXATTR = 24,
    FLUSH = 25,
    INIT = 26,
    OPENDIR = 27,
    READDIR = 28,
    RELEASEDIR = 29,
    FSYNCDIR = 30,
    GETLK = 31,
    SETLK = 32,
    SETLKW = 33,
    ACCESS = 34,
    CREATE = 35,
    INTERRUPT = 36,
    BMAP = 37,
    DESTROY = 38,
    IOCTL = 39,
    POLL = 40,
    NOTIFY_REPLY = 41,
    BATCH_FORGET = 42,
    FALLOCATE = 43,
    READDIRPLUS = 44,
    RENAME2 = 45,
    LSEEK = 46,
    COPY_FILE_RANGE = 47,
    SETUPMAPPING = 48,
    REMOVEMAPPING = 49,
    SYNCFS = 50,
    TMPFILE = 51,
    STATX = 52,
    COPY_FILE_RANGE_64 = 53,
    CUSE_INIT = 4096,
    // INIT and CUSE_INIT from a kernel of the other byte order.
    CUSE_INIT_SWAPPED = 1_048_576,
    INIT_SWAPPED = 436_207_616,
}

impl Opcode {
    /// Whether the kernel waits for no answer, and refuses one.
    pub(crate) const fn is_unanswered(self) -> bool {
        matches!(self, Self::FORGET | Self::BATCH_FORGET | Self::NOTIFY_REPLY)
    }
}
