//! Weights that are stored transposed: the words of a piece, and the qparams of rows that are columns of the file.

use std::ops::Range;

use super::element::widen;
use super::quantized_weight::{QparamsRange, QuantizedWeight};
use super::shards::{Piece, Shards};
use super::storage::{AuxRole, TransposedStorage, TransposedWords};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// The half-bytes of a word in which AWQ stores the first, second, … of eight rows.
const HALF_BYTES: [usize; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl TransposedStorage {
    /// Returns the integers of a word.
    fn per_word(self) -> usize {
        32 / self.bits as usize
    }

    /// Returns the integer at a place of a word, from the lowest bits on, as two's complement: lowered by half of its
    /// range.
    fn integer(self, word: u32, place: usize) -> u8 {
        let raised = word >> (place as u32 * self.bits) & (u32::MAX >> (32 - self.bits));
        (raised as i32 - (1 << (self.bits - 1))) as u8
    }

    /// Returns the place in its word of what belongs to a row, where a word holds that of neighbouring rows.
    fn place_of_row(self, row: usize) -> usize {
        match self.words {
            TransposedWords::Rows => HALF_BYTES[row % 8],
            TransposedWords::Columns { .. } => row % self.per_word(),
        }
    }

    /// Returns rows and columns of a weight whose codes have the shape `stored`, as far as these tell.
    pub(crate) fn shape(self, [down, across]: [usize; 2]) -> [usize; 2] {
        // Saturating: a matrix without rows may declare any number of columns.
        match self.words {
            TransposedWords::Rows => [across.saturating_mul(self.per_word()), down],
            TransposedWords::Columns { .. } => [across, down.saturating_mul(self.per_word())],
        }
    }

    /// Returns the stored rows of the codes of a weight with so many columns.
    pub(crate) fn stored_rows(self, columns: usize) -> usize {
        match self.words {
            TransposedWords::Rows => columns,
            TransposedWords::Columns { .. } => columns.div_ceil(self.per_word()),
        }
    }

    /// Reads the codes of a piece, a byte for each weight, and returns the number of bytes that were read for them.
    pub(super) fn read_codes(
        self,
        codes: &Tensor,
        shards: &Shards,
        piece: &Piece,
        bytes: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<u64, SourceError> {
        let (across, per_word) = (codes.shape[1], self.per_word());
        let (height, width) = (piece.rows.len(), piece.columns.len());
        out.clear();
        out.resize(height * width, 0);
        let mut read = 0;
        match self.words {
            TransposedWords::Rows => {
                let words = piece.rows.start / per_word..piece.rows.end.div_ceil(per_word);
                for (at, column) in piece.columns.clone().enumerate() {
                    shards.read(codes, ((column * across + words.start) * 4) as u64, words.len() * 4, bytes)?;
                    read += bytes.len() as u64;
                    for (index, row) in piece.rows.clone().enumerate() {
                        let word = word(bytes, row / per_word - words.start);
                        out[index * width + at] = self.integer(word, self.place_of_row(row));
                    }
                }
            }
            TransposedWords::Columns { .. } => {
                for stored in piece.columns.start / per_word..piece.columns.end.div_ceil(per_word) {
                    shards.read(codes, ((stored * across + piece.rows.start) * 4) as u64, height * 4, bytes)?;
                    read += bytes.len() as u64;
                    let held = stored * per_word..(stored + 1) * per_word;
                    let columns = held.start.max(piece.columns.start)..held.end.min(piece.columns.end);
                    for index in 0..height {
                        let word = word(bytes, index);
                        for column in columns.clone() {
                            let at = index * width + column - piece.columns.start;
                            out[at] = self.integer(word, column - held.start);
                        }
                    }
                }
            }
        }
        Ok(read)
    }

    /// Reads the qparams of all groups in these rows.
    pub(super) fn qparams(
        self,
        weight: &QuantizedWeight<'_>,
        shards: &Shards,
        rows: &Range<usize>,
    ) -> Result<QparamsRange, SourceError> {
        let (groups, all, size) = (weight.across(), weight.shape[0], weight.scale.dtype.bitsize() / 8);
        let (mut scales, mut zeros) = (vec![0.0; groups * rows.len()], vec![0.0; groups * rows.len()]);
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let points = weight.beside_with(|role| matches!(role, AuxRole::TransposedZeroPoints { .. }));
        // A carry of one field goes into the next: GPTQModel subtracts from whole words when it saves.
        let one = match self.words {
            TransposedWords::Columns { less_one: true, .. } => u32::MAX / (u32::MAX >> (32 - self.bits)),
            _ => 0,
        };
        for group in 0..groups {
            shards.read(weight.scale, ((group * all + rows.start) * size) as u64, rows.len() * size, &mut bytes)?;
            widen(weight.scale.dtype, &bytes, &mut values);
            for (row, value) in values.iter().enumerate() {
                scales[row * groups + group] = *value;
            }
            let Some(tensor) = points else { continue };
            let words = rows.start / self.per_word()..rows.end.div_ceil(self.per_word());
            let from = (group * tensor.shape[1] + words.start) * 4;
            shards.read(tensor, from as u64, words.len() * 4, &mut bytes)?;
            for row in rows.clone() {
                let word = word(&bytes, row / self.per_word() - words.start).wrapping_add(one);
                let zero = self.integer(word, self.place_of_row(row)).cast_signed();
                zeros[(row - rows.start) * groups + group] = f32::from(zero);
            }
        }
        Ok(QparamsRange { first: rows.start * groups, scales, zeros })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.as_chunks().0.get(at).map_or(0, |raw| u32::from_le_bytes(*raw))
}

impl QuantizedWeight<'_> {
    /// Reads the group of each column, where a tensor tells it.
    pub(crate) fn groups_of_columns(&self, shards: &Shards) -> Result<Option<Vec<i32>>, SourceError> {
        let Some(tensor) = self.beside_with(|role| matches!(role, AuxRole::GroupsOfColumns { .. })) else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        shards.read(tensor, 0, tensor.len as usize, &mut bytes)?;
        Ok(Some(bytes.as_chunks().0.iter().map(|raw| i32::from_le_bytes(*raw)).collect()))
    }
}
