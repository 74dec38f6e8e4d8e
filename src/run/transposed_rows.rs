//! Rows of values out of a weight that is stored transposed, its integers in words: AWQ's and GPTQ's.

use std::ops::Range;

use qwen_fp8_schemes::{
    CodeFormat, Simd, SourceDtype, StoredCodes, WordStrip, decode, scale_values, unpack_codes, unpack_zeros,
};

use crate::checkpoint::Tensor;
use crate::plan::{PlannedInput, QuantizedSource, Transposed};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::planned::{columns, width};
use crate::run::sources::Sources;
use crate::run::transpose::{SPARSE, STRIP_BYTES};

/// A weight that is read.
pub(super) struct TransposedRows<'a> {
    pub(super) sources: &'a Sources<'a>,
    pub(super) input: &'a PlannedInput,
    pub(super) source: &'a QuantizedSource,
    pub(super) transposed: &'a Transposed,
    pub(super) simd: Simd,
}

/// The stored rows of words, and what is wanted of each.
struct WordRuns {
    /// Number of stored rows.
    count: usize,
    /// Bytes from one to the next in the file.
    apart: usize,
    /// Bytes that are wanted of each.
    run: usize,
}

impl WordRuns {
    fn of(source: &QuantizedSource, words: usize) -> Self {
        let &[count, across] = source.codes.shape.as_slice() else { return Self { count: 0, apart: 0, run: 0 } };
        Self { count, apart: across * 4, run: words.min(across) * 4 }
    }

    /// Returns the bytes from one stored row to the next in memory: what lies between is read too where that is little.
    fn pitch(&self) -> usize {
        if self.run * SPARSE >= self.apart { self.apart } else { self.run }
    }

    /// Returns the stored rows that are read at a time, few enough to add little memory to the codes.
    fn strip(&self) -> usize {
        let bytes = STRIP_BYTES.min(self.run * self.count / 4);
        (bytes / self.pitch().max(1)).clamp(1, self.count.max(1))
    }

    /// Returns the bytes of a strip of so many, of which the last ends with what is wanted of it.
    fn reach(&self, strip: usize) -> usize {
        strip.saturating_sub(1) * self.pitch() + self.run
    }
}

/// Returns the most words of a stored row that hold so many rows of values, wherever these begin.
fn most_words(transposed: &Transposed, bits: u32, rows: usize) -> usize {
    let per_word = 32 / bits as usize;
    transposed.order.words(&(per_word - 1..per_word - 1 + rows), bits).len()
}

fn bits_of(source: &QuantizedSource) -> u32 {
    match source.format {
        CodeFormat::PackedInteger(bits) => bits,
        // Nothing else is stored transposed.
        CodeFormat::E4m3 | CodeFormat::E2m3 | CodeFormat::E2m1 | CodeFormat::Integer => 8,
    }
}

/// Returns the bytes of memory that reading this many rows of values takes beside the rows themselves.
pub(super) fn scratch(input: &PlannedInput, source: &QuantizedSource, transposed: &Transposed, rows: usize) -> usize {
    // Fewer words between which nothing is read leave room for more rows of them.
    let most = most_words(transposed, bits_of(source), rows);
    let strip = |words| {
        let runs = WordRuns::of(source, words);
        runs.reach(runs.strip())
    };
    rows * columns(input) + (1..=most).map(strip).max().unwrap_or(0)
}

