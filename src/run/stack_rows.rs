//! Rows of values out of a stack of experts that is stored as blocks of codes: the rows of one matrix, or those of a
//! stack whose values lie columns first.

use std::io;
use std::ops::Range;

use qwen_fp8_schemes::{Simd, SourceDtype, StoredCodes, decode, scale_values};

use crate::checkpoint::Tensor;
use crate::plan::{CodeRows, PlannedInput, QuantizedSource};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::planned::{columns, width};
use crate::run::sources::Sources;
use crate::run::transpose::{SPARSE, STRIP_BYTES, Strip, transpose};

/// A stack that is read.
pub(super) struct StackRows<'a> {
    pub(super) sources: &'a Sources<'a>,
    pub(super) input: &'a PlannedInput,
    pub(super) source: &'a QuantizedSource,
    pub(super) simd: Simd,
}

/// Stored rows of codes, and the groups that are wanted of each.
struct Wanted {
    /// The first row of the stack.
    first: usize,
    count: usize,
    step: usize,
    groups: Range<usize>,
}

/// The memory of a read, in the order in which it is lent: codes and scales as they are stored, then their values.
struct Parts {
    codes: usize,
    scales: usize,
    values: usize,
}

impl Parts {
    /// The memory for so many stored rows at a time, of which so many groups are decoded.
    fn of(input: &PlannedInput, source: &QuantizedSource, rows: usize, step: usize, groups: usize) -> Self {
        let (group, across) = (source.granule[1], groups_of_a_row(input, source));
        let bytes = source.format.row_bytes(group);
        let reach = if is_dense(groups, step * across) {
            rows.saturating_sub(1) * step * across + groups
        } else {
            rows * groups
        };
        Self { codes: reach * bytes, scales: reach, values: rows * groups * group * width(input) }
    }

    fn all(&self) -> usize {
        self.codes + self.scales + self.values
    }
}

/// Reports whether what lies between the wanted runs is read too.
fn is_dense(run: usize, pitch: usize) -> bool {
    run * SPARSE >= pitch
}

/// Returns the groups of columns in a stored row.
fn groups_of_a_row(input: &PlannedInput, source: &QuantizedSource) -> usize {
    let columns = match source.rows {
        CodeRows::Columns { .. } => input.shape.iter().rev().nth(1).copied().unwrap_or_default(),
        CodeRows::All | CodeRows::Some { .. } => columns(input),
    };
    columns.div_ceil(source.granule[1])
}

/// Returns the stored rows that are decoded at a time, where so many groups of each are wanted.
fn strip(input: &PlannedInput, source: &QuantizedSource, groups: usize) -> usize {
    let value_bytes = (groups * source.granule[1] * width(input)).max(1);
    let most = match source.rows {
        CodeRows::Columns { of_matrix } => of_matrix,
        CodeRows::All => input.shape[0],
        CodeRows::Some { count, .. } => count,
    };
    (STRIP_BYTES / value_bytes).clamp(1, most.max(1))
}

/// Returns the most groups that so many rows of values touch; of a matrix, all that a row has.
fn most_groups(input: &PlannedInput, source: &QuantizedSource, rows: usize) -> usize {
    let across = groups_of_a_row(input, source);
    match source.rows {
        CodeRows::Columns { .. } => across.min(rows / source.granule[1] + 2),
        CodeRows::All | CodeRows::Some { .. } => across,
    }
}

/// Returns the bytes of memory that reading this many rows of values takes beside the rows themselves.
pub(super) fn scratch(input: &PlannedInput, source: &QuantizedSource, rows: usize) -> usize {
    // Fewer groups leave room for more rows at a time.
    let most = most_groups(input, source, rows);
    (1..=most).map(|groups| parts(input, source, groups).all()).max().unwrap_or(0)
}

fn parts(input: &PlannedInput, source: &QuantizedSource, groups: usize) -> Parts {
    let step = if let CodeRows::Some { step, .. } = source.rows { step } else { 1 };
    Parts::of(input, source, strip(input, source, groups), step, groups)
}

