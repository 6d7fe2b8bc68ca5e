//! Error numbers of Linux.

/// An error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub i32);

macro_rules! numbers {
    ($($name:ident $number:literal $text:literal)*) => {
        $(#[doc = $text] pub const $name: Errno = Errno($number);)*
        impl std::fmt::Display for Errno {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($number => f.write_str(stringify!($name)),)*
                    other => write!(f, "error {other}"),
                }
            }
        }
    };
}

numbers! {
    EPERM 1 "Not the owner, or nobody may."
    ENOENT 2 "No such name."
    EIO 5 "The device, or the filesystem, has failed."
    EBADF 9 "Nothing is open there."
    EACCES 13 "Permission bits forbid it."
    EEXIST 17 "The name exists."
    ENOTDIR 20 "Not a directory."
    EISDIR 21 "A directory."
    EINVAL 22 "Makes no sense for this file."
    ENOSPC 28 "No space left."
    ENOTEMPTY 39 "The directory has entries."
    ENODATA 61 "No such attribute."
    EOPNOTSUPP 95 "Not for this kind of file."
}
