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

/// A matrix of a stack of experts, or its bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExpertSlice<'a> {
    pub(crate) tensor: &'a Tensor,
    /// Rows and columns that are stored for each expert.
    pub(crate) stored: [usize; 2],
    pub(crate) expert: usize,
    /// First row of this matrix in the stored one; first column where that is transposed.
    pub(crate) first: usize,
    /// From one row of this matrix to its next, in rows of the stored one; in columns where that is transposed.
    pub(crate) step: usize,
    pub(crate) transposed: bool,
    /// Rows and columns of this matrix.
    pub(crate) shape: [usize; 2],
    /// Dimensions of the tensor that it becomes: 1 of a bias, which is a matrix of one column here.
    pub(crate) rank: usize,
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
            OriginalData::Slice(slice) => &slice.shape[..slice.rank],
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
        let [rows, columns] = self.stored;
        let at = |row: usize, column: usize| (((self.expert * rows + row) * columns + column) * width) as u64;
        // The pieces of a bias are columns of one row, and those of a matrix are both.
        let (of_rows, of_columns) =
            if self.rank == 1 { (&piece.columns, &piece.rows) } else { (&piece.rows, &piece.columns) };
        let (height, across) = (of_rows.len(), of_columns.len());
        if !self.transposed && self.step == 1 {
            return shards.read(
                self.tensor,
                at(self.first + of_rows.start, of_columns.start),
                height * across * width,
                out,
            );
        }
        if !self.transposed {
            // Rows of other projections lie between these.
            out.clear();
            for row in of_rows.clone() {
                shards.read(self.tensor, at(self.first + row * self.step, of_columns.start), across * width, run)?;
                out.extend_from_slice(run);
            }
            return Ok(());
        }
        out.resize(height * across * width, 0);
        let stride = across * width;
        for (index, column) in of_columns.clone().enumerate() {
            // A column of this matrix is a run of a stored row, so that each column is one read.
            let reach = (height.saturating_sub(1) * self.step + usize::from(height > 0)) * width;
            shards.read(self.tensor, at(column, self.first + of_rows.start * self.step), reach, run)?;
            for (element, row) in run.chunks(self.step * width).zip(out.chunks_exact_mut(stride)) {
                row[index * width..][..width].copy_from_slice(&element[..width]);
            }
        }
        Ok(())
    }
}
