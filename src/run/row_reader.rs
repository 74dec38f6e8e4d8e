//! Reads rows of an input that is not stored row after row, but as columns of a stack or as codes and scales.

use std::io;
use std::os::unix::fs::FileExt;

use qwen_fp8_schemes::{GlobalFactor, SourceDtype, StoredCodes, decode, packed_down, packed_rows, scale_values};

use crate::checkpoint::Tensor;
use crate::plan::{InputData, PlannedInput, QuantizedSource, ZeroPointTensor};
use crate::run::buffer::Buffer;
use crate::run::error::RunError;
use crate::run::sources::{OpenShard, Sources};

/// Bytes of stored rows that are read at a time, if one row is not longer already.
const STRIP_BYTES: usize = 512 << 10;

/// Largest stride, in multiples of the bytes needed per stored row, at which whole rows are read.
//
// Beyond it, reading the needed bytes of each row by themselves is faster than reading what lies between them.
const SPARSE: usize = 4;

/// Columns of a stored matrix that become rows.
struct Columns {
    /// Bytes of an element.
    width: usize,
    /// Stored rows, which are columns of the input.
    stored_rows: usize,
    /// Bytes from one stored row to the next.
    stride: usize,
    /// Bytes needed of each stored row.
    run: usize,
}

impl Columns {
    /// The stored columns that are this many rows of the input.
    fn of(input: &PlannedInput, stride: u64, rows: usize) -> Self {
        let width = width(input);
        Self { width, stored_rows: columns(input), stride: stride as usize, run: rows * width }
    }

    /// Returns whether whole rows are read rather than the needed bytes of each.
    fn is_dense(&self) -> bool {
        self.run * SPARSE >= self.stride
    }

    /// Returns the bytes from one row to the next in a strip.
    fn pitch(&self) -> usize {
        if self.is_dense() { self.stride } else { self.run }
    }

    /// Returns the number of rows in a strip, few enough to add little memory to the rows that it is read for.
    fn strip(&self) -> usize {
        let bytes = STRIP_BYTES.min(self.run * self.stored_rows / 4);
        (bytes / self.pitch().max(1)).clamp(1, self.stored_rows.max(1))
    }
}

/// Returns the bytes of memory that reading this many rows of the input takes beside the rows themselves.
pub(super) fn scratch(input: &PlannedInput, rows: usize) -> usize {
    match &input.data {
        InputData::Stored { .. } => 0,
        InputData::Transposed { stride, .. } => {
            let columns = Columns::of(input, *stride, rows);
            columns.strip() * columns.pitch()
        }
        InputData::Quantized(source) => rows * source.format.row_bytes(columns(input)),
    }
}

/// Puts rows of inputs together, in memory that is allocated once.
pub(super) struct RowReader {
    scratch: Buffer,
    bytes: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<f32>,
}

impl RowReader {
    /// Creates a reader with room for the scratch memory of every read to come.
    pub(super) fn new(scratch: Buffer) -> Self {
        Self { scratch, bytes: Vec::new(), scales: Vec::new(), zeros: Vec::new() }
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
            InputData::Transposed { shard, offset, stride } => {
                let source = sources.get(*shard)?;
                let columns =
                    Columns::of(input, *stride, out.len().checked_div(columns(input) * width(input)).unwrap_or(0));
                self.transposed(&source, &columns, *offset, first_row, out)
                    .map_err(|error| sources.error(*shard, &input.name, error))
            }
            InputData::Quantized(source) => self.quantized(sources, input, source, first_row, out),
        }
    }

    /// Reads through the page cache, since neighbours of these rows lie between them.
    fn transposed(
        &mut self,
        source: &OpenShard,
        columns: &Columns,
        offset: u64,
        first_row: usize,
        out: &mut [u8],
    ) -> io::Result<u64> {
        let row_bytes = columns.stored_rows * columns.width;
        let rows = out.len().checked_div(row_bytes).unwrap_or(0);
        if rows == 0 {
            return Ok(0);
        }
        let first = offset + (first_row * columns.width) as u64;
        let (pitch, mut read) = (columns.pitch(), 0);
        for stored_row in (0..columns.stored_rows).step_by(columns.strip()) {
            let strip = columns.strip().min(columns.stored_rows - stored_row);
            let from = first + (stored_row * columns.stride) as u64;
            // The last row ends with what is needed of it: behind it the file may end.
            let bytes = self.scratch.at_offset(0, (strip - 1) * pitch + columns.run);
            if columns.is_dense() {
                source.buffered().read_exact_at(bytes, from)?;
            } else {
                for (row, bytes) in bytes.chunks_mut(pitch).enumerate() {
                    source.buffered().read_exact_at(bytes, from + (row * columns.stride) as u64)?;
                }
            }
            read += bytes.len() as u64;
            let out = &mut out[stored_row * columns.width..];
            match columns.width {
                2 => transpose::<2>(bytes, pitch, strip, rows, out, row_bytes),
                _ => transpose::<4>(bytes, pitch, strip, rows, out, row_bytes),
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
                read += read_part(sources, input, &global.tensor, 0, 4, &mut self.bytes)?;
                let factor = self.bytes.first_chunk().map_or(f32::NAN, |raw| f32::from_le_bytes(*raw));
                Some(if global.divides { GlobalFactor::Divides(factor) } else { GlobalFactor::Multiplies(factor) })
            }
        };
        let [height, group] = *granule;
        let across = columns.div_ceil(group);
        let touched = first_row / height..(first_row + rows).div_ceil(height);
        let bytes = scales.dtype.bitsize() / 8;
        let (from, len) = (touched.start * across * bytes, touched.len() * across * bytes);
        read += read_part(sources, input, scales, from, len, &mut self.bytes)?;
        self.scales.clear();
        scale_values(scales.dtype, &self.bytes, factor, &mut self.scales);
        self.zeros.clear();
        match zeros {
            None => {}
            Some(ZeroPointTensor { tensor, packed: None }) => {
                read +=
                    read_part(sources, input, tensor, touched.start * across, touched.len() * across, &mut self.bytes)?;
                self.zeros.extend(self.bytes.iter().map(|byte| f32::from(byte.cast_signed())));
            }
            Some(ZeroPointTensor { tensor, packed: Some(bits) }) => {
                let words = packed_rows(&touched, *bits);
                let (from, len) = (words.start * across * 4, words.len() * across * 4);
                read += read_part(sources, input, tensor, from, len, &mut self.bytes)?;
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
        };
        decode(codes, dtype, out);
        Ok(read as u64)
    }
}

