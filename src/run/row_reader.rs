//! Reads rows of an input that is not stored row after row, but in steps within a stack or as codes and scales.

use std::io;

use qwen_fp8_schemes::{GlobalFactor, Simd, SourceDtype, StoredCodes, decode, packed_down, packed_rows, scale_values};

use crate::checkpoint::experts::ElementSteps;
use crate::plan::{CodeRows, InputData, PlannedInput, QuantizedSource, ZeroPointTensor};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::planned::{columns, width};
use crate::run::sources::{ShardReader, Sources};
use crate::run::stack_rows::{self, StackRows};
use crate::run::transpose::{SPARSE, STRIP_BYTES, Strip, transpose};
use crate::run::transposed_rows::{self, TransposedRows};

/// The runs of bytes that hold the wanted rows, one for each row or one for each column.
struct Runs {
    /// Bytes of an element.
    width: usize,
    /// Bytes from the first element of a run to the next one that is wanted.
    step: usize,
    /// Number of runs.
    count: usize,
    /// Bytes from one run to the next.
    apart: usize,
    /// Bytes from the first to the last one wanted of a run.
    run: usize,
    /// Set where a run is a column of the input.
    columns: bool,
}

impl Runs {
    /// The runs of this many rows of the input.
    fn of(input: &PlannedInput, steps: ElementSteps, rows: usize) -> Self {
        let (width, across) = (width(input), columns(input));
        let [row, column] = [steps.row, steps.column].map(|step| step as usize);
        let columns = column != width;
        let (step, wanted, apart, count) =
            if columns { (row, rows, column, across) } else { (width, across, row, rows) };
        // A single row has no step to the next.
        let step = if wanted > 1 { step } else { width };
        Self { width, step, count, apart, run: wanted.saturating_sub(1) * step + width, columns }
    }

    /// Returns whether what lies between the runs is read too.
    fn is_dense(&self) -> bool {
        self.run * SPARSE >= self.apart
    }

    /// Returns the bytes from one run to the next in a strip.
    fn pitch(&self) -> usize {
        if self.is_dense() { self.apart } else { self.run }
    }

    /// Returns the number of runs in a strip, few enough to add little memory to the rows that it is read for.
    fn strip(&self) -> usize {
        let bytes = STRIP_BYTES.min(self.run * self.count / 4);
        (bytes / self.pitch().max(1)).clamp(1, self.count.max(1))
    }

    /// Returns the bytes of memory for a strip; the last run ends with what is needed of it.
    fn scratch(&self) -> usize {
        (self.strip() - 1) * self.pitch() + self.run
    }
}

/// Returns the bytes of memory that reading this many rows of the input takes beside the rows themselves.
pub(super) fn scratch(input: &PlannedInput, rows: usize) -> usize {
    match &input.data {
        InputData::Stored { .. } => 0,
        InputData::Strided { steps, .. } => Runs::of(input, *steps, rows).scratch(),
        InputData::Quantized(source) => match (&source.transposed, source.rows) {
            (Some(transposed), _) => transposed_rows::scratch(input, source, transposed, rows),
            (None, CodeRows::All) => rows * source.format.row_bytes(columns(input)),
            (None, _) => stack_rows::scratch(input, source, rows),
        },
    }
}

/// Puts rows of inputs together, in memory that is allocated once.
pub(super) struct RowReader {
    scratch: Buffer,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
    simd: Simd,
}

impl RowReader {
    /// Creates a reader with room for the scratch memory of every read to come.
    pub(super) fn new(scratch: Buffer, simd: Simd) -> Self {
        Self { scratch, bytes: Vec::new(), scales: Vec::new(), zeros: Vec::new(), simd }
    }

    /// Touches the scratch memory, on the thread that will use it.
    pub(super) fn fill(&mut self) {
        self.scratch.fill();
    }

    /// Fills `out` with rows of the input from `first_row` on; returns how many bytes were read.
    pub(super) fn read(
        &mut self,
        sources: &Sources<'_>,
        input: &PlannedInput,
        first_row: usize,
        out: &mut [u8],
    ) -> Result<u64, RunError> {
        match &input.data {
            InputData::Stored { .. } => Ok(0),
            InputData::Strided { shard, offset, steps } => {
                let rows = out.len().checked_div(columns(input) * width(input)).unwrap_or(0);
                if rows == 0 {
                    return Ok(0);
                }
                let first = offset + first_row as u64 * steps.row;
                let runs = Runs::of(input, *steps, rows);
                let source = sources.get(*shard)?;
                let read = self.strided(&source, &runs, first, out);
                read.map_err(|error| sources.error(*shard, &input.name, error))
            }
            InputData::Quantized(source) => {
                match (&source.transposed, source.rows) {
                    (Some(transposed), _) => TransposedRows { sources, input, source, transposed, simd: self.simd }
                        .read(first_row, out, &mut self.scratch),
                    (None, CodeRows::All) => self.quantized(sources, input, source, first_row, out),
                    (None, _) => {
                        StackRows { sources, input, source, simd: self.simd }.read(first_row, out, &mut self.scratch)
                    }
                }
            }
        }
    }

