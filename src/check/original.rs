//! What a tensor of a result was made from, as numbers.

use safetensors::Dtype;

use super::element::{self, widen};
use super::shards::{Piece, Shards};
use crate::checkpoint::Tensor;
use crate::checkpoint::source::SourceError;

/// A matrix of the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Original<'a> {
    shards: &'a Shards,
    tensor: &'a Tensor,
    width: usize,
}

impl<'a> Original<'a> {
    /// `None` where the tensor holds no floats.
    pub(super) fn of(shards: &'a Shards, tensor: &'a Tensor) -> Option<Self> {
        Some(Self { shards, tensor, width: element::width(tensor.dtype)? })
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    /// Reads the numbers of a piece.
    pub(super) fn read(&self, piece: &Piece, bytes: &mut Vec<u8>, out: &mut Vec<f32>) -> Result<(), SourceError> {
        let columns = self.tensor.shape.last().copied().unwrap_or(1);
        self.shards.read_piece(self.tensor, columns, self.width, piece, bytes)?;
        widen(self.tensor.dtype, bytes, out);
        Ok(())
    }
}
