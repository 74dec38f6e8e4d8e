//! One side of a comparison.

use crate::decode::Shards;
use crate::structure::Structure;

/// One checkpoint, opened.
pub(super) struct DiffSide<'a> {
    pub(super) shards: Shards,
    pub(super) structure: &'a Structure<'a>,
}
