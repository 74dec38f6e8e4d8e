//! The original of a tensor: what it was made from, read as numbers.

use safetensors::Dtype;

use crate::decode::{Piece, QuantizedWeight, Scratch, Shards, narrow, widen, width};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A tensor of the source, a matrix of a stacked one, or a quantized weight of the source, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    shards: &'a Shards,
    data: OriginalData<'a>,
}

#[derive(Clone, Copy, Debug)]
enum OriginalData<'a> {
    Stored(&'a Tensor),
    Slice(ExpertSlice<'a>),
    /// Each product of value and scale is rounded to this dtype.
    Decoded(&'a QuantizedWeight<'a>, Dtype),
}

/// A matrix of a stack of experts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpertSlice<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) expert: usize,
    /// First row of this matrix in the stored one; first column where that is transposed.
    pub(crate) first: usize,
    pub(crate) transposed: bool,
    /// Rows and columns of this matrix.
    pub(crate) shape: [usize; 2],
}

impl<'a> Original<'a> {
    /// Returns the original that is a tensor as it is stored.
    pub(crate) fn stored(shards: &'a Shards, tensor: &'a Tensor) -> Self {
        Self { shards, data: OriginalData::Stored(tensor) }
    }

    /// Returns the original that is a matrix of a stack.
    pub(crate) fn slice(shards: &'a Shards, slice: ExpertSlice<'a>) -> Self {
        Self { shards, data: OriginalData::Slice(slice) }
    }

    /// Returns the original that is a quantized weight, decoded and rounded to `dtype`.
    pub(crate) fn decoded(shards: &'a Shards, weight: &'a QuantizedWeight<'a>, dtype: Dtype) -> Self {
        Self { shards, data: OriginalData::Decoded(weight, dtype) }
    }

    pub(crate) fn dtype(&self) -> Dtype {
        match self.data {
            OriginalData::Stored(tensor) | OriginalData::Slice(ExpertSlice { tensor, .. }) => tensor.dtype,
            OriginalData::Decoded(_, dtype) => dtype,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match &self.data {
            OriginalData::Stored(tensor) => &tensor.shape,
            OriginalData::Slice(slice) => &slice.shape,
            OriginalData::Decoded(weight, _) => &weight.shape,
        }
    }

    /// Reports whether its elements are floats that can be read.
    pub(crate) fn is_float(&self) -> bool {
        width(self.dtype()).is_some()
    }

    /// Returns the tensor, where the original is one as it is stored.
    pub(crate) fn as_stored(&self) -> Option<(&'a Shards, &'a Tensor)> {
        match self.data {
            OriginalData::Stored(tensor) => Some((self.shards, tensor)),
            OriginalData::Slice(_) | OriginalData::Decoded(..) => None,
        }
    }

    /// Returns the stack, where the original is a matrix of one.
    pub(crate) fn stack(&self) -> Option<&'a Tensor> {
        match self.data {
            OriginalData::Slice(slice) => Some(slice.tensor),
            OriginalData::Stored(_) | OriginalData::Decoded(..) => None,
        }
    }

    /// Returns the quantized weight, where the original is one, decoded.
    pub(crate) fn as_quantized(&self) -> Option<(&'a Shards, &'a QuantizedWeight<'a>)> {
        match self.data {
            OriginalData::Decoded(weight, _) => Some((self.shards, weight)),
            OriginalData::Stored(_) | OriginalData::Slice(_) => None,
        }
    }

    /// Reads a piece as F32.
    pub(crate) fn read(&self, piece: &Piece, scratch: &mut Scratch, out: &mut Vec<f32>) -> Result<(), SourceError> {
        // Taken out and put back: the scratch is needed for the reading itself, and its buffer for the result.
        let mut bytes = std::mem::take(&mut scratch.bytes);
        self.read_bytes(piece, scratch, &mut bytes)?;
        widen(self.dtype(), &bytes, out);
        scratch.bytes = bytes;
        Ok(())
    }

    /// Reads the bytes of a piece in the original's dtype, row after row.
    pub(crate) fn read_bytes(
        &self,
        piece: &Piece,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let size = width(self.dtype()).unwrap_or(1);
        match self.data {
            OriginalData::Stored(tensor) => {
                let columns = tensor.shape.last().copied().unwrap_or(1);
                self.shards.read_piece(tensor, columns, size, piece, out)
            }
            OriginalData::Slice(slice) => slice.read(self.shards, size, piece, &mut scratch.bytes, out),
            OriginalData::Decoded(weight, dtype) => {
                let mut values = std::mem::take(&mut scratch.values);
                weight.decode(self.shards, piece, scratch, &mut values)?;
                narrow(dtype, &values, out);
                scratch.values = values;
                Ok(())
            }
        }
    }
}

impl ExpertSlice<'_> {
    fn read(
        &self,
        shards: &Shards,
        width: usize,
        piece: &Piece,
        run: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let [rows, columns] = [1, 2].map(|side| self.tensor.shape[side]);
        let at = |row: usize, column: usize| (((self.expert * rows + row) * columns + column) * width) as u64;
        let len = piece.rows.len() * piece.columns.len() * width;
        if !self.transposed {
            return shards.read(self.tensor, at(self.first + piece.rows.start, piece.columns.start), len, out);
        }
        out.resize(len, 0);
        let stride = piece.columns.len() * width;
        for (index, column) in piece.columns.clone().enumerate() {
            // A column of this matrix is a run of a stored row, so that each column is one read.
            shards.read(self.tensor, at(column, self.first + piece.rows.start), piece.rows.len() * width, run)?;
            for (element, row) in run.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                row[index * width..][..width].copy_from_slice(element);
            }
        }
        Ok(())
    }
}
