//! One input of a plan: its values' dtype and shape, and where in the source they come from.

use std::sync::Arc;

use qwen_fp8_schemes::{Dtype, Scheme};

use crate::checkpoint::Tensor;
use crate::checkpoint::models::{self, Layer, LayerKind};

/// One input of a plan: a tensor of values, and where in the source they come from.
#[derive(Debug)]
pub struct PlannedInput {
    pub name: String,
    /// The dtype of the values, whatever they are stored as.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the values, as many as dtype and shape make.
    pub len: u64,
    pub data: InputData,
    /// The stack of experts that holds the values, where the input is one matrix of it.
    pub part_of: Option<Arc<str>>,
    /// The kind of layer and the part of the model, as far as they are known.
    pub layer: Layer,
}

/// The place of an input's values, by shard of the checkpoint and offset in its file.
#[derive(Debug)]
pub enum InputData {
    /// Stored row after row from this place on.
    Stored { shard: usize, offset: u64 },
    /// Stored as columns: each row of the input is a column of a stored matrix, the first of which begins here.
    Transposed {
        shard: usize,
        offset: u64,
        /// Bytes from one stored row to the next.
        stride: u64,
    },
    /// Stored as E4M3 codes and their scales.
    // Boxed: a model with split experts has tens of thousands of inputs, few of which are FP8.
    Fp8(Box<Fp8Source>),
}

/// A weight that is FP8 in the source.
#[derive(Debug)]
pub struct Fp8Source {
    /// The stored tensor of E4M3 codes, a byte each, row after row.
    pub codes: Tensor,
    /// The stored tensor of scales, row of granules by row of granules; BF16, F16 or F32.
    pub scales: Tensor,
    /// Rows and columns that share a scale; the last ones may be cut short.
    pub granule: [usize; 2],
    /// The scheme that stores a weight like this.
    pub scheme: Box<dyn Scheme>,
}

impl PlannedInput {
    /// The input whose values are a stored tensor as it is.
    pub fn stored(tensor: &Tensor) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            len: tensor.len,
            data: InputData::Stored { shard: tensor.shard, offset: tensor.offset },
            part_of: None,
            layer: tensor.layer,
        }
    }

    /// The module the input belongs to: its name up to the last dot.
    pub fn module(&self) -> &str {
        models::split_name(&self.name).0
    }

    /// The part of the name behind the last dot: `weight`, `bias`, …
    pub fn parameter(&self) -> &str {
        models::split_name(&self.name).1
    }

    /// The name that patterns are matched with: the module for a weight or bias, else the input's own name.
    pub fn target_name(&self) -> &str {
        models::target_name(&self.name)
    }

    /// The kind of layer.
    pub fn kind(&self) -> LayerKind {
        self.layer.kind
    }

    /// The codes and scales of an input that is FP8 in the source.
    pub fn fp8(&self) -> Option<&Fp8Source> {
        match &self.data {
            InputData::Fp8(source) => Some(source),
            InputData::Stored { .. } | InputData::Transposed { .. } => None,
        }
    }

    /// The dtype that the source stores: of the codes where it is FP8.
    pub fn stored_dtype(&self) -> Dtype {
        self.fp8().map_or(self.dtype, |source| source.codes.dtype)
    }

    /// Bytes of the source that hold the values, of the codes alone where it is FP8.
    pub fn stored_len(&self) -> u64 {
        self.fp8().map_or(self.len, |source| source.codes.len)
    }

    /// Bytes of the source that the input takes up, scales included.
    pub fn source_bytes(&self) -> u64 {
        self.stored_len() + self.fp8().map_or(0, |source| source.scales.len)
    }

    /// The source shard that holds the values, or the codes where the input is FP8.
    pub fn shard(&self) -> usize {
        match &self.data {
            InputData::Stored { shard, .. } | InputData::Transposed { shard, .. } => *shard,
            InputData::Fp8(source) => source.codes.shard,
        }
    }

    /// The name for the stored byte at `offset` of a shard, where the input is made of it: its own, or that of its
    /// scales.
    pub fn name_of_byte(&self, shard: usize, offset: u64) -> Option<&str> {
        let holds = |at_shard, start: u64, len| shard == at_shard && (start..start + len).contains(&offset);
        match &self.data {
            InputData::Stored { shard, offset } => holds(*shard, *offset, self.len).then_some(&self.name),
            // The columns of one matrix lie between those of others.
            InputData::Transposed { .. } => None,
            InputData::Fp8(source) => [&source.codes, &source.scales]
                .into_iter()
                .find(|stored| holds(stored.shard, stored.offset, stored.len))
                .map(|stored| stored.name.as_str()),
        }
    }
}
