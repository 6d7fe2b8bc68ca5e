//! fuse-mount.
