//! Layers that checkpoints hold fused already.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the rows of one matrix are that servers see as several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoredFused {
    /// The queries, keys and values of attention, by the numbers of heads in config.json.
    QueriesKeysValues,
    /// Two halves of the same number of rows, such as gate and up.
    Halves,
}
