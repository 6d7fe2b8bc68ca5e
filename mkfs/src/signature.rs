//! What stood on a device before.
