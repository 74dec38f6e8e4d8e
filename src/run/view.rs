//! Reading rows of a tensor that is not stored as it is seen: they are put together from other bytes of the source.

use std::io;
use std::os::unix::fs::FileExt;

use qwen_fp8_schemes::{Fp8Codes, SourceDtype, decode};

use crate::checkpoint::view::Float8;
use crate::checkpoint::{Tensor, View};
use crate::run::buffer::Buffer;
use crate::run::self_check::values;
use crate::run::sources::SourceFile;

/// Bytes of stored rows that are read at a time, if a row is no longer than that.
const STRIP_BYTES: usize = 512 << 10;

/// From so many times the bytes that are needed on, reading them one by one is faster than reading what lies between.
const SPARSE: usize = 4;

/// Columns of a stored matrix that become rows.
struct Columns {
    /// Bytes of an element.
    width: usize,
    /// Stored rows, which are columns of the tensor.
    stored_rows: usize,
    /// Bytes from one stored row to the next.
    stride: usize,
    /// Bytes that are needed of each stored row.
    run: usize,
}

impl Columns {
    /// The stored columns that are so many rows of the tensor.
    fn of(tensor: &Tensor, stride: u64, rows: usize) -> Self {
        let width = width(tensor);
        Self { width, stored_rows: last(tensor), stride: stride as usize, run: rows * width }
    }

    /// Whether whole rows are read rather than what is needed of each.
    fn is_dense(&self) -> bool {
        self.run * SPARSE >= self.stride
    }

    /// Bytes from one row to the next in a strip.
    fn pitch(&self) -> usize {
        if self.is_dense() { self.stride } else { self.run }
    }

    /// Rows of a strip: so few that it takes little memory beside what it is read for.
    fn strip(&self) -> usize {
        let bytes = STRIP_BYTES.min(self.run * self.stored_rows / 4);
        (bytes / self.pitch().max(1)).clamp(1, self.stored_rows.max(1))
    }
}

/// Bytes of memory that reading so many rows of the tensor takes beside the rows themselves.
pub(super) fn staging(tensor: &Tensor, rows: usize) -> usize {
    match &tensor.view {
        View::Stored => 0,
        View::Transposed { stride } => {
            let columns = Columns::of(tensor, *stride, rows);
            columns.strip() * columns.pitch()
        }
        View::Float8(_) => rows * last(tensor),
    }
}

/// Puts rows of tensors together, in memory that is allocated once.
pub(super) struct Rows {
    staging: Buffer,
    scale_bytes: Vec<u8>,
    scales: Vec<f32>,
}

/// The shards that a tensor is read from: its own, and that of its scales.
pub(super) struct From<'a> {
    pub(super) own: &'a SourceFile,
    pub(super) scales: &'a SourceFile,
}

/// What went wrong in which of them.
pub(super) struct Failure {
    pub(super) of_scales: bool,
    pub(super) error: io::Error,
}

impl Rows {
    /// With room for the staging of every read to come.
    pub(super) fn new(staging: Buffer) -> Self {
        Self { staging, scale_bytes: Vec::new(), scales: Vec::new() }
    }

    /// Takes the memory.
    pub(super) fn fill(&mut self) {
        self.staging.fill();
    }

    /// Fills `out` with rows of the tensor from `first_row` on; returns how many bytes were read.
    pub(super) fn read(
        &mut self,
        from: &From<'_>,
        tensor: &Tensor,
        first_row: usize,
        out: &mut [u8],
    ) -> Result<u64, Failure> {
        match &tensor.view {
            View::Stored => Ok(0),
            View::Transposed { stride } => self
                .transposed(from.own, tensor, *stride, first_row, out)
                .map_err(|error| Failure { of_scales: false, error }),
            View::Float8(float8) => self.float8(from, tensor, float8, first_row, out),
        }
    }

