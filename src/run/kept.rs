//! The NaNs and infinities that a run carries into its output, as `on_nonfinite: keep` asks, gathered by weight.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::NonFiniteCount;
use serde::{Deserialize, Serialize};

use crate::plan::{Job, Plan};
use crate::report::manifest::NonFinite;

/// A weight whose NaNs and infinities were kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub tensor: String,
    #[serde(flatten)]
    pub numbers: NonFinite,
}

/// What has been met so far, by number of the source tensor.
#[derive(Debug, Default)]
pub(super) struct Gathered(Mutex<BTreeMap<usize, NonFinite>>);

impl Gathered {
    /// Takes in one band: what it holds, and how many of the scales that it stored are no numbers. The sums and the
    /// first place are the same in whatever order bands come.
    pub(super) fn add(&self, tensor: usize, count: NonFiniteCount, scales: u64) {
        let first = count.first.map(|first| [first.row as u64, first.column as u64]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(tensor).or_default();
        known.nan += count.nan;
        known.infinite += count.infinite;
        known.scales += scales;
        known.first = known.first.into_iter().chain(first).min();
    }

    /// Takes in what an earlier run has met in weights that this one does not read again.
    pub(super) fn set(&self, plan: &Plan, kept: &[Kept], is_read_again: impl Fn(&Job) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Kept { tensor, numbers } in kept {
            let known = plan.checkpoint.tensors.iter().position(|known| known.name == *tensor);
            all.extend(known.filter(|&known| !is_read_again(&plan.jobs[known])).map(|known| (known, numbers.clone())));
        }
    }

    /// What was met in the weights whose first output lies in this shard, once that is complete.
    pub(super) fn of_shard(&self, plan: &Plan, shard: usize) -> Vec<Kept> {
        let is_there = |job: &Job| match job {
            Job::Copy { .. } => false,
            Job::Quantize { outputs, .. } => outputs.first().is_some_and(|(_, slot)| slot.shard == shard),
        };
        self.select(plan, is_there)
    }

    /// All, in the order of the checkpoint.
    pub(super) fn all(&self, plan: &Plan) -> Vec<Kept> {
        self.select(plan, |_| true)
    }

    fn select(&self, plan: &Plan, is_wanted: impl Fn(&Job) -> bool) -> Vec<Kept> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under one maximum for all of them, a band may hold none and be poisoned nevertheless.
        let wanted = all.iter().filter(|&(&tensor, _)| is_wanted(&plan.jobs[tensor]));
        wanted
            .map(|(&tensor, numbers)| Kept {
                tensor: plan.checkpoint.tensors[tensor].name.clone(),
                numbers: numbers.clone(),
            })
            .collect()
    }
}
