//! The original of a tensor: what it was made from, read as numbers.

use safetensors::Dtype;

use super::adapters::TensorChanges;
use crate::decode::{BlockBuffers, Piece, QuantizedWeight, Scratch, Shards, decode_row, narrow, widen, width};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::experts::BlockStack;
use qwen_fp8_checkpoint::source::SourceError;

/// A tensor of the source, a matrix of a stacked one, or a quantized weight of the source, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    shards: &'a Shards,
    data: OriginalData<'a>,
    /// What adapters change of it.
    changes: Option<TensorChanges<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum OriginalData<'a> {
    Stored(&'a Tensor),
    /// With the dtype of its elements, which blocks are decoded to.
    Slice(ExpertSlice<'a>, Dtype),
    /// A stack of experts in MXFP4, columns first, each product rounded to this dtype; and its shape.
    DecodedStack(&'a BlockStack<'a>, Dtype, [usize; 3]),
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
    /// The stack's blocks, where it is stored as such.
    pub(crate) blocks: Option<&'a BlockStack<'a>>,
    /// Rows and columns of this matrix.
    pub(crate) shape: [usize; 2],
    /// Dimensions of the tensor that it becomes: 1 of a bias, which is a matrix of one column here.
    pub(crate) rank: usize,
}

impl<'a> Original<'a> {
    /// Returns the original that is a tensor as it is stored.
    pub(crate) fn stored(shards: &'a Shards, tensor: &'a Tensor) -> Self {
        Self { shards, data: OriginalData::Stored(tensor), changes: None }
    }

    /// Returns the original that is a matrix of a stack, rounded to `dtype` where the stack is in MXFP4.
    pub(crate) fn slice(shards: &'a Shards, slice: ExpertSlice<'a>, dtype: Dtype) -> Self {
        let dtype = if slice.blocks.is_some() { dtype } else { slice.tensor.dtype };
        Self { shards, data: OriginalData::Slice(slice, dtype), changes: None }
    }

    /// Returns the original that is a stack in MXFP4, decoded and rounded to `dtype`.
    pub(crate) fn decoded_stack(shards: &'a Shards, stack: &'a BlockStack<'a>, dtype: Dtype) -> Self {
        let shape = [stack.experts, stack.inputs, stack.outputs];
        Self { shards, data: OriginalData::DecodedStack(stack, dtype, shape), changes: None }
    }

    /// Returns the original that is a quantized weight, decoded and rounded to `dtype`.
    pub(crate) fn decoded(shards: &'a Shards, weight: &'a QuantizedWeight<'a>, dtype: Dtype) -> Self {
        Self { shards, data: OriginalData::Decoded(weight, dtype), changes: None }
    }

    /// Returns the original with what adapters change of it.
    pub(super) fn changed(self, changes: Option<TensorChanges<'a>>) -> Self {
        Self { changes, ..self }
    }

    /// Reports whether adapters change it.
    pub(crate) fn is_changed(&self) -> bool {
        self.changes.is_some()
    }

    pub(crate) fn dtype(&self) -> Dtype {
        match self.data {
            OriginalData::Stored(tensor) => tensor.dtype,
            OriginalData::Slice(_, dtype)
            | OriginalData::Decoded(_, dtype)
            | OriginalData::DecodedStack(_, dtype, _) => dtype,
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        match &self.data {
            OriginalData::Stored(tensor) => &tensor.shape,
            OriginalData::Slice(slice, _) => &slice.shape[..slice.rank],
            OriginalData::DecodedStack(_, _, shape) => shape,
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
            OriginalData::Stored(tensor) if !self.is_changed() => Some((self.shards, tensor)),
            OriginalData::Stored(_) => None,
            OriginalData::Slice(..) | OriginalData::Decoded(..) | OriginalData::DecodedStack(..) => None,
        }
    }

    /// Returns the stack, where the original is a matrix of one.
    pub(crate) fn stack(&self) -> Option<&'a Tensor> {
        match self.data {
            OriginalData::Slice(slice, _) => Some(slice.tensor),
            OriginalData::Stored(_) | OriginalData::Decoded(..) | OriginalData::DecodedStack(..) => None,
        }
    }

    /// Returns the quantized weight, where the original is one, decoded.
    pub(crate) fn as_quantized(&self) -> Option<(&'a Shards, &'a QuantizedWeight<'a>)> {
        match self.data {
            OriginalData::Decoded(weight, _) if !self.is_changed() => Some((self.shards, weight)),
            OriginalData::Decoded(..)
            | OriginalData::Stored(_)
            | OriginalData::Slice(..)
            | OriginalData::DecodedStack(..) => None,
        }
    }

    /// Reports whether the original is quantized in the source, and decoded here.
    pub(crate) fn is_decoded(&self) -> bool {
        match self.data {
            OriginalData::Stored(_) => false,
            OriginalData::Slice(slice, _) => slice.blocks.is_some(),
            OriginalData::Decoded(..) | OriginalData::DecodedStack(..) => true,
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
        let Some(changes) = self.changes else { return self.read_unchanged(piece, scratch, out) };
        let (height, columns) = match *self.shape() {
            [.., columns] => (self.shape()[..self.shape().len() - 1].iter().product(), columns),
            [] => (1, 1),
        };
        // Rows as a whole: the length of a row is a part of what DoRA does with each of its weights.
        let whole = Piece { rows: piece.rows.clone(), columns: 0..columns };
        self.read_unchanged(&whole, scratch, out)?;
        changes.apply(self.dtype(), &whole.rows, [height, columns], out)?;
        if piece.columns != whole.columns {
            let size = width(self.dtype()).unwrap_or(1);
            let wanted = piece.columns.start * size..piece.columns.end * size;
            *out = out.chunks_exact(columns * size).flat_map(|row| &row[wanted.clone()]).copied().collect();
        }
        Ok(())
    }

    /// Reads the bytes of a piece before adapters change them.
    fn read_unchanged(&self, piece: &Piece, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), SourceError> {
        let size = width(self.dtype()).unwrap_or(1);
        match self.data {
            OriginalData::Stored(tensor) => {
                let columns = tensor.shape.last().copied().unwrap_or(1);
                self.shards.read_piece(tensor, columns, size, piece, out)
            }
            OriginalData::Slice(slice, dtype) => match slice.blocks {
                None => slice.read(self.shards, size, piece, &mut scratch.bytes, out),
                Some(stack) => {
                    let mut values = std::mem::take(&mut scratch.values);
                    slice.decode(stack, self.shards, piece, &mut values)?;
                    scratch.rounded |= narrow(dtype, &values, out);
                    scratch.values = values;
                    Ok(())
                }
            },
            OriginalData::DecodedStack(stack, dtype, _) => {
                let mut values = std::mem::take(&mut scratch.values);
                decode_columns(stack, self.shards, piece, &mut values)?;
                scratch.rounded |= narrow(dtype, &values, out);
                scratch.values = values;
                Ok(())
            }
            OriginalData::Decoded(weight, dtype) => {
                let mut values = std::mem::take(&mut scratch.values);
                weight.decode(self.shards, piece, scratch, &mut values)?;
                scratch.rounded |= narrow(dtype, &values, out);
                scratch.values = values;
                Ok(())
            }
        }
    }
}

/// Decodes a piece of a stack whose rows, counted through all experts, are the columns of its blocks.
fn decode_columns(
    stack: &BlockStack<'_>,
    shards: &Shards,
    piece: &Piece,
    out: &mut Vec<f32>,
) -> Result<(), SourceError> {
    let (mut buffers, mut column) = (BlockBuffers::default(), Vec::new());
    let across = piece.columns.len();
    out.clear();
    out.resize(piece.rows.len() * across, 0.0);
    let mut row = piece.rows.start;
    while row < piece.rows.end {
        let (expert, first) = (row / stack.inputs, row % stack.inputs);
        let until = stack.inputs.min(first + piece.rows.end - row);
        for (at, output) in piece.columns.clone().enumerate() {
            column.clear();
            let stored = expert * stack.outputs + output;
            decode_row(stack, shards, stored, &(first..until), &mut buffers, &mut column)?;
            let rows = out[(row - piece.rows.start) * across..].chunks_exact_mut(across);
            rows.zip(&column).for_each(|(row, value)| row[at] = *value);
        }
        row += until - first;
    }
    Ok(())
}

impl ExpertSlice<'_> {
    /// Decodes a piece of a matrix whose rows are rows of a stack of blocks.
    fn decode(
        &self,
        stack: &BlockStack<'_>,
        shards: &Shards,
        piece: &Piece,
        out: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        let mut buffers = BlockBuffers::default();
        out.clear();
        for row in piece.rows.clone() {
            let stored = self.expert * self.stored[0] + self.first + row * self.step;
            decode_row(stack, shards, stored, &piece.columns, &mut buffers, out)?;
        }
        Ok(())
    }

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