    /// Reads through the page cache, since neighbours of these rows lie between them.
    fn strided(&mut self, source: &ShardReader<'_>, runs: &Runs, first: u64, out: &mut [u8]) -> io::Result<u64> {
        let (pitch, row_bytes) = (runs.pitch(), if runs.columns { runs.count * runs.width } else { runs.run });
        let rows = out.len() / row_bytes;
        let mut read = 0;
        for at in (0..runs.count).step_by(runs.strip()) {
            let strip = runs.strip().min(runs.count - at);
            let from = first + (at * runs.apart) as u64;
            // The last run ends with what is needed of it: behind it the file may end.
            let bytes = self.scratch.at_offset(0, (strip - 1) * pitch + runs.run);
            if runs.is_dense() {
                source.read_exact_at(bytes, from)?;
            } else {
                for (run, bytes) in bytes.chunks_mut(pitch).enumerate() {
                    source.read_exact_at(bytes, from + (run * runs.apart) as u64)?;
                }
            }
            read += bytes.len() as u64;
            if !runs.columns {
                let out = out[at * row_bytes..].chunks_exact_mut(row_bytes);
                out.zip(bytes.chunks(pitch)).for_each(|(out, run)| out.copy_from_slice(&run[..row_bytes]));
                continue;
            }
            let strip = Strip { bytes, pitch, step: runs.step, runs: strip };
            let out = &mut out[at * runs.width..];
            match runs.width {
                2 => transpose::<2>(&strip, rows, out, row_bytes),
                _ => transpose::<4>(&strip, rows, out, row_bytes),
            }
        }
        Ok(read)
    }

