//! The subject of a fit: the tensors that servers load, from a plan or from a checkpoint, and how they are stored.

use std::collections::BTreeMap;

use super::cache::CacheDtype;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::{Layer, Model};
use crate::plan::{Plan, ServedWeights, unserved_checkpoint};

/// A model as servers will find it.
#[derive(Debug)]
pub struct FitSubject<'a> {
    pub(super) tensors: Vec<HeldTensor<'a>>,
    pub(super) config: &'a Config,
    pub(super) model: &'a Model,
    /// The forms of quantized weights, and whether the GPUs can share them.
    pub(super) served: ServedWeights,
    /// The dtype of the cache that it asks for.
    pub(super) cache: CacheDtype,
    /// Servers that do not load it, each with the reason.
    pub(super) unserved: BTreeMap<String, String>,
    /// The reason why nothing is known of the way in which it is quantized.
    pub(super) unknown_form: Option<String>,
    /// The `preprocessor_config.json` of a model that sees images, where there is one.
    pub(super) preprocessor: Option<serde_json::Value>,
}

/// A tensor that a server is to load.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldTensor<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    pub(super) bytes: u64,
    pub(super) layer: Layer,
}

impl<'a> FitSubject<'a> {
    /// The output of a plan, on so many GPUs.
    pub fn of_plan(plan: &'a Plan, gpus: u64) -> Self {
        let model = &plan.checkpoint.model;
        let tensors = plan.shards.iter().flat_map(|shard| &shard.tensors).map(|placed| HeldTensor {
            name: &placed.entry.name,
            shape: &placed.entry.shape,
            bytes: placed.len,
            layer: model.layer(&placed.entry.name, placed.entry.shape.len()),
        });
        Self {
            tensors: tensors.collect(),
            config: &plan.checkpoint.config,
            model,
            served: ServedWeights::of_plan(plan, number(gpus)),
            cache: CacheDtype::declared(&plan.quantization_config()),
            unserved: plan.unserved.clone(),
            unknown_form: None,
            preprocessor: None,
        }
    }

    /// A checkpoint as it is, on so many GPUs.
    pub fn of_checkpoint(checkpoint: &'a Checkpoint, gpus: u64) -> Self {
        let tensors = checkpoint.tensors.iter().map(|tensor| HeldTensor {
            name: &tensor.name,
            shape: &tensor.shape,
            bytes: tensor.len,
            layer: tensor.layer,
        });
        let (served, unknown_form) = match ServedWeights::of_checkpoint(checkpoint, number(gpus)) {
            Ok(served) => (served, None),
            Err(why) => (ServedWeights::unknown(&checkpoint.config, &checkpoint.model, number(gpus)), Some(why)),
        };
        Self {
            tensors: tensors.collect(),
            config: &checkpoint.config,
            model: &checkpoint.model,
            served,
            cache: checkpoint.config.quantization_config().map_or(CacheDtype::Auto, |text| {
                // A config that is none is told of where the forms of weights are read.
                serde_json::from_str(text).map_or(CacheDtype::Auto, |config| CacheDtype::declared(&config))
            }),
            unserved: unserved_checkpoint(checkpoint),
            unknown_form,
            preprocessor: None,
        }
    }

    /// Adds what says how large images become.
    #[must_use]
    pub fn with_preprocessor(self, preprocessor: Option<serde_json::Value>) -> Self {
        Self { preprocessor, ..self }
    }
}

/// The number of GPUs as a size of this machine.
pub(super) fn number(gpus: u64) -> usize {
    usize::try_from(gpus).unwrap_or(usize::MAX)
}
