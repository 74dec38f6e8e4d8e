//! The tiles of vLLM's Marlin kernels, and the layers that are no whole number of them.

use std::collections::BTreeMap;

use crate::checkpoint::config::Config;
use crate::checkpoint::models::{FusedLayer, Model, ParallelSplit, parallel_split};

use super::planned_input::PlannedInput;
use super::tensor_parallel::Heads;

/// Layers whose share on each GPU is no whole number of tiles: vLLM pads their weights when it loads them, and inputs and
/// outputs in every step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaddedLayers {
    pub layers: usize,
    /// The first of them, as vLLM merges it.
    pub first: String,
    /// Rows and columns of its share.
    pub share: [usize; 2],
}

/// Finds the layers that Marlin pads, given the quantized weights and the number of GPUs. Experts are not among them: their
/// kernels have other tiles.
pub(super) fn padded<'a>(
    quantized: impl Iterator<Item = &'a PlannedInput>,
    model: &'a Model,
    config: &Config,
    gpus: usize,
) -> Option<PaddedLayers> {
    let heads = Heads::of(config, model);
    let mut shares: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for input in quantized {
        let (&[rows, columns], module) = (input.shape.as_slice(), input.module()) else { continue };
        let name = match model.fused_layer(module) {
            Some(FusedLayer::Experts(_)) => continue,
            Some(FusedLayer::Parts { parent, layer }) => format!("{parent}.{layer}"),
            None => module.to_owned(),
        };
        let [rows, columns] = match parallel_split(module) {
            ParallelSplit::Columns => [rows, columns / gpus],
            ParallelSplit::Rows => [rows / gpus, columns],
            ParallelSplit::KeyRows => [rows / heads.shares_of_keys(gpus), columns],
            ParallelSplit::Replicated => [rows, columns],
        };
        shares.entry(name).or_insert([0, columns])[0] += rows;
    }
    shares.retain(|_, &mut [rows, columns]| !is_tiled(rows, columns));
    let layers = shares.len();
    shares.into_iter().next().map(|(first, share)| PaddedLayers { layers, first, share })
}

/// Reports whether a weight is a whole number of tiles: `marlin_padded_nk` of vLLM 0.33.
fn is_tiled(rows: usize, columns: usize) -> bool {
    let fits = |of_rows: usize, of_columns: usize| rows.is_multiple_of(of_rows) && columns.is_multiple_of(of_columns);
    fits(64, 128) || fits(128, 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_may_lie_either_way() {
        assert!(
            [[64, 128], [128, 64], [960, 1536], [1536, 576]].iter().all(|&[rows, columns]| is_tiled(rows, columns))
        );
        assert!([[64, 64], [960, 576], [100, 128], [0x80, 96]].iter().all(|&[rows, columns]| !is_tiled(rows, columns)));
    }
}
