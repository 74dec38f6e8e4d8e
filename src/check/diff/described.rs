//! Tensors of a difference, as they are reported.

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::{Figures, Sums};

/// A tensor of both checkpoints that differs.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct TensorDifference {
    /// The name in A.
    pub name: String,
    pub a: StoredAs,
    pub b: StoredAs,
    /// The error of B against A; null where they cannot be compared by value.
    pub figures: Option<Figures>,
    #[serde(skip)]
    pub(super) sums: Sums,
}

/// A tensor as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StoredAs {
    /// The dtype, and the granularity of a quantized weight.
    pub form: String,
    pub shape: Vec<usize>,
}

/// A tensor of one checkpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DescribedTensor {
    pub name: String,
    #[serde(flatten)]
    pub stored: StoredAs,
}

/// A tensor that the two checkpoints call differently.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Renamed {
    pub a: String,
    pub b: String,
}
