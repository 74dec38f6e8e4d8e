//! The comparison of tensors that must be the same bytes.

use rayon::prelude::*;

use super::original::Original;
use crate::decode::{Meter, Scratch, Shards, pieces, ranges, width};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// Rows of a stack that are decoded together: 256 bytes of each run of blocks.
const COLUMN_ROWS: usize = 512;

/// Finds the first byte in which a tensor differs from its original, which has the same dtype and shape.
pub(crate) fn first_difference(
    ours: &Shards,
    tensor: &Tensor,
    original: &Original<'_>,
    meter: &Meter<'_>,
) -> Result<Option<u64>, SourceError> {
    let differences: Vec<Option<u64>> = match original.as_stored() {
        Some((theirs, original)) => ranges(tensor.len)
            .into_par_iter()
            .map_init(
                || (Vec::new(), Vec::new()),
                |(here, there), range| {
                    let len = (range.end - range.start) as usize;
                    ours.read(tensor, range.start, len, here)?;
                    theirs.read(original, range.start, len, there)?;
                    meter.advance(len as u64);
                    Ok(first(here, there).map(|at| range.start + at))
                },
            )
            .collect::<Result<_, SourceError>>()?,
        // What is no tensor of the source has to be made first: taken out of a stack, or decoded and rounded.
        None => {
            let ([rows, columns], size) = match (original.shape(), width(original.dtype())) {
                (&[rows, columns], Some(size)) => ([rows, columns], size),
                (&[outputs], Some(size)) => ([1, outputs], size),
                (&[experts, rows, columns], Some(size)) => ([experts * rows, columns], size),
                // Matrices of stacks, their biases, decoded weights and stacks are all of these kinds. One that is not was not compared, and
                // must not pass for the same.
                _ => return Ok(Some(0)),
            };
            // A decoded stack is read by columns, a run of its blocks for each.
            let height = if original.shape().len() == 3 { COLUMN_ROWS } else { 1 };
            pieces([rows, columns], height)
                .into_par_iter()
                .map_init(
                    || (Scratch::default(), Vec::new(), Vec::new()),
                    |(scratch, here, there), piece| {
                        ours.read_piece(tensor, columns, size, &piece, here)?;
                        original.read_bytes(&piece, scratch, there)?;
                        meter.advance(here.len() as u64);
                        let from = (piece.rows.start * columns + piece.columns.start) * size;
                        Ok(first(here, there).map(|at| from as u64 + at))
                    },
                )
                .collect::<Result<_, SourceError>>()?
        }
    };
    Ok(differences.into_iter().flatten().next())
}

fn first(here: &[u8], there: &[u8]) -> Option<u64> {
    // Nearly all pieces are the same, and comparing slices is many times faster than looking for the place.
    if here == there {
        return None;
    }
    here.iter().zip(there).position(|(a, b)| a != b).map(|at| at as u64)
}
