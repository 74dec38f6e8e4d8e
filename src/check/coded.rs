//! A weight in few bits: its tensors, and the reading of what they stand for.

use std::ops::Range;

use super::declared::Form;
use super::packing::{self, Packing};
use super::shards::{Piece, Shards};
use super::storage::{Beside, Rounding, Step};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A weight in codes and the tensors beside it; their names, shapes and dtypes fit.
#[derive(Clone, Debug)]
pub(super) struct Coded<'a> {
    pub(super) codes: &'a Tensor,
    pub(super) scale: &'a Tensor,
    /// In the order of the form.
    pub(super) beside: Vec<(Beside, &'a Tensor)>,
    /// The rows and columns of the weight.
    pub(super) matrix: [usize; 2],
    /// What the scales were multiplied by before they were rounded; 1 where that is nothing.
    pub(super) global: f32,
    pub(super) form: Form,
}

/// The steps of some groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    /// Index of the first group.
    first: usize,
    pub(super) scales: Vec<f32>,
    /// Empty where zero stands for itself.
    zeros: Vec<f32>,
}

impl Steps {
    /// The step of a group.
    pub(super) fn of(&self, group: usize) -> Step {
        let at = group - self.first;
        Step { scale: self.scales[at], zero: self.zeros.get(at).copied().unwrap_or(0.0) }
    }

    /// Indices of the groups.
    pub(super) fn groups(&self) -> Range<usize> {
        self.first..self.first + self.scales.len()
    }
}

/// What decoding needs room for.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) bytes: Vec<u8>,
    codes: Vec<u8>,
    pub(super) numbers: Vec<f32>,
}

impl Coded<'_> {
    /// What the weight is called where it is not in codes.
    pub(super) fn name(&self) -> String {
        format!("{}.weight", self.codes.module())
    }

    /// Bytes of all its tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.codes.len + self.scale.len + self.beside.iter().map(|(_, tensor)| tensor.len).sum::<u64>()
    }

    /// How the weight is stored, in words.
    pub(super) fn describe(&self) -> String {
        format!("{} {}", self.form.numbers(), self.form.grid.describe())
    }

    pub(super) fn sides(&self) -> [usize; 2] {
        self.form.grid.sides(self.matrix)
    }

    /// How many groups lie beside each other.
    pub(super) fn across(&self) -> usize {
        self.form.grid.across(self.matrix)
    }

    /// What numbers of a weight of this dtype pass through on the way to their step.
    pub(super) fn rounding(&self, source: safetensors::Dtype) -> Rounding {
        Rounding { source, scale: self.scale.dtype, global: self.global }
    }

    /// Reads the codes of a piece, one for each weight.
    pub(super) fn read_codes(
        &self,
        shards: &Shards,
        piece: &Piece,
        bytes: &mut Vec<u8>,
        codes: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let packing = self.form.storage().codes().packing;
        let (stride, columns) = (packing.bytes(self.matrix[1]), piece.columns.len());
        // A piece is whole rows, or begins where whole words do.
        let width = if columns == self.matrix[1] { stride } else { packing.bytes(columns) };
        let from = piece.rows.start * stride + packing.bytes(piece.columns.start);
        shards.read(self.codes, from as u64, piece.rows.len() * width, bytes)?;
        if packing == Packing::Bytes {
            std::mem::swap(bytes, codes);
            return Ok(());
        }
        codes.clear();
        if width > 0 {
            bytes.chunks(width).for_each(|row| packing.unpack(row, columns, codes));
        }
        Ok(())
    }

    /// Reads the steps of all groups that these rows touch.
    pub(super) fn steps(&self, shards: &Shards, rows: &Range<usize>) -> Result<Steps, SourceError> {
        let (touched, across) = (self.form.grid.touched(self.matrix, rows), self.across());
        let groups = touched.start * across..touched.end * across;
        let mut bytes = Vec::new();
        let mut steps = Steps { first: groups.start, ..Steps::default() };
        let width = self.scale.dtype.bitsize() / 8;
        shards.read(self.scale, (groups.start * width) as u64, groups.len() * width, &mut bytes)?;
        self.form.storage().scales(self.scale.dtype, &bytes, self.global, &mut steps.scales);
        for (beside, tensor) in &self.beside {
            match *beside {
                Beside::WeightShape | Beside::GlobalScale => {}
                Beside::ZeroPoints => {
                    shards.read(tensor, groups.start as u64, groups.len(), &mut bytes)?;
                    steps.zeros.extend(bytes.iter().map(|byte| f32::from(byte.cast_signed())));
                }
                Beside::PackedZeroPoints { bits } => {
                    let words = touched.start * bits as usize / 32..packing::words(touched.end, bits);
                    let from = words.start * across * 4;
                    shards.read(tensor, from as u64, words.len() * across * 4, &mut bytes)?;
                    let first = words.start * 32;
                    steps.zeros.extend(touched.clone().flat_map(|row| {
                        let bit = row * bits as usize - first;
                        let bytes = &bytes;
                        (0..across).map(move |column| {
                            let code = packing::integer_down(bytes, column, across, bit, bits);
                            f32::from(code.cast_signed())
                        })
                    }));
                }
            }
        }
        Ok(steps)
    }

    /// Decodes a piece.
    pub(super) fn decode(
        &self,
        shards: &Shards,
        piece: &Piece,
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        let Scratch { bytes, codes, .. } = scratch;
        self.read_codes(shards, piece, bytes, codes)?;
        let steps = self.steps(shards, &piece.rows)?;
        let (book, [height, width], across) = (self.form.storage().book(), self.sides(), self.across());
        out.clear();
        for (row, codes) in piece.rows.clone().zip(codes.chunks(piece.columns.len().max(1))) {
            out.extend(piece.columns.clone().zip(codes).map(|(column, &code)| {
                let Step { scale, zero } = steps.of(row / height * across + column / width);
                (book.value[usize::from(code)] - zero) * scale
            }));
        }
        Ok(())
    }
}