impl TransposedRows<'_> {
    /// Fills `out` with rows of values from `first_row` on; returns how many bytes were read.
    pub(super) fn read(&self, first_row: usize, out: &mut [u8], scratch: &mut Buffer) -> Result<u64, RunError> {
        let (columns, granule) = (columns(self.input), self.source.granule);
        let row_bytes = columns * width(self.input);
        let (Some(rows), Ok(dtype)) = (out.len().checked_div(row_bytes), SourceDtype::try_from(self.input.dtype))
        else {
            return Ok(0);
        };
        let wanted = first_row..first_row + rows;
        let groups = columns.div_ceil(granule[1]);
        let mut bytes = Vec::new();
        let mut read = 0;
        let groups_of_columns = match &self.transposed.groups {
            Some(tensor) => {
                read += self.sources.read_part(&self.input.name, tensor, 0, columns * 4, &mut bytes)?;
                self.groups_of_columns(tensor, &bytes, groups)?
            }
            None => Vec::new(),
        };
        let (mut scales, mut zeros) = (vec![0.0; rows * groups], Vec::new());
        read += self.scales(&wanted, groups, &mut bytes, &mut scales)?;
        if let Some(tensor) = self.source.zeros.as_ref().map(|zeros| &zeros.tensor) {
            zeros.resize(rows * groups, 0.0);
            read += self.zeros(tensor, &wanted, groups, &mut bytes, &mut zeros)?;
        }
        let (codes, of_codes) = self.codes(&wanted, scratch)?;
        let stored = StoredCodes {
            format: CodeFormat::Integer,
            codes,
            columns,
            first_row: 0,
            group: granule,
            scales: &scales,
            zeros: &zeros,
            groups_of_columns: &groups_of_columns,
        };
        decode(stored, dtype, out, self.simd);
        Ok((read + of_codes) as u64)
    }

    /// Reads the group of each column.
    fn groups_of_columns(&self, tensor: &Tensor, bytes: &[u8], groups: usize) -> Result<Vec<u32>, RunError> {
        let numbers = bytes.as_chunks().0.iter().map(|&raw| i32::from_le_bytes(raw));
        let checked = numbers.enumerate().map(|(column, group)| {
            // A file may say anything; the plan has read shapes alone.
            u32::try_from(group).ok().filter(|&group| (group as usize) < groups).ok_or_else(|| RunError::NoSuchGroup {
                tensor: tensor.name.clone(),
                path: self.sources.path(tensor.shard).to_owned(),
                column,
                group,
                groups,
            })
        });
        checked.collect()
    }

    /// Reads the scales of these rows, group after group, to row after row.
    fn scales(
        &self,
        rows: &Range<usize>,
        groups: usize,
        bytes: &mut Vec<u8>,
        out: &mut [f32],
    ) -> Result<usize, RunError> {
        let scales = &self.source.scales;
        let (size, all) = (scales.dtype.bitsize() / 8, self.input.shape[0]);
        let (mut read, mut values) = (0, Vec::new());
        for group in 0..groups {
            read += self.sources.read_part(
                &self.input.name,
                scales,
                (group * all + rows.start) * size,
                rows.len() * size,
                bytes,
            )?;
            values.clear();
            scale_values(scales.dtype, bytes, None, &mut values);
            out[group..].iter_mut().step_by(groups).zip(&values).for_each(|(out, value)| *out = *value);
        }
        Ok(read)
    }

    /// Reads the zero points of these rows, group after group, to row after row.
    fn zeros(
        &self,
        tensor: &Tensor,
        rows: &Range<usize>,
        groups: usize,
        bytes: &mut Vec<u8>,
        out: &mut [f32],
    ) -> Result<usize, RunError> {
        let (bits, per_word) = (bits_of(self.source), 32 / bits_of(self.source) as usize);
        let across = tensor.shape.last().copied().unwrap_or_default();
        let words = rows.start / per_word..rows.end.div_ceil(per_word);
        let Transposed { order, zeros_less_one, .. } = *self.transposed;
        let mut read = 0;
        for group in 0..groups {
            read += self.sources.read_part(
                &self.input.name,
                tensor,
                (group * across + words.start) * 4,
                words.len() * 4,
                bytes,
            )?;
            unpack_zeros(order, bits, zeros_less_one, bytes, rows, |row, zero| out[row * groups + group] = zero);
        }
        Ok(read)
    }

    /// Reads the codes of these rows, a byte each; returns them, and how many bytes were read.
    fn codes<'s>(&self, rows: &Range<usize>, scratch: &'s mut Buffer) -> Result<(&'s [u8], usize), RunError> {
        let (codes, bits, columns) = (&self.source.codes, bits_of(self.source), columns(self.input));
        let words = self.transposed.order.words(rows, bits);
        let runs = WordRuns::of(self.source, words.len());
        let (height, pitch) = (runs.strip(), runs.pitch());
        let (out, strip) =
            scratch.at_offset(0, rows.len() * columns + runs.reach(height)).split_at_mut(rows.len() * columns);
        let file = self.sources.get(codes.shard)?;
        let mut read = 0;
        for first in (0..runs.count).step_by(height) {
            let count = height.min(runs.count - first);
            let from = codes.offset + (first * runs.apart + words.start * 4) as u64;
            let bytes = &mut strip[..runs.reach(count)];
            // Through the page cache, since neighbours of these rows lie between them.
            let done = if pitch == runs.apart {
                file.read_exact_at(bytes, from)
            } else {
                let mut each = bytes.chunks_mut(pitch.max(1)).enumerate();
                each.try_for_each(|(at, bytes)| file.read_exact_at(bytes, from + (at * runs.apart) as u64))
            };
            done.map_err(|error| self.sources.error(codes.shard, &self.input.name, error))?;
            read += bytes.len();
            let strip = WordStrip { bytes, pitch, first, count };
            unpack_codes(self.transposed.order, bits, strip, rows, columns, out);
        }
        Ok((out, read))
    }
}