/// Reads a part of a tensor beside codes, and returns its length.
fn read_part(
    sources: &Sources<'_>,
    input: &PlannedInput,
    tensor: &Tensor,
    from: usize,
    len: usize,
    bytes: &mut Vec<u8>,
) -> Result<usize, RunError> {
    bytes.resize(len, 0);
    let read = sources.get(tensor.shard)?.buffered().read_exact_at(bytes, tensor.offset + from as u64);
    read.map_err(|error| sources.error(tensor.shard, &input.name, error))?;
    Ok(len)
}

/// The number of columns of an input.
fn columns(input: &PlannedInput) -> usize {
    input.shape.last().copied().unwrap_or_default()
}

/// Returns the bytes of a value.
fn width(input: &PlannedInput) -> usize {
    input.dtype.bitsize() / 8
}

/// Side of a tile that is transposed at once: a cache line of two-byte elements.
const TILE: usize = 32;

/// Writes `strip` rows of `rows` elements each, `pitch` bytes apart, as columns of rows that are `row_bytes` apart.
//
// Tile by tile through a buffer in the first cache: rows of the strip are far apart, and would push each other out of
// it.
fn transpose<const WIDTH: usize>(
    strip_bytes: &[u8],
    pitch: usize,
    strip: usize,
    rows: usize,
    out: &mut [u8],
    row_bytes: usize,
) {
    let mut tile = [[[0; WIDTH]; TILE]; TILE];
    for first_row in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - first_row);
        for first_column in (0..strip).step_by(TILE) {
            let width = TILE.min(strip - first_column);
            for (column, line) in tile[..width].iter_mut().enumerate() {
                let at = (first_column + column) * pitch + first_row * WIDTH;
                line[..height].copy_from_slice(strip_bytes[at..at + height * WIDTH].as_chunks().0);
            }
            for row in 0..height {
                let at = (first_row + row) * row_bytes + first_column * WIDTH;
                let out = out[at..at + width * WIDTH].as_chunks_mut::<WIDTH>().0;
                for (out, line) in out.iter_mut().zip(&tile) {
                    *out = line[row];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::Dtype;

    use super::*;
    use crate::checkpoint::{Shard, source};

    /// Writes a matrix of elements that tell their place, and reads rows of its transposed columns.
    fn check(stored_rows: usize, stored_columns: usize, first: usize, rows: usize, width: usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shard");
        let element = |row: usize, column: usize| ((row * stored_columns + column) as u32).to_le_bytes();
        let places = (0..stored_rows).flat_map(|row| (0..stored_columns).map(move |column| (row, column)));
        let mut file = vec![0xEE; 40];
        file.extend(places.flat_map(|(row, column)| element(row, column)[..width].to_vec()));
        std::fs::write(&path, &file).unwrap();
        let input = PlannedInput {
            name: "t".to_owned(),
            dtype: if width == 2 { Dtype::BF16 } else { Dtype::F32 },
            shape: vec![stored_columns, stored_rows],
            len: (stored_rows * stored_columns * width) as u64,
            data: InputData::Transposed { shard: 0, offset: 40, stride: (stored_columns * width) as u64 },
            part_of: None,
            layer: Default::default(),
        };
        let mut out = vec![0; rows * stored_rows * width];
        let shards = [shard(&path)];
        let mut reader = RowReader::new(Buffer::reserve(scratch(&input, rows)).unwrap());
        reader.fill();
        let read = reader.read(&Sources::new(&shards, false), &input, first, &mut out).unwrap();
        assert!(read >= (rows * stored_rows * width) as u64);
        for (index, found) in out.chunks(width).enumerate() {
            let (row, column) = (first + index / stored_rows, index % stored_rows);
            assert_eq!(found, &element(column, row)[..width], "{stored_rows} {stored_columns} {row} {column}");
        }
    }

    fn shard(path: &Path) -> Shard {
        let file = source::SourceFile::open(path).unwrap();
        Shard { name: "shard".to_owned(), path: path.to_owned(), size: file.size(), stamp: file.stamp() }
    }

    #[test]
    fn columns_become_rows_however_they_are_read() {
        for width in [2, 4] {
            // Dense and sparse, whole and in part, more stored rows than a strip has.
            check(3, 5, 0, 5, width);
            check(3, 5, 4, 1, width);
            check(70, 100, 33, 67, width);
            check(70, 1000, 990, 10, width);
            check(3000, 300, 0, 300, width);
            check(3000, 300, 299, 1, width);
            check(1, 7, 2, 3, width);
        }
    }
}
