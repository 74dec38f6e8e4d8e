//! A stored tensor.

use safetensors::Dtype;

use crate::models::{self, LayerKind};

/// One stored tensor, as its shard's header describes it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Index into the shards of the checkpoint.
    pub shard: usize,
    /// Offset of the first byte in the shard's file.
    pub offset: u64,
    /// Bytes of data, as many as dtype and shape make.
    pub len: u64,
}

impl Tensor {
    /// The module the tensor belongs to: its name up to the last dot.
    pub fn module(&self) -> &str {
        models::split_name(&self.name).0
    }

    /// The part of the name behind the last dot: `weight`, `bias`, …
    pub fn parameter(&self) -> &str {
        models::split_name(&self.name).1
    }

    /// The name that patterns are matched with: the module for a weight or bias, else the tensor's own name.
    pub fn target_name(&self) -> &str {
        models::target_name(&self.name)
    }

    pub fn kind(&self) -> LayerKind {
        LayerKind::of(&self.name, self.shape.len())
    }

    /// The number of elements.
    pub fn parameters(&self) -> u64 {
        // The header's reader has proven that the product does not overflow.
        self.shape.iter().map(|&dimension| dimension as u64).product()
    }
}
