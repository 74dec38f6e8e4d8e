//! `diff`: how two checkpoints differ, tensor by tensor, also across precisions.

mod config;
mod pairs;
mod summary;
mod tensor;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::coded::Coded;
use super::open::CheckError;
use super::quality::{Figures, Sums};
use super::shards::Shards;
use super::structure::{self, Structure};
use qwen_fp8_checkpoint::Checkpoint;

pub use config::ConfigDifference;
pub use summary::{KindDifference, LayerDifference};

/// How two checkpoints differ.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    pub a: PathBuf,
    pub b: PathBuf,
    /// Whether every tensor and every key of config.json is the same.
    pub same: bool,
    /// Tensors of both that are the same bytes.
    pub identical: u64,
    /// Tensors of both that are not, in order of name.
    pub changed: Vec<TensorDifference>,
    /// Those that are in one only, scales and their like aside.
    pub only_in_a: Vec<Described>,
    pub only_in_b: Vec<Described>,
    /// Those that are in both under different names.
    pub renamed: Vec<Renamed>,
    pub kinds: Vec<KindDifference>,
    /// Layers of a numbered stack in which something changed.
    pub layers: Vec<LayerDifference>,
    pub config: Vec<ConfigDifference>,
}

/// A tensor of both checkpoints that differs.
#[derive(Clone, Debug, Serialize)]
pub struct TensorDifference {
    /// As A calls it.
    pub name: String,
    pub a: Stored,
    pub b: Stored,
    /// B against A; null where they cannot be compared by value.
    pub figures: Option<Figures>,
    #[serde(skip)]
    sums: Sums,
}

/// A tensor as a checkpoint stores it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The dtype, and how scales are shared where there are some.
    pub form: String,
    pub shape: Vec<usize>,
}

/// A tensor of one checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Described {
    pub name: String,
    #[serde(flatten)]
    pub stored: Stored,
}

/// A tensor that the two checkpoints call differently.
#[derive(Clone, Debug, Serialize)]
pub struct Renamed {
    pub a: String,
    pub b: String,
}

/// One checkpoint, opened.
struct Side<'a> {
    shards: Shards,
    structure: &'a Structure<'a>,
}

/// Compares the checkpoint in `b` with the one in `a`.
///
/// # Errors
/// One of them is no checkpoint, or cannot be read.
pub fn diff(a: &Path, b: &Path) -> Result<Difference, CheckError> {
    let (checkpoint_a, checkpoint_b) =
        (Checkpoint::open(a).map_err(CheckError::Open)?, Checkpoint::open(b).map_err(CheckError::Open)?);
    // What is wrong with either is for `lint` to say.
    let (shards_a, shards_b) = (Shards::open(&checkpoint_a)?, Shards::open(&checkpoint_b)?);
    let structure_a = structure::check(&checkpoint_a, &shards_a, &mut Vec::new())?;
    let structure_b = structure::check(&checkpoint_b, &shards_b, &mut Vec::new())?;
    let side_a = Side { shards: shards_a, structure: &structure_a };
    let side_b = Side { shards: shards_b, structure: &structure_b };
    let pairs = pairs::pair(&side_a.logical(&checkpoint_a), &side_b.logical(&checkpoint_b), &side_a, &side_b)?;
    let compared =
        pairs.both.par_iter().map(|(a, b)| tensor::compare(&side_a, a, &side_b, b)).collect::<Result<Vec<_>, _>>()?;
    side_a.shards.check_unchanged()?;
    side_b.shards.check_unchanged()?;

    let kinds = summary::by_kind(&pairs.both, &compared);
    let changed: Vec<TensorDifference> = compared.into_iter().flatten().collect();
    let config = config::differences(&checkpoint_a.config, &checkpoint_b.config);
    let describe = |tensors: &[tensor::Logical<'_>]| tensors.iter().map(tensor::Logical::described).collect::<Vec<_>>();
    let (only_in_a, only_in_b) = (describe(&pairs.only_in_a), describe(&pairs.only_in_b));
    Ok(Difference {
        a: a.to_owned(),
        b: b.to_owned(),
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

impl<'a> Side<'a> {
    /// The tensors, each with its scales; in order of name.
    fn logical(&self, checkpoint: &'a Checkpoint) -> Vec<tensor::Logical<'a>> {
        let beside = |coded: &'a Coded<'a>| coded.beside.iter().map(|(_, tensor)| *tensor).chain([coded.scale]);
        let companions: BTreeSet<&str> =
            self.structure.coded.iter().flat_map(beside).map(|tensor| tensor.name.as_str()).collect();
        let mut tensors: Vec<_> = checkpoint
            .tensors
            .iter()
            .filter(|tensor| !companions.contains(tensor.name.as_str()))
            .map(|tensor| {
                let coded = self.structure.coded(tensor);
                let name = coded.map_or_else(|| tensor.name.clone(), Coded::name);
                tensor::Logical { name, tensor, coded }
            })
            .collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }
}
