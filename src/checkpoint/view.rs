//! How the values of a tensor follow from stored bytes, where a checkpoint is seen otherwise than it is stored.

use std::sync::Arc;

use qwen_fp8_schemes::Scheme;
use safetensors::Dtype;

/// Where the values of a tensor are.
#[derive(Clone, Debug)]
pub enum View {
    /// In its bytes, row after row, as they are stored.
    Stored,
    /// In columns of a stored matrix, each of which is a row of the tensor; the first begins at the tensor's offset.
    Transposed {
        /// Bytes from one stored row to the next.
        stride: u64,
    },
    /// In E4M3 codes at the tensor's offset, a byte each, row after row, and in scales elsewhere.
    Float8(Arc<Float8>),
}

/// What a weight's E4M3 codes are multiplied by.
#[derive(Debug)]
pub struct Float8 {
    pub scale: ScaleTensor,
    /// Rows and columns that share a scale; the last ones may be cut short.
    pub group: [usize; 2],
    /// The scheme that stores a weight like this.
    pub scheme: Box<dyn Scheme>,
}

/// A stored tensor of scales, row of groups by row of groups.
#[derive(Clone, Debug)]
pub struct ScaleTensor {
    pub name: String,
    /// BF16, F16 or F32.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Index into [`Checkpoint::shards`](super::Checkpoint::shards).
    pub shard: usize,
    /// Offset of the first byte in the shard's file.
    pub offset: u64,
    /// Bytes of data.
    pub len: u64,
}

impl View {
    /// Whether the bytes of the tensor are those at its offset.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored)
    }

    /// What a weight in E4M3 is made of.
    pub fn float8(&self) -> Option<&Float8> {
        match self {
            Self::Float8(float8) => Some(float8),
            Self::Stored | Self::Transposed { .. } => None,
        }
    }
}
