//! The open shards of a checkpoint, and the reading of tensors in bounded pieces.

use std::ops::Range;

use super::element;
use super::structure::Coded;
use crate::checkpoint::source::SourceError;
use crate::checkpoint::{Checkpoint, ShardFile, Tensor};

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;

/// The open shards of a checkpoint.
#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<ShardFile>,
}

/// A piece of a matrix: whole rows, or a part of one row where a row alone is too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
}

impl Shards {
    pub(super) fn open(checkpoint: &Checkpoint) -> Result<Self, SourceError> {
        let files = checkpoint.shards.iter().map(|shard| shard.open()).collect::<Result<_, _>>()?;
        Ok(Self { files })
    }

    /// Fills `buffer` with the bytes of a tensor from `from` on.
    pub(super) fn read(&self, tensor: &Tensor, from: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), SourceError> {
        buffer.resize(len, 0);
        self.files[tensor.shard].read_exact_at(buffer, tensor.offset + from)
    }

    /// Reads a piece of a matrix whose rows have this many columns of `width` bytes.
    pub(super) fn read_piece(
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

    /// The scales of a weight, row after row.
    pub(super) fn scales(&self, coded: &Coded<'_>) -> Result<Vec<f32>, SourceError> {
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        self.read(coded.scale, 0, coded.scale.len as usize, &mut bytes)?;
        element::widen(coded.scale.dtype, &bytes, &mut scales);
        Ok(scales)
    }

    /// Proves that no file changed while it was read.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.files.iter().try_for_each(ShardFile::check_unchanged)
    }
}

/// Byte ranges that cover a tensor.
pub(super) fn ranges(len: u64) -> Vec<Range<u64>> {
    (0..len.div_ceil(PIECE)).map(|piece| piece * PIECE..len.min((piece + 1) * PIECE)).collect()
}

/// Pieces that cover a matrix of this shape.
pub(super) fn pieces([rows, columns]: [usize; 2]) -> Vec<Piece> {
    let limit = PIECE as usize;
    if rows == 0 || columns == 0 {
        return Vec::new();
    }
    if columns > limit {
        let parts = (0..columns).step_by(limit).map(|first| first..columns.min(first + limit));
        let parts: Vec<_> = parts.collect();
        let of_row = |row| parts.iter().map(move |columns| Piece { rows: row..row + 1, columns: columns.clone() });
        return (0..rows).flat_map(of_row).collect();
    }
    let height = limit / columns;
    (0..rows)
        .step_by(height)
        .map(|first| Piece { rows: first..rows.min(first + height), columns: 0..columns })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_matrix_once() {
        for shape in [[1, 1], [3, 400_000], [2, 3_000_000], [5000, 1000], [0, 5], [5, 0]] {
            let pieces = pieces(shape);
            let covered: usize = pieces.iter().map(|piece| piece.rows.len() * piece.columns.len()).sum();
            assert_eq!(covered, shape[0] * shape[1], "{shape:?}");
            assert!(pieces.iter().all(|piece| piece.rows.len() * piece.columns.len() <= PIECE as usize));
            assert!(
                pieces
                    .windows(2)
                    .all(|pair| (pair[0].rows.start, pair[0].columns.start)
                        < (pair[1].rows.start, pair[1].columns.start))
            );
        }
        assert_eq!(ranges(0), []);
        assert_eq!(ranges(PIECE + 1), [0..PIECE, PIECE..PIECE + 1]);
    }
}