    fn quantized(
        &mut self,
        sources: &Sources<'_>,
        input: &PlannedInput,
        source: &QuantizedSource,
        first_row: usize,
        out: &mut [u8],
    ) -> Result<u64, RunError> {
        let columns = columns(input);
        // The values of a quantized input have a dtype that can be quantized again.
        let Ok(dtype) = SourceDtype::try_from(input.dtype) else { return Ok(0) };
        let Some(rows) = (out.len() / width(input)).checked_div(columns).filter(|&rows| rows > 0) else { return Ok(0) };
        let QuantizedSource { codes, scales, global, zeros, format, granule, .. } = source;
        let row_bytes = format.row_bytes(columns);
        let (at, len) = (codes.offset + (first_row * row_bytes) as u64, rows * row_bytes);
        let read = sources.get(codes.shard)?.read(&mut self.scratch, at, len, at);
        read.map_err(|error| sources.error(codes.shard, &input.name, error))?;
        let mut read = len;

        let factor = match global {
            None => None,
            Some(global) => {
                read += sources.read_part(&input.name, &global.tensor, 0, 4, &mut self.bytes)?;
                let factor = self.bytes.first_chunk().map_or(f32::NAN, |raw| f32::from_le_bytes(*raw));
                Some(if global.divides { GlobalFactor::Divides(factor) } else { GlobalFactor::Multiplies(factor) })
            }
        };
        let [height, group] = *granule;
        let across = columns.div_ceil(group);
        let touched = first_row / height..(first_row + rows).div_ceil(height);
        let bytes = scales.dtype.bitsize() / 8;
        let (from, len) = (touched.start * across * bytes, touched.len() * across * bytes);
        read += sources.read_part(&input.name, scales, from, len, &mut self.bytes)?;
        self.scales.clear();
        scale_values(scales.dtype, &self.bytes, factor, &mut self.scales);
        self.zeros.clear();
        match zeros {
            None => {}
            Some(ZeroPointTensor { tensor, packed: None }) => {
                read += sources.read_part(
                    &input.name,
                    tensor,
                    touched.start * across,
                    touched.len() * across,
                    &mut self.bytes,
                )?;
                self.zeros.extend(self.bytes.iter().map(|byte| f32::from(byte.cast_signed())));
            }
            Some(ZeroPointTensor { tensor, packed: Some(bits) }) => {
                let words = packed_rows(&touched, *bits);
                let (from, len) = (words.start * across * 4, words.len() * across * 4);
                read += sources.read_part(&input.name, tensor, from, len, &mut self.bytes)?;
                packed_down(&self.bytes, &touched, across, *bits, &mut self.zeros);
            }
        }
        let codes = StoredCodes {
            format: *format,
            codes: self.scratch.filled(at, rows * row_bytes),
            columns,
            first_row,
            group: *granule,
            scales: &self.scales,
            zeros: &self.zeros,
            groups_of_columns: &[],
        };
        decode(codes, dtype, out, self.simd);
        Ok(read as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::Dtype;

    use super::*;
    use crate::checkpoint::{Shard, source};

    /// Writes a matrix of elements that tell their place, and reads rows of the part of it that takes every `of`th
    /// output from `part` on; outputs are stored columns where it is stored `transposed`.
    struct Case {
        stored: [usize; 2],
        transposed: bool,
        part: usize,
        of: usize,
        width: usize,
    }

    impl Case {
        fn check(&self, first: usize, rows: usize) {
            let &Case { stored: [stored_rows, stored_columns], transposed, part, of, width } = self;
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("shard");
            let element = |row: usize, column: usize| ((row * stored_columns + column) as u32).to_le_bytes();
            let places = (0..stored_rows).flat_map(|row| (0..stored_columns).map(move |column| (row, column)));
            let mut file = vec![0xEE; 40];
            file.extend(places.flat_map(|(row, column)| element(row, column)[..width].to_vec()));
            std::fs::write(&path, &file).unwrap();
            let (outputs, inputs) =
                if transposed { (stored_columns, stored_rows) } else { (stored_rows, stored_columns) };
            let (output, input) =
                if transposed { (width, stored_columns * width) } else { (stored_columns * width, width) };
            let steps = ElementSteps { row: (of * output) as u64, column: input as u64 };
            let input = PlannedInput {
                name: "t".to_owned(),
                dtype: if width == 2 { Dtype::BF16 } else { Dtype::F32 },
                shape: vec![outputs / of, inputs],
                len: (outputs / of * inputs * width) as u64,
                data: InputData::Strided { shard: 0, offset: (40 + part * output) as u64, steps },
                part_of: None,
                merged: Vec::new(),
                layer: Default::default(),
            };
            let mut out = vec![0; rows * inputs * width];
            let shards = [shard(&path)];
            let mut reader = RowReader::new(Buffer::reserve(scratch(&input, rows)).unwrap(), Simd::detect());
            reader.fill();
            let read = reader.read(&Sources::new(&shards, false), &input, first, &mut out).unwrap();
            assert!(read >= (rows * inputs * width) as u64);
            for (index, found) in out.chunks(width).enumerate() {
                let (row, column) = ((first + index / inputs) * of + part, index % inputs);
                let expected = if transposed { element(column, row) } else { element(row, column) };
                assert_eq!(found, &expected[..width], "{:?} {transposed} {part}/{of} {row} {column}", self.stored);
            }
        }
    }

    fn shard(path: &Path) -> Shard {
        let file = source::SourceFile::open(path).unwrap();
        Shard {
            name: "shard".to_owned(),
            path: path.to_owned(),
            size: file.size(),
            header: String::new(),
            stamp: file.stamp(),
            remote: None,
        }
    }

    #[test]
    fn columns_become_rows_however_they_are_read() {
        for width in [2, 4] {
            let of = |stored, first, rows| Case { stored, transposed: true, part: 0, of: 1, width }.check(first, rows);
            // Dense and sparse, whole and in part, more stored rows than a strip has.
            of([3, 5], 0, 5);
            of([3, 5], 4, 1);
            of([70, 100], 33, 67);
            of([70, 1000], 990, 10);
            of([3000, 300], 0, 300);
            of([3000, 300], 299, 1);
            of([1, 7], 2, 3);
        }
    }

    #[test]
    fn rows_that_take_turns_are_told_apart() {
        for (width, transposed) in [(2, true), (4, true), (2, false), (4, false)] {
            for part in [0, 1] {
                let of = |stored: [usize; 2], first, rows| {
                    let [outputs, inputs] = stored;
                    let stored = if transposed { [inputs, outputs] } else { stored };
                    Case { stored, transposed, part, of: 2, width }.check(first, rows);
                };
                of([6, 4], 0, 3);
                of([6, 4], 2, 1);
                of([200, 70], 33, 67);
                of([1000, 70], 490, 10);
                of([600, 3000], 1, 299);
                of([600, 3000], 299, 1);
            }
        }
        Case { stored: [9, 5], transposed: false, part: 2, of: 3, width: 2 }.check(1, 2);
    }
}