impl StackRows<'_> {
    /// Fills `out` with rows of values from `first_row` on; returns how many bytes were read.
    pub(super) fn read(&self, first_row: usize, out: &mut [u8], scratch: &mut Buffer) -> Result<u64, RunError> {
        let (input, source) = (self.input, self.source);
        let row_bytes = columns(input) * width(input);
        let (Some(rows), Ok(dtype)) = (out.len().checked_div(row_bytes), SourceDtype::try_from(input.dtype)) else {
            return Ok(0);
        };
        match source.rows {
            CodeRows::All => Ok(0),
            CodeRows::Some { first, step, .. } => {
                let groups = 0..groups_of_a_row(input, source);
                let strip = strip(input, source, groups.len());
                let mut read = 0;
                for at in (0..rows).step_by(strip) {
                    let count = strip.min(rows - at);
                    let first = first + (first_row + at) * step;
                    let wanted = Wanted { first, count, step, groups: groups.clone() };
                    let (bytes, values) = self.decode(&wanted, dtype, scratch)?;
                    out[at * row_bytes..][..count * row_bytes].copy_from_slice(values);
                    read += bytes;
                }
                Ok(read)
            }
            CodeRows::Columns { of_matrix } => {
                let inputs = input.shape.iter().rev().nth(1).copied().unwrap_or_default().max(1);
                let (mut read, mut done) = (0, 0);
                while done < rows {
                    let (matrix, from) = ((first_row + done) / inputs, (first_row + done) % inputs);
                    let until = inputs.min(from + rows - done);
                    let out = &mut out[done * row_bytes..][..(until - from) * row_bytes];
                    read += self.columns(matrix * of_matrix, of_matrix, from..until, dtype, scratch, out)?;
                    done += until - from;
                }
                Ok(read)
            }
        }
    }

    /// Fills `out` with these columns of a matrix of codes, each as a row.
    fn columns(
        &self,
        first: usize,
        of_matrix: usize,
        wanted: Range<usize>,
        dtype: SourceDtype,
        scratch: &mut Buffer,
        out: &mut [u8],
    ) -> Result<u64, RunError> {
        let (width, group) = (width(self.input), self.source.granule[1]);
        let groups = wanted.start / group..wanted.end.div_ceil(group);
        let strip = strip(self.input, self.source, groups.len());
        let (pitch, skip) = (groups.len() * group * width, (wanted.start - groups.start * group) * width);
        let mut read = 0;
        for at in (0..of_matrix).step_by(strip) {
            let runs = strip.min(of_matrix - at);
            let rows = Wanted { first: first + at, count: runs, step: 1, groups: groups.clone() };
            let (bytes, values) = self.decode(&rows, dtype, scratch)?;
            read += bytes;
            let strip = Strip { bytes: &values[skip..], pitch, step: width, runs };
            match width {
                2 => transpose::<2>(&strip, wanted.len(), &mut out[at * 2..], of_matrix * 2),
                _ => transpose::<4>(&strip, wanted.len(), &mut out[at * 4..], of_matrix * 4),
            }
        }
        Ok(read)
    }

    /// Reads and decodes the wanted groups, row after row; returns how many bytes were read, and the values.
    fn decode<'s>(
        &self,
        wanted: &Wanted,
        dtype: SourceDtype,
        scratch: &'s mut Buffer,
    ) -> Result<(u64, &'s [u8]), RunError> {
        let QuantizedSource { codes, scales, format, granule, .. } = self.source;
        let group = granule[1];
        let parts = parts(self.input, self.source, wanted.groups.len());
        let (codes_at, rest) = scratch.at_offset(0, parts.all()).split_at_mut(parts.codes);
        let (scales_at, values) = rest.split_at_mut(parts.scales);
        let stored_codes = self.gather(codes, wanted, format.row_bytes(group), codes_at)?;
        let stored_scales = self.gather(scales, wanted, 1, scales_at)?;
        let read = stored_codes.1 + stored_scales.1;
        let mut numbers = Vec::with_capacity(stored_scales.0.len());
        scale_values(scales.dtype, stored_scales.0, None, &mut numbers);
        let columns = wanted.groups.len() * group;
        let values = &mut values[..wanted.count * columns * width(self.input)];
        let stored = StoredCodes {
            format: *format,
            codes: stored_codes.0,
            columns,
            first_row: 0,
            group: *granule,
            scales: &numbers,
            zeros: &[],
            groups_of_columns: &[],
        };
        decode(stored, dtype, values, self.simd);
        Ok((read, values))
    }

    /// Reads the wanted groups of a tensor, of which each has so many bytes, to the front of `out`; returns them, and how
    /// many bytes were read.
    fn gather<'b>(
        &self,
        tensor: &Tensor,
        wanted: &Wanted,
        of_group: usize,
        out: &'b mut [u8],
    ) -> Result<(&'b [u8], u64), RunError> {
        let Wanted { first, count, step, groups } = wanted;
        let row = groups_of_a_row(self.input, self.source) * of_group;
        let (run, pitch) = (groups.len() * of_group, step * row);
        let from = tensor.offset + (first * row + groups.start * of_group) as u64;
        let file = self.sources.get(tensor.shard)?;
        let failed = |error: io::Error| self.sources.error(tensor.shard, &self.input.name, error);
        let read = if is_dense(run, pitch) {
            let reach = count.saturating_sub(1) * pitch + run;
            file.read_exact_at(&mut out[..reach], from).map_err(failed)?;
            // To the front, where every row but the first lies behind its place.
            for at in 1..*count {
                out.copy_within(at * pitch..at * pitch + run, at * run);
            }
            reach
        } else {
            for (at, bytes) in out[..count * run].chunks_mut(run.max(1)).enumerate() {
                file.read_exact_at(bytes, from + (at * pitch) as u64).map_err(failed)?;
            }
            count * run
        };
        Ok((&out[..count * run], read as u64))
    }
}
