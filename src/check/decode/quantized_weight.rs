//! A quantized weight: its tensors, and the values that codes and qparams stand for.

use std::fmt;
use std::ops::Range;

use safetensors::Dtype;

use super::element::{SCALE_FLOATS, widen};
use super::granularity::Granularity;
use super::packing::{Packing, integer_down, words};
use super::shards::{Piece, Shards};
use super::storage::{AuxRole, AuxTensor, Qparams, Rounding, Storage};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A storage form and its granularity.
#[derive(Clone, Copy)]
pub(crate) struct WeightForm {
    pub(crate) storage: &'static dyn Storage,
    pub(crate) granularity: Granularity,
}

impl PartialEq for WeightForm {
    fn eq(&self, other: &Self) -> bool {
        // Forms are compared by name: they are trait objects, and no two have the same one.
        self.granularity == other.granularity && self.storage.name() == other.storage.name()
    }
}

impl fmt::Debug for WeightForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

impl WeightForm {
    /// Describes the form, such as `F8_E4M3 blocks of 128 × 128`.
    pub(crate) fn describe(&self) -> String {
        format!("{} {}", self.storage.values(), self.granularity.describe())
    }
}

/// A quantized weight whose tensors fit each other in name, shape and dtype.
#[derive(Clone, Debug)]
pub(crate) struct QuantizedWeight<'a> {
    pub(crate) codes: &'a Tensor,
    pub(crate) scale: &'a Tensor,
    /// The auxiliary tensors, in the order of the storage form.
    pub(crate) auxiliary: Vec<(AuxTensor, &'a Tensor)>,
    /// The scale of static activations, which decoding does not need.
    pub(crate) activations: Option<&'a Tensor>,
    /// Its value; `None` where there is none, or no single float.
    pub(crate) input_scale: Option<f32>,
    /// Rows and columns of the weight.
    pub(crate) shape: [usize; 2],
    /// The factor by which scales were multiplied before they were rounded; 1 where there is none.
    pub(crate) global: f32,
    pub(crate) form: WeightForm,
}

/// The qparams of consecutive groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct QparamsRange {
    /// Index of the first group.
    pub(super) first: usize,
    pub(super) scales: Vec<f32>,
    /// Empty where the storage form has no zero points.
    pub(super) zeros: Vec<f32>,
}

impl QparamsRange {
    /// Returns the qparams of a group.
    pub(crate) fn of(&self, group: usize) -> Qparams {
        let at = group - self.first;
        Qparams { scale: self.scales[at], zero: self.zeros.get(at).copied().unwrap_or(0.0) }
    }

    /// Returns the indices of the groups.
    pub(crate) fn groups(&self) -> Range<usize> {
        self.first..self.first + self.scales.len()
    }
}

/// Buffers of a thread that decodes.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) bytes: Vec<u8>,
    codes: Vec<u8>,
    pub(crate) values: Vec<f32>,
    /// Set by whoever rounds values to a dtype that does not hold all of them.
    pub(crate) rounded: bool,
}

impl<'a> QuantizedWeight<'a> {
    /// Returns the name that the weight has unquantized.
    pub(crate) fn name(&self) -> String {
        format!("{}.weight", self.codes.module())
    }

    /// Returns the bytes of all its tensors.
    pub(crate) fn bytes(&self) -> u64 {
        self.codes.len + self.qparams_bytes()
    }

    /// Returns the bytes of the tensors beside its codes.
    pub(crate) fn qparams_bytes(&self) -> u64 {
        self.scale.len + self.beside().map(|tensor| tensor.len).sum::<u64>()
    }

