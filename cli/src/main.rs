//! The one executable of lunfs.

fn main() {}
