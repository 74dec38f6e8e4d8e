//! Tensors that must be the same bytes.

use rayon::prelude::*;

use crate::coded::Scratch;
use crate::element;
use crate::original::Original;
use crate::shards::{Shards, pieces, ranges};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// The first byte in which a tensor differs from its original, which has its dtype and shape.
pub(crate) fn first_difference(
    ours: &Shards,
    tensor: &Tensor,
    original: &Original<'_>,
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
                    Ok(first(here, there).map(|at| range.start + at))
                },
            )
            .collect::<Result<_, SourceError>>()?,
        None => {
            let ([rows, columns], width) = match (original.shape(), element::width(original.dtype())) {
                (&[rows, columns], Some(width)) => ([rows, columns], width),
                _ => return Ok(None),
            };
            pieces([rows, columns], 1)
                .into_par_iter()
                .map_init(
                    || (Scratch::default(), Vec::new(), Vec::new()),
                    |(scratch, here, there), piece| {
                        ours.read_piece(tensor, columns, width, &piece, here)?;
                        original.read_bytes(&piece, scratch, there)?;
                        let from = (piece.rows.start * columns + piece.columns.start) * width;
                        Ok(first(here, there).map(|at| from as u64 + at))
                    },
                )
                .collect::<Result<_, SourceError>>()?
        }
    };
    Ok(differences.into_iter().flatten().next())
}

fn first(here: &[u8], there: &[u8]) -> Option<u64> {
    if here == there {
        return None;
    }
    here.iter().zip(there).position(|(a, b)| a != b).map(|at| at as u64)
}
