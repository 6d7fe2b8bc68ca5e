//! Results of handlers, as answers of fuser.

use fuser::{FopenFlags, Generation, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyXattr};

use super::super::{Attributes, Entry, Errno, Opened};
use super::convert;

pub(super) fn send_entry(reply: ReplyEntry, result: Result<Entry, Errno>) {
    match result {
        Ok(entry) => {
            reply.entry(&entry.valid, &convert::file_attr(&entry.attr, entry.node.0), Generation(entry.attr.generation))
        }
        Err(errno) => reply.error(errno.into()),
    }
}

pub(super) fn send_attributes(reply: ReplyAttr, result: Result<Attributes, Errno>) {
    match result {
        Ok(Attributes { attr, valid }) => reply.attr(&valid, &convert::file_attr(&attr, attr.ino.get())),
        Err(errno) => reply.error(errno.into()),
    }
}

pub(super) fn send_nothing(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno.into()),
    }
}

/// A value for a buffer of `size` bytes; only its length for none (getxattr(2)).
pub(super) fn send_sized(reply: ReplyXattr, size: u32, result: Result<Vec<u8>, Errno>) {
    let len = result.as_ref().map_or(0, |value| u32::try_from(value.len()).unwrap_or(u32::MAX));
    match result {
        Ok(_) if size == 0 => reply.size(len),
        Ok(value) if len <= size => reply.data(&value),
        Ok(_) => reply.error(Errno::RANGE.into()),
        Err(errno) => reply.error(errno.into()),
    }
}

pub(super) fn open_flags(opened: Opened) -> FopenFlags {
    if opened.keep_cache { FopenFlags::FOPEN_KEEP_CACHE } else { FopenFlags::empty() }
}
