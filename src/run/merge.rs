//! Merging of adapters into rows that a worker has read: the tensors of the adapter are read as they are needed, and a worker
//! holds those of one weight.

use std::collections::TryReserveError;

use qwen_fp8_schemes::{LowRank, Matrix, Simd, SourceDtype, convert, low_rank_scratch, merge_low_rank};

use crate::checkpoint::adapter::{Adapter, ChangeKind, LowRankTensors};
use crate::checkpoint::{ShardFile, Tensor};
use crate::plan::{Merge, PlannedInput};
use crate::run::error::RunError;
use crate::run::open_files::OpenFiles;
use crate::run::planned::{columns, matrix, rows};

/// Bytes of an adapter that are read at a time, before they are put into place as F32.
const PIECE: usize = 64 << 10;

/// The files of adapters, opened when they are first read.
pub(super) struct AdapterFiles<'a> {
    adapters: &'a [Adapter],
    open: OpenFiles<ShardFile>,
}

impl<'a> AdapterFiles<'a> {
    /// Opens nothing yet.
    pub(super) fn new(adapters: &'a [Adapter]) -> Self {
        Self { adapters, open: OpenFiles::default() }
    }

    /// Fills `out` from a tensor of an adapter, from its element `from` on.
    ///
    /// # Errors
    /// The file has changed since it was planned for, or cannot be read.
    fn read(&self, adapter: usize, tensor: &Tensor, from: usize, out: &mut [u8]) -> Result<(), RunError> {
        let file = self.open.get(adapter, || Ok(self.adapters[adapter].weights.open()?))?;
        file.read_exact_at(out, tensor.offset + (from * tensor.dtype.bitsize() / 8) as u64)?;
        Ok(file.check_unchanged()?)
    }
}

/// The memory that merging takes, by what it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MergeCapacity {
    a: usize,
    b: usize,
    magnitudes: usize,
    piece: usize,
    sums: usize,
}

impl MergeCapacity {
    /// Returns what merging into so many rows of an input takes.
    pub(super) fn of(input: &PlannedInput, rows: usize) -> Self {
        let columns = columns(input);
        let each = input.merged.iter().map(|merge| match &merge.change {
            ChangeKind::Replace(_) => Self { piece: PIECE, ..Self::default() },
            ChangeKind::AddBias { .. } => {
                Self { a: columns * 4, b: 4, piece: PIECE, sums: low_rank_scratch(columns), ..Self::default() }
            }
            ChangeKind::LowRank(low) => Self {
                a: low.rank * columns * 4,
                b: low.rank * rows * 4,
                magnitudes: low.magnitude.as_ref().map_or(0, |_| rows * 4),
                // A single row of a factor may be longer than a piece.
                piece: PIECE.max(columns.max(low.rank).max(rows) * 4),
                sums: low_rank_scratch(columns),
            },
        });
        each.fold(Self::default(), Self::or)
    }

    /// Returns what suffices for either.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            a: self.a.max(other.a),
            b: self.b.max(other.b),
            magnitudes: self.magnitudes.max(other.magnitudes),
            piece: self.piece.max(other.piece),
            sums: self.sums.max(other.sums),
        }
    }

    pub(super) fn bytes(self) -> usize {
        self.a + self.b + self.magnitudes + self.piece + self.sums * 4
    }
}

/// Merges adapters, in memory that is allocated once.
pub(super) struct Merger {
    /// A as F32, row after row.
    a: Vec<u8>,
    /// The change whose A that is: the input's number, and the change's among those of the input.
    of: Option<(usize, usize)>,
    b: Vec<u8>,
    magnitudes: Vec<u8>,
    piece: Vec<u8>,
    sums: Vec<f32>,
}

