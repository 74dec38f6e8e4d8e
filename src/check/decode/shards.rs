//! The open shards of a checkpoint, and tensors read in bounded pieces.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use super::small_reads::SmallReads;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::{Checkpoint, ShardFile, Tensor};

/// Bytes of a read.
// A thread's buffers stay in its cache, and a weight of any size takes the same memory.
const PIECE: u64 = 1 << 20;

/// Elements of a piece: with their codes, fewer bytes than [`PIECE`].
const ELEMENTS: usize = 1 << 18;

/// Bytes of a tensor that is kept whole, where reading it is a round trip: those that hold a number or a shape.
const NUMBER: u64 = 64;

/// The open shards of a checkpoint.
#[derive(Debug)]
pub(crate) struct Shards {
    files: Vec<ShardFile>,
    /// Of a checkpoint elsewhere.
    elsewhere: Option<Elsewhere>,
}

/// What is kept of shards elsewhere.
#[derive(Debug)]
struct Elsewhere {
    sizes: Vec<u64>,
    /// Tensors of a few bytes, by shard and offset.
    numbers: HashMap<(usize, u64), Vec<u8>>,
    small: SmallReads,
}

/// A piece of a matrix: whole rows, or a part of one row where a row alone is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
}

impl Shards {
    /// Opens every shard; of a checkpoint elsewhere, tensors of a few bytes are read.
    pub(crate) fn open(checkpoint: &Checkpoint) -> Result<Self, SourceError> {
        let files = checkpoint.shards.iter().map(|shard| shard.open()).collect::<Result<_, _>>()?;
        if checkpoint.repository.is_none() {
            return Ok(Self { files, elsewhere: None });
        }
        let sizes = checkpoint.shards.iter().map(|shard| shard.size).collect();
        let small = SmallReads::default();
        let shards = Self { files, elsewhere: Some(Elsewhere { sizes, numbers: HashMap::new(), small }) };
        // One after the other, each would be waited for: a model may have thousands of them.
        let numbers = checkpoint.tensors.par_iter().filter(|tensor| (1..=NUMBER).contains(&tensor.len));
        let read = |tensor: &Tensor| {
            let mut bytes = Vec::new();
            shards.read(tensor, 0, tensor.len as usize, &mut bytes)?;
            Ok(((tensor.shard, tensor.offset), bytes))
        };
        let numbers = numbers.map(read).collect::<Result<_, SourceError>>()?;
        let elsewhere = shards.elsewhere.map(|elsewhere| Elsewhere { numbers, ..elsewhere });
        Ok(Self { files: shards.files, elsewhere })
    }

    /// Fills `buffer` with `len` bytes of a tensor, beginning at byte `from`.
    pub(crate) fn read(&self, tensor: &Tensor, from: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
        buffer.resize(len, 0);
        let (file, offset) = (&self.files[tensor.shard], tensor.offset + from);
        let Some(elsewhere) = self.elsewhere.as_ref().filter(|_| SmallReads::is_small(len)) else {
            return file.read_exact_at(buffer, offset);
        };
        if let Some(bytes) = elsewhere.numbers.get(&(tensor.shard, offset)).filter(|bytes| bytes.len() == len) {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        elsewhere.small.read((tensor.shard, file, elsewhere.sizes[tensor.shard]), buffer, offset)
    }

    /// Reads a piece of a matrix whose rows have this many columns of `width` bytes.
    pub(crate) fn read_piece(
        &self,
        tensor: &Tensor,
        columns: usize,
        width: usize,
        piece: &Piece,
        buffer: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let from = (piece.rows.start * columns + piece.columns.start) * width;
        self.read(tensor, from as u64, piece.rows.len() * piece.columns.len() * width, buffer)
    }

    /// Reads the one element of an F32 tensor.
    pub(crate) fn number(&self, tensor: &Tensor) -> Result<f32, SourceError> {
        let mut bytes = Vec::new();
        self.read(tensor, 0, 4, &mut bytes)?;
        Ok(f32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    /// Reads the elements of a small I64 tensor.
    pub(crate) fn integers(&self, tensor: &Tensor) -> Result<Vec<i64>, SourceError> {
        let mut bytes = Vec::new();
        self.read(tensor, 0, tensor.len as usize, &mut bytes)?;
        Ok(bytes.as_chunks().0.iter().map(|raw| i64::from_le_bytes(*raw)).collect())
    }

    /// Proves that no file changed while it was read.
    pub(crate) fn check_unchanged(&self) -> Result<(), SourceError> {
        // Asked at the end, once: a verdict on bytes of two versions would be worth nothing.
        self.files.iter().try_for_each(ShardFile::check_unchanged)
    }
}

/// Splits a tensor of this many bytes into ranges of at most [`PIECE`].
pub(crate) fn ranges(len: u64) -> Vec<Range<u64>> {
    (0..len.div_ceil(PIECE)).map(|piece| piece * PIECE..len.min((piece + 1) * PIECE)).collect()
}

/// Elements of the largest piece, where groups need more than [`ELEMENTS`].
// Whole groups in a piece are judged where they are read. Beyond this size, groups are cut and merged later instead,
// so that memory does not grow with the matrix.
const LARGEST: usize = 1 << 23;

/// Splits a matrix of this shape into pieces. None ends within a group of `height` rows, unless a group alone has
/// more than [`LARGEST`] elements.
pub(crate) fn pieces([rows, columns]: [usize; 2], height: usize) -> Vec<Piece> {
    let limit = ELEMENTS;
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    if columns > limit {
        let parts = (0..columns).step_by(limit).map(|first| first..columns.min(first + limit));
        let parts: Vec<_> = parts.collect();
        let of_row = |row| parts.iter().map(move |columns| Piece { rows: row..row + 1, columns: columns.clone() });
        return (0..rows).flat_map(of_row).collect();
    }
    let belonging = height.min(rows);
    let height = match belonging.checked_mul(columns) {
        Some(together) if together <= LARGEST => (limit / together).max(1) * belonging,
        _ => limit / columns,
    };
    (0..rows)
        .step_by(height)
        .map(|first| Piece { rows: first..rows.min(first + height), columns: 0..columns })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_matrix_once_and_keep_groups_whole() {
        for shape in [[1, 1], [3, 400_000], [2, 3_000_000], [5000, 1000], [0, 5], [5, 0]] {
            let pieces = pieces(shape, 1);
            let covered: usize = pieces.iter().map(|piece| piece.rows.len() * piece.columns.len()).sum();
            assert_eq!(covered, shape[0] * shape[1], "{shape:?}");
            assert!(pieces.iter().all(|piece| piece.rows.len() * piece.columns.len() <= ELEMENTS));
            assert!(
                pieces
                    .windows(2)
                    .all(|pair| (pair[0].rows.start, pair[0].columns.start)
                        < (pair[1].rows.start, pair[1].columns.start))
            );
        }
        let heights = |shape, height| pieces(shape, height).iter().map(|piece| piece.rows.len()).collect::<Vec<_>>();
        assert_eq!(heights([300, 20_000], 128), [128, 128, 44]);
        assert_eq!(heights([200, 1000], 128), [200]);
        assert_eq!(heights([3000, 500], 128), [512, 512, 512, 512, 512, 440]);
        // A group that is too large for a piece is cut.
        assert_eq!(heights([40, 1 << 18], 40), [1; 40]);
        assert_eq!(ranges(0), []);
        assert_eq!(ranges(PIECE + 1), [0..PIECE, PIECE..PIECE + 1]);
    }
}