    /// Returns the tensors beside codes and scales.
    pub(crate) fn beside(&self) -> impl Iterator<Item = &'a Tensor> {
        self.auxiliary.iter().map(|(_, tensor)| *tensor).chain(self.activations)
    }

    /// Returns the rows and columns that share a scale.
    pub(crate) fn sides(&self) -> [usize; 2] {
        self.form.granularity.sides(self.shape)
    }

    /// Returns the number of groups side by side.
    pub(crate) fn across(&self) -> usize {
        self.form.granularity.across(self.shape)
    }

    /// Returns the tensor of the global scale, where the storage form has one.
    pub(crate) fn global_scale(&self) -> Option<&'a Tensor> {
        self.beside_with(|role| role == AuxRole::GlobalScale)
    }

    /// Reads the scale of static activations.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read_input_scale(&self, shards: &Shards) -> Result<Option<f32>, SourceError> {
        let is_float = |tensor: &&Tensor| tensor.parameters() == 1 && SCALE_FLOATS.contains(&tensor.dtype);
        let Some(tensor) = self.activations.filter(is_float) else { return Ok(None) };
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        shards.read(tensor, 0, tensor.len as usize, &mut bytes)?;
        widen(tensor.dtype, &bytes, &mut values);
        Ok(values.first().copied())
    }

    /// Returns the auxiliary tensor with such a role.
    pub(super) fn beside_with(&self, is: impl Fn(AuxRole) -> bool) -> Option<&'a Tensor> {
        self.auxiliary.iter().find(|(auxiliary, _)| is(auxiliary.role)).map(|(_, tensor)| *tensor)
    }

    /// Returns the dtypes between weights of this dtype and their qparams.
    pub(crate) fn rounding(&self, source: Dtype) -> Rounding {
        Rounding { source, scale: self.scale.dtype, global: self.global }
    }

    /// Reads the codes of a piece, a byte for each weight, and returns the number of bytes that they are stored in.
    pub(crate) fn read_codes(
        &self,
        shards: &Shards,
        piece: &Piece,
        bytes: &mut Vec<u8>,
        codes: &mut Vec<u8>,
    ) -> Result<u64, SourceError> {
        if let Some(transposed) = self.form.storage.transposed() {
            return transposed.read_codes(self.codes, shards, piece, bytes, codes);
        }
        let packing = self.form.storage.codes().packing;
        let (stride, columns) = (packing.bytes(self.shape[1]), piece.columns.len());
        // A piece is whole rows, or begins at a multiple of 2^18 columns, where a word begins too.
        let width = if columns == self.shape[1] { stride } else { packing.bytes(columns) };
        let from = piece.rows.start * stride + packing.bytes(piece.columns.start);
        let read = piece.rows.len() * width;
        shards.read(self.codes, from as u64, read, bytes)?;
        if packing == Packing::Bytes {
            // Nothing to unpack: the buffers change places instead of being copied.
            std::mem::swap(bytes, codes);
            return Ok(read as u64);
        }
        codes.clear();
        if width > 0 {
            bytes.chunks(width).for_each(|row| packing.unpack(row, columns, codes));
        }
        Ok(read as u64)
    }

    /// Reads the qparams of all groups that these rows touch.
    pub(crate) fn qparams(&self, shards: &Shards, rows: &Range<usize>) -> Result<QparamsRange, SourceError> {
        if let Some(transposed) = self.form.storage.transposed() {
            return transposed.qparams(self, shards, rows);
        }
        let (touched, across) = (self.form.granularity.touched(self.shape, rows), self.across());
        let groups = touched.start * across..touched.end * across;
        let mut bytes = Vec::new();
        let mut qparams = QparamsRange { first: groups.start, ..QparamsRange::default() };
        let width = self.scale.dtype.bitsize() / 8;
        shards.read(self.scale, (groups.start * width) as u64, groups.len() * width, &mut bytes)?;
        self.form.storage.scales(self.scale.dtype, &bytes, self.global, &mut qparams.scales);
        for (auxiliary, tensor) in &self.auxiliary {
            match auxiliary.role {
                AuxRole::WeightShape | AuxRole::GlobalScale => {}
                // Only weights that are stored transposed have these.
                AuxRole::TransposedZeroPoints { .. } | AuxRole::GroupsOfColumns { .. } => {}
                AuxRole::ZeroPoints => {
                    shards.read(tensor, groups.start as u64, groups.len(), &mut bytes)?;
                    qparams.zeros.extend(bytes.iter().map(|byte| f32::from(byte.cast_signed())));
                }
                AuxRole::PackedZeroPoints { bits } => {
                    // Packed down the rows: only the rows of words that hold the touched rows of groups are read.
                    let packed = touched.start * bits as usize / 32..words(touched.end, bits);
                    let from = packed.start * across * 4;
                    shards.read(tensor, from as u64, packed.len() * across * 4, &mut bytes)?;
                    let first_bit = packed.start * 32;
                    for row in touched.clone() {
                        let bit = row * bits as usize - first_bit;
                        let zero = |column| f32::from(integer_down(&bytes, column, across, bit, bits).cast_signed());
                        qparams.zeros.extend((0..across).map(zero));
                    }
                }
            }
        }
        Ok(qparams)
    }

    /// Decodes a piece.
    pub(crate) fn decode(
        &self,
        shards: &Shards,
        piece: &Piece,
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) -> Result<(), SourceError> {
        let Scratch { bytes, codes, .. } = scratch;
        self.read_codes(shards, piece, bytes, codes)?;
        let qparams = self.qparams(shards, &piece.rows)?;
        let (book, [height, width], across) = (self.form.storage.codebook(), self.sides(), self.across());
        out.clear();
        if let Some(groups) = self.groups_of_columns(shards)? {
            for (row, codes) in piece.rows.clone().zip(codes.chunks(piece.columns.len().max(1))) {
                out.extend(codes.iter().zip(&groups[piece.columns.clone()]).map(|(&code, &group)| {
                    let Qparams { scale, zero } = qparams.of(row / height * across + group as usize);
                    (book.value[usize::from(code)] - zero) * scale
                }));
            }
            return Ok(());
        }
        for (row, mut codes) in piece.rows.clone().zip(codes.chunks(piece.columns.len().max(1))) {
            let mut column = piece.columns.start;
            while !codes.is_empty() {
                let (run, rest) = codes.split_at((width - column % width).min(codes.len()));
                let Qparams { scale, zero } = qparams.of(row / height * across + column / width);
                out.extend(run.iter().map(|&code| (book.value[usize::from(code)] - zero) * scale));
                column += run.len();
                codes = rest;
            }
        }
        Ok(())
    }
}
