//! `diff`: the differences of two checkpoints, tensor by tensor, also across precisions.

mod config;
mod described;
mod pairs;
mod side;
mod summary;
mod tensor;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use crate::decode::{Meter, QuantizedWeight, Shards};
use crate::open::CheckError;
use crate::structure;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::{Checkpoint, CheckpointPlace};
use side::DiffSide;
use tensor::LogicalTensor;

pub use config::ConfigDifference;
pub use described::{DescribedTensor, Renamed, StoredAs, TensorDifference};
pub use summary::{KindDifference, LayerDifference};

/// The differences of two checkpoints.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Difference {
    #[schemars(with = "PathBuf")]
    pub a: CheckpointPlace,
    #[schemars(with = "PathBuf")]
    pub b: CheckpointPlace,
    /// Set where every tensor and every key of config.json is the same.
    pub same: bool,
    /// Number of tensors in both that are the same bytes.
    pub identical: u64,
    /// Tensors in both that are not, in order of name.
    pub changed: Vec<TensorDifference>,
    /// Tensors that only A has, without scales and auxiliary tensors.
    pub only_in_a: Vec<DescribedTensor>,
    /// Tensors that only B has.
    pub only_in_b: Vec<DescribedTensor>,
    /// Tensors that are in both under different names.
    pub renamed: Vec<Renamed>,
    /// Tensors in both, by kind of layer.
    pub kinds: Vec<KindDifference>,
    /// Layers of a numbered stack in which something changed.
    pub layers: Vec<LayerDifference>,
    /// Keys of config.json that differ.
    pub config: Vec<ConfigDifference>,
}

/// Compares the checkpoint in the directory `b` with the one in `a`, as [`diff_at`].
///
/// # Errors
/// Those of [`diff_at`].
pub fn diff(a: &Path, b: &Path, progress: &dyn ProgressSink) -> Result<Difference, CheckError> {
    diff_at(&a.into(), &b.into(), progress)
}

/// Compares the checkpoint at `b` with the one at `a`.
///
/// # Errors
/// One of them is not a checkpoint, or cannot be read.
pub fn diff_at(
    a: &CheckpointPlace,
    b: &CheckpointPlace,
    progress: &dyn ProgressSink,
) -> Result<Difference, CheckError> {
    let checkpoint_a = Checkpoint::open_at(a).map_err(CheckError::Open)?;
    let checkpoint_b = Checkpoint::open_at(b).map_err(CheckError::Open)?;
    // Faults of either are for `lint` to tell. A weight that cannot be decoded is compared as the bytes it is.
    let (shards_a, shards_b) = (Shards::open(&checkpoint_a)?, Shards::open(&checkpoint_b)?);
    let structure_a = structure::check(&checkpoint_a, &shards_a, &mut Vec::new())?;
    let structure_b = structure::check(&checkpoint_b, &shards_b, &mut Vec::new())?;
    let side_a = DiffSide { shards: shards_a, structure: &structure_a };
    let side_b = DiffSide { shards: shards_b, structure: &structure_b };
    let (logical_a, logical_b) = (side_a.logical(&checkpoint_a), side_b.logical(&checkpoint_b));
    let pairs = pairs::pair(&logical_a, &logical_b, &side_a, &side_b, progress)?;
    progress.reading("comparing", pairs.both.iter().map(|(a, b)| a.bytes() + b.bytes()).sum());
    let compare = |(a, b): &(LogicalTensor<'_>, LogicalTensor<'_>)| {
        progress.at(&a.name);
        let meter = Meter::new(progress, a.bytes() + b.bytes());
        tensor::compare(&side_a, a, &side_b, b, &meter)
    };
    let compared = pairs.both.par_iter().map(compare).collect::<Result<Vec<_>, _>>()?;
    side_a.shards.check_unchanged()?;
    side_b.shards.check_unchanged()?;

    let kinds = summary::by_kind(&pairs.both, &compared);
    let changed: Vec<TensorDifference> = compared.into_iter().flatten().collect();
    let config = config::differences(&checkpoint_a.config, &checkpoint_b.config);
    let describe = |tensors: &[LogicalTensor<'_>]| -> Vec<DescribedTensor> {
        tensors.iter().map(LogicalTensor::described).collect()
    };
    let (only_in_a, only_in_b) = (describe(&pairs.only_in_a), describe(&pairs.only_in_b));
    Ok(Difference {
        a: a.clone(),
        b: b.clone(),
        same: changed.is_empty()
            && config.is_empty()
            && only_in_a.is_empty()
            && only_in_b.is_empty()
            && pairs.renamed.is_empty(),
        identical: (pairs.both.len() - changed.len()) as u64,
        layers: summary::by_layer(&changed),
        changed,
        only_in_a,
        only_in_b,
        renamed: pairs.renamed,
        kinds,
        config,
    })
}

impl<'a> DiffSide<'a> {
    /// Returns the tensors in order of name, each quantized weight as one.
    fn logical(&self, checkpoint: &'a Checkpoint) -> Vec<LogicalTensor<'a>> {
        // Only of weights that can be decoded: what belongs to others is compared as what it is.
        let beside = |weight: &'a QuantizedWeight<'a>| weight.beside().chain([weight.scale]);
        let auxiliary: BTreeSet<&str> =
            self.structure.weights.iter().flat_map(beside).map(|tensor| tensor.name.as_str()).collect();
        let mut tensors: Vec<_> = checkpoint
            .tensors
            .iter()
            .filter(|tensor| !auxiliary.contains(tensor.name.as_str()))
            .map(|tensor| {
                let quantized = self.structure.weight(tensor);
                let name = quantized.map_or_else(|| tensor.name.clone(), QuantizedWeight::name);
                LogicalTensor { name, tensor, quantized }
            })
            .collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }
}
