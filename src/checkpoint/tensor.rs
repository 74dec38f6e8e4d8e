//! A stored tensor.

use safetensors::Dtype;

use crate::header::Header;
use crate::models::{self, Layer, LayerKind, Part};

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
    /// The kind of layer and the part of the model, as far as they are known.
    pub layer: Layer,
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
        self.layer.kind
    }

    /// The number of the language-model layer that the tensor belongs to; `None` for tensors of other parts.
    pub fn layer_number(&self) -> Option<u64> {
        // Layers that predict further tokens, in a part of their own, are numbered anew.
        let is_apart = |part: &str| matches!(part, "mtp" | "encoder");
        if matches!(self.layer.part, Part::Vision | Part::Audio) || self.name.split('.').any(is_apart) {
            return None;
        }
        let mut parts = self.name.split('.');
        parts.find(|part| *part == "layers")?;
        parts.next()?.parse().ok()
    }

    /// The number of elements.
    pub fn parameters(&self) -> u64 {
        // The header's reader has proven that the product does not overflow.
        self.shape.iter().map(|&dimension| dimension as u64).product()
    }
}

/// The tensors of a header of the shard with this number.
pub(crate) fn tensors_of(header: Header, shard: usize) -> Vec<Tensor> {
    let tensors = header.tensors.into_iter().map(|tensor| Tensor {
        name: tensor.name,
        dtype: tensor.dtype,
        shape: tensor.shape,
        shard,
        // The header's reader has proven that both are within the file.
        offset: header.data_start + tensor.begin,
        len: tensor.end - tensor.begin,
        layer: Layer::default(),
    });
    tensors.collect()
}
