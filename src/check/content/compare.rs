//! Tensors that must be the same bytes.

use rayon::prelude::*;

use crate::check::shards::{Shards, ranges};
use crate::checkpoint::Tensor;
use crate::checkpoint::source::SourceError;

/// The first byte in which two tensors of one length differ.
pub(in crate::check) fn first_difference(
    ours: &Shards,
    tensor: &Tensor,
    theirs: &Shards,
    original: &Tensor,
) -> Result<Option<u64>, SourceError> {
    let differences = ranges(tensor.len)
        .into_par_iter()
        .map_init(
            || (Vec::new(), Vec::new()),
            |(here, there), range| {
                let len = (range.end - range.start) as usize;
                ours.read(tensor, range.start, len, here)?;
                theirs.read(original, range.start, len, there)?;
                if here == there {
                    return Ok(None);
                }
                let at = here.iter().zip(there.iter()).position(|(a, b)| a != b);
                Ok(at.map(|at| range.start + at as u64))
            },
        )
        .collect::<Result<Vec<_>, SourceError>>()?;
    Ok(differences.into_iter().flatten().next())
}
