//! Over how many GPUs the quantized layers can be split without cutting a block.

use qwen_fp8_schemes::Strategy;

use crate::checkpoint::Tensor;
use crate::layer;

/// The tensor-parallel sizes that are reported.
pub const SIZES: [usize; 4] = [1, 2, 4, 8];

/// Whether the plan can be served over `size` GPUs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Alignment {
    pub size: usize,
    /// The first layer whose part no longer fits its blocks, and why; `None` when all fit.
    pub misfit: Option<String>,
}

/// The alignment of `quantized` (weight, strategy of its scales) for every size of [`SIZES`].
pub fn alignments<'a>(quantized: impl Iterator<Item = (&'a Tensor, Strategy)> + Clone) -> Vec<Alignment> {
    SIZES
        .iter()
        .map(|&size| Alignment {
            size,
            misfit: quantized.clone().find_map(|(tensor, strategy)| misfit(tensor, strategy, size)),
        })
        .collect()
}

fn misfit(tensor: &Tensor, strategy: Strategy, size: usize) -> Option<String> {
    let &[rows, columns] = tensor.shape.as_slice() else { return None };
    let (what, length, unit) = match (splits_columns(tensor.module()), strategy) {
        (true, Strategy::Block([_, unit]) | Strategy::Group(unit) | Strategy::TensorGroup(unit)) => {
            ("columns", columns, unit)
        }
        (true, _) => ("columns", columns, 1),
        (false, Strategy::Block([unit, _])) => ("rows", rows, unit),
        (false, _) => ("rows", rows, 1),
    };
    // A layer that is smaller than one block has one scale, whichever way it is read.
    if size == 1 && length < unit && what == "rows" {
        return None;
    }
    (!length.is_multiple_of(size) || !(length / size).is_multiple_of(unit)).then(|| {
        let of = if unit == 1 { String::new() } else { format!(" in blocks of {unit}") };
        format!("`{}` has {length} {what}, which {size} GPUs cannot share{of}", tensor.module())
    })
}

/// Whether a server splits this layer along its input (row parallel) rather than its output.
fn splits_columns(module: &str) -> bool {
    matches!(layer::split_name(module).1, "o_proj" | "down_proj" | "out_proj" | "wo" | "w2" | "dense_4h_to_h")
}