    /// The page cache is used, since neighbours of these rows lie between them.
    fn transposed(
        &mut self,
        source: &SourceFile,
        tensor: &Tensor,
        stride: u64,
        first_row: usize,
        out: &mut [u8],
    ) -> io::Result<u64> {
        let row_bytes = last(tensor) * width(tensor);
        let rows = out.len().checked_div(row_bytes).unwrap_or(0);
        if rows == 0 {
            return Ok(0);
        }
        let columns = Columns::of(tensor, stride, rows);
        let first = tensor.offset + (first_row * columns.width) as u64;
        let (pitch, mut read) = (columns.pitch(), 0);
        for stored_row in (0..columns.stored_rows).step_by(columns.strip()) {
            let strip = columns.strip().min(columns.stored_rows - stored_row);
            let from = first + (stored_row * columns.stride) as u64;
            // The last row ends with what is needed of it: behind it the file may end.
            let bytes = self.staging.at_offset(0, (strip - 1) * pitch + columns.run);
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

    fn float8(
        &mut self,
        from: &From<'_>,
        tensor: &Tensor,
        float8: &Float8,
        first_row: usize,
        out: &mut [u8],
    ) -> Result<u64, Failure> {
        let (columns, width) = (last(tensor), width(tensor));
        // A view of FP8 is one of a dtype that can be quantized again.
        let Ok(dtype) = SourceDtype::try_from(tensor.dtype) else { return Ok(0) };
        let len = out.len() / width;
        let Some(rows) = len.checked_div(columns).filter(|&rows| rows > 0) else { return Ok(0) };
        let at = tensor.offset + (first_row * columns) as u64;
        from.own.read(&mut self.staging, at, len, at).map_err(|error| Failure { of_scales: false, error })?;

        let [height, group] = float8.group;
        let across = columns.div_ceil(group);
        let groups = first_row / height * across..(first_row + rows).div_ceil(height) * across;
        let bytes = float8.scale.dtype.bitsize() / 8;
        self.scale_bytes.resize(groups.len() * bytes, 0);
        from.scales
            .buffered()
            .read_exact_at(&mut self.scale_bytes, float8.scale.offset + (groups.start * bytes) as u64)
            .map_err(|error| Failure { of_scales: true, error })?;
        self.scales.clear();
        self.scales.extend(values(float8.scale.dtype, &self.scale_bytes));
        let codes = self.staging.filled(at, len);
        let codes = Fp8Codes { codes, columns, first_row, group: float8.group, scales: &self.scales };
        decode(codes, dtype, out);
        Ok((len + self.scale_bytes.len()) as u64)
    }
}

/// How many columns a tensor has.
fn last(tensor: &Tensor) -> usize {
    tensor.shape.last().copied().unwrap_or_default()
}

/// Bytes of an element as it is seen.
fn width(tensor: &Tensor) -> usize {
    tensor.dtype.bitsize() / 8
}

/// The side of a tile that is transposed at once: a cache line of elements of two bytes.
const TILE: usize = 32;

/// Writes `strip` rows of `rows` elements each, `pitch` bytes apart, as columns of rows that are `row_bytes` apart.
///
/// Tile by tile through a buffer in the first cache: rows of the strip are far apart, and would push each other out of it.
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
        let tensor = Tensor {
            name: "t".to_owned(),
            dtype: if width == 2 { Dtype::BF16 } else { Dtype::F32 },
            shape: vec![stored_columns, stored_rows],
            shard: 0,
            offset: 40,
            len: (stored_rows * stored_columns * width) as u64,
            view: View::Transposed { stride: (stored_columns * width) as u64 },
            part_of: None,
        };
        let mut out = vec![0; rows * stored_rows * width];
        let file = open(&path);
        let from = From { own: &file, scales: &file };
        let mut all = Rows::new(Buffer::reserve(staging(&tensor, rows)).unwrap());
        all.fill();
        let read = all.read(&from, &tensor, first, &mut out);
        let read = read.map_err(|failure| failure.error).unwrap();
        assert!(read >= (rows * stored_rows * width) as u64);
        for (index, found) in out.chunks(width).enumerate() {
            let (row, column) = (first + index / stored_rows, index % stored_rows);
            assert_eq!(found, &element(column, row)[..width], "{stored_rows} {stored_columns} {row} {column}");
        }
    }

    fn open(path: &Path) -> SourceFile {
        let file = source::SourceFile::open(path).unwrap();
        let shard = Shard { name: "shard".to_owned(), path: path.to_owned(), size: file.size(), stamp: file.stamp() };
        SourceFile::open(&shard, false).unwrap()
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
