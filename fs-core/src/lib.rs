//! fs-core.
