//! The order in which an operation takes locks that stand in no ancestor relation.

use super::service::Name;

/// Sorts and removes duplicates: kinds in the order of the protocol, numbers rising.
#[must_use]
pub fn sorted(mut names: Vec<Name>) -> Vec<Name> {
    names.sort_unstable();
    names.dedup();
    names
}