impl Merger {
    /// Allocates the memory.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn reserve(capacity: MergeCapacity) -> Result<Self, TryReserveError> {
        let bytes = |capacity| {
            let mut bytes: Vec<u8> = Vec::new();
            bytes.try_reserve_exact(capacity).map(|()| bytes)
        };
        let mut sums: Vec<f32> = Vec::new();
        sums.try_reserve_exact(capacity.sums)?;
        Ok(Self {
            a: bytes(capacity.a)?,
            of: None,
            b: bytes(capacity.b)?,
            magnitudes: bytes(capacity.magnitudes)?,
            piece: bytes(capacity.piece)?,
            sums,
        })
    }

    /// Merges the adapters of an input into its rows from byte `start` on; returns how many bytes of adapters were read.
    ///
    /// # Errors
    /// An adapter cannot be read, or has changed.
    pub(super) fn merge(
        &mut self,
        files: &AdapterFiles<'_>,
        (number, input): (usize, &PlannedInput),
        start: u64,
        values: &mut [u8],
        simd: Simd,
    ) -> Result<u64, RunError> {
        let matrix = matrix(input)?;
        let (first_row, rows) = rows(matrix, start, values.len() as u64);
        if rows == 0 || matrix.columns == 0 {
            return Ok(0);
        }
        let band = RowBand { files, matrix, first_row, rows };
        let mut read = 0;
        for (at, Merge { adapter, change }) in input.merged.iter().enumerate() {
            let is_loaded = self.of == Some((number, at));
            if !is_loaded && !matches!(change, ChangeKind::Replace(_)) {
                self.of = None;
            }
            read += match change {
                ChangeKind::Replace(tensor) => self.replace(&band, *adapter, tensor, values)?,
                ChangeKind::AddBias { bias, scaling } => {
                    let read =
                        if is_loaded { 0 } else { self.load(&band, *adapter, bias, [1, matrix.columns], false)? };
                    self.b.clear();
                    self.b.extend_from_slice(&1f32.to_le_bytes());
                    // One row, whose product with 1 is the bias.
                    self.add(&band, values, (1, *scaling), false, false, simd);
                    read
                }
                ChangeKind::LowRank(low) => {
                    let read = if is_loaded { 0 } else { self.load_a(&band, *adapter, low)? };
                    let read = read + self.load_rows(&band, *adapter, low)?;
                    let has_magnitudes = low.magnitude.is_some();
                    self.add(&band, values, (low.rank, low.scaling), low.is_embedding, has_magnitudes, simd);
                    read
                }
            };
            if !matches!(change, ChangeKind::Replace(_)) {
                self.of = Some((number, at));
            }
        }
        Ok(read as u64)
    }

    fn add(
        &mut self,
        band: &RowBand<'_>,
        values: &mut [u8],
        (rank, scaling): (usize, f32),
        rounded_first: bool,
        has_magnitudes: bool,
        simd: Simd,
    ) {
        let magnitudes = has_magnitudes.then_some(&self.magnitudes[..]);
        let change = LowRank { a: &self.a, b: &self.b, rank, scaling, rounded_first, magnitudes };
        merge_low_rank(band.matrix.dtype, band.matrix.columns, values, change, simd, &mut self.sums);
    }

    /// Puts a tensor of the adapter in the place of the values.
    fn replace(
        &mut self,
        band: &RowBand<'_>,
        adapter: usize,
        tensor: &Tensor,
        values: &mut [u8],
    ) -> Result<usize, RunError> {
        let (dtype, columns) = (dtype_of(tensor)?, band.matrix.columns);
        let (at_once, width) = (PIECE / dtype.bytes(), band.matrix.dtype.bytes());
        for (index, values) in values.chunks_mut(at_once * width).enumerate() {
            self.piece.resize(values.len() / width * dtype.bytes(), 0);
            band.files.read(adapter, tensor, band.first_row * columns + index * at_once, &mut self.piece)?;
            convert(dtype, &self.piece, band.matrix.dtype, values);
        }
        Ok(band.rows * columns * dtype.bytes())
    }

    fn load_a(&mut self, band: &RowBand<'_>, adapter: usize, low: &LowRankTensors) -> Result<usize, RunError> {
        let sides = [low.rank, band.matrix.columns];
        let factor = if low.is_embedding { &low.b } else { &low.a };
        self.load(band, adapter, factor, sides, low.is_embedding)
    }

    /// Loads a whole factor as F32, rank by columns; where it is `transposed`, it is stored column after column.
    fn load(
        &mut self,
        band: &RowBand<'_>,
        adapter: usize,
        tensor: &Tensor,
        [rank, columns]: [usize; 2],
        transposed: bool,
    ) -> Result<usize, RunError> {
        let dtype = dtype_of(tensor)?;
        self.a.resize(rank * columns * 4, 0);
        let (count, len) = if transposed { (columns, rank) } else { (rank, columns) };
        let at_once = (PIECE / (len * dtype.bytes()).max(1)).max(1);
        for first in (0..count).step_by(at_once) {
            let stored = at_once.min(count - first);
            self.piece.resize(stored * len * dtype.bytes(), 0);
            band.files.read(adapter, tensor, first * len, &mut self.piece)?;
            if transposed {
                let width = dtype.bytes();
                for (column, run) in self.piece.chunks_exact(len * width).enumerate() {
                    for (k, number) in run.chunks_exact(width).enumerate() {
                        let place = &mut self.a[(k * columns + first + column) * 4..][..4];
                        convert(dtype, number, SourceDtype::F32, place);
                    }
                }
            } else {
                convert(dtype, &self.piece, SourceDtype::F32, &mut self.a[first * len * 4..][..stored * len * 4]);
            }
        }
        Ok(count * len * dtype.bytes())
    }

    /// Loads the rows of B, and the magnitudes, that belong to the band.
    fn load_rows(&mut self, band: &RowBand<'_>, adapter: usize, low: &LowRankTensors) -> Result<usize, RunError> {
        let RowBand { files, matrix, first_row, rows } = *band;
        self.b.resize(rows * low.rank * 4, 0);
        let mut read = rows * low.rank;
        if low.is_embedding {
            // A lies rank by rows.
            let dtype = dtype_of(&low.a)?;
            read *= dtype.bytes();
            for k in 0..low.rank {
                self.piece.resize(rows * dtype.bytes(), 0);
                files.read(adapter, &low.a, k * matrix.rows + first_row, &mut self.piece)?;
                for (row, number) in self.piece.chunks_exact(dtype.bytes()).enumerate() {
                    convert(dtype, number, SourceDtype::F32, &mut self.b[(row * low.rank + k) * 4..][..4]);
                }
            }
        } else {
            let dtype = dtype_of(&low.b)?;
            read *= dtype.bytes();
            let at_once = (PIECE / (low.rank * dtype.bytes()).max(1)).max(1);
            for first in (0..rows).step_by(at_once) {
                let stored = at_once.min(rows - first) * low.rank;
                self.piece.resize(stored * dtype.bytes(), 0);
                files.read(adapter, &low.b, (first_row + first) * low.rank, &mut self.piece)?;
                let place = &mut self.b[first * low.rank * 4..][..stored * 4];
                convert(dtype, &self.piece, SourceDtype::F32, place);
            }
        }
        if let Some(magnitude) = &low.magnitude {
            let dtype = dtype_of(magnitude)?;
            self.piece.resize(rows * dtype.bytes(), 0);
            files.read(adapter, magnitude, first_row, &mut self.piece)?;
            self.magnitudes.resize(rows * 4, 0);
            convert(dtype, &self.piece, SourceDtype::F32, &mut self.magnitudes);
            read += self.piece.len();
        }
        Ok(read)
    }
}

/// Rows of a weight that are merged into.
#[derive(Clone, Copy)]
struct RowBand<'a> {
    files: &'a AdapterFiles<'a>,
    matrix: Matrix,
    first_row: usize,
    rows: usize,
}

fn dtype_of(tensor: &Tensor) -> Result<SourceDtype, RunError> {
    SourceDtype::try_from(tensor.dtype)
        .map_err(|_| RunError::inconsistent(&tensor.name, "its dtype is none that is merged"))
}
