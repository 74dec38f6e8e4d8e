//! What a tensor of a result was made from, as numbers.

use safetensors::Dtype;

use super::coded::{Coded, Scratch};
use super::element::{self, narrow, widen};
use super::shards::{Piece, Shards};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A tensor of the source, or a matrix that is a part of one, or what codes of it stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Original<'a> {
    shards: &'a Shards,
    of: Of<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Stored(&'a Tensor),
    Slice(Slice<'a>),
    /// Each product of code and scale is rounded to this dtype.
    Decoded(&'a Coded<'a>, Dtype),
}

/// A matrix in a stack of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) expert: usize,
    /// The row of the stored matrix that is the first of this one, or, transposed, the column.
    pub(super) first: usize,
    pub(super) transposed: bool,
    /// The rows and columns of this one.
    pub(super) matrix: [usize; 2],
}

impl<'a> Original<'a> {
    pub(super) fn stored(shards: &'a Shards, tensor: &'a Tensor) -> Self {
        Self { shards, of: Of::Stored(tensor) }
    }

    pub(super) fn slice(shards: &'a Shards, slice: Slice<'a>) -> Self {
        Self { shards, of: Of::Slice(slice) }
    }

    pub(super) fn decoded(shards: &'a Shards, coded: &'a Coded<'a>, dtype: Dtype) -> Self {
        Self { shards, of: Of::Decoded(coded, dtype) }
    }

    pub(super) fn dtype(&self) -> Dtype {
        match self.of {
            Of::Stored(tensor) | Of::Slice(Slice { tensor, .. }) => tensor.dtype,
            Of::Decoded(_, dtype) => dtype,
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        match &self.of {
            Of::Stored(tensor) => &tensor.shape,
            Of::Slice(slice) => &slice.matrix,
            Of::Decoded(coded, _) => &coded.matrix,
        }
    }

    /// Whether its elements are floats.
    pub(super) fn is_numbers(&self) -> bool {
        element::width(self.dtype()).is_some()
    }

    /// The tensor, where it is one as it is stored.
    pub(super) fn as_stored(&self) -> Option<(&'a Shards, &'a Tensor)> {
        match self.of {
            Of::Stored(tensor) => Some((self.shards, tensor)),
            Of::Slice(_) | Of::Decoded(..) => None,
        }
    }

    /// The stack that it is a matrix of, where it is one.
    pub(super) fn stack(&self) -> Option<&'a Tensor> {
        match self.of {
            Of::Slice(slice) => Some(slice.tensor),
            Of::Stored(_) | Of::Decoded(..) => None,
        }
    }

    /// The codes and scales, where it is a weight of few bits.
    pub(super) fn as_coded(&self) -> Option<(&'a Shards, &'a Coded<'a>)> {
        match self.of {
            Of::Decoded(coded, _) => Some((self.shards, coded)),
            Of::Stored(_) | Of::Slice(_) => None,
        }
    }

    /// Reads the numbers of a piece of the matrix that it is.
    pub(super) fn read(&self, piece: &Piece, scratch: &mut Scratch, out: &mut Vec<f32>) -> Result<(), SourceError> {
        let mut bytes = std::mem::take(&mut scratch.bytes);
        self.read_bytes(piece, scratch, &mut bytes)?;
        widen(self.dtype(), &bytes, out);
        scratch.bytes = bytes;
        Ok(())
    }

    /// Reads the bytes that the numbers of a piece have, row after row.
    pub(super) fn read_bytes(
        &self,
        piece: &Piece,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let width = element::width(self.dtype()).unwrap_or(1);
        match self.of {
            Of::Stored(tensor) => {
                let columns = tensor.shape.last().copied().unwrap_or(1);
                self.shards.read_piece(tensor, columns, width, piece, out)
            }
            Of::Slice(slice) => slice.read(self.shards, width, piece, &mut scratch.bytes, out),
            Of::Decoded(coded, dtype) => {
                let mut numbers = std::mem::take(&mut scratch.numbers);
                coded.decode(self.shards, piece, scratch, &mut numbers)?;
                narrow(dtype, &numbers, out);
                scratch.numbers = numbers;
                Ok(())
            }
        }
    }
}

impl Slice<'_> {
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
            // A column of this matrix is a part of a stored row.
            shards.read(self.tensor, at(column, self.first + piece.rows.start), piece.rows.len() * width, run)?;
            for (element, row) in run.chunks_exact(width).zip(out.chunks_exact_mut(stride)) {
                row[index * width..][..width].copy_from_slice(element);
            }
        }
        Ok(())
    }
}
