//! Statistics of the weights that a run quantizes: non-finite values that go into the output, and degenerate scales.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::NonFiniteCount;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::checkpoint::manifest::NonFiniteRecord;
use crate::plan::{Job, Plan};

/// Statistics of one weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TensorStats<T> {
    pub tensor: String,
    #[serde(flatten)]
    pub counts: T,
}

/// Number of groups of a weight with a degenerate scale, by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DegenerateScaleCounts {
    /// Groups of zeros.
    pub zero: u64,
    /// Groups whose absolute maximum is too small for a scale of their own.
    pub underflowed: u64,
    /// Groups whose scale is subnormal.
    pub subnormal: u64,
    /// Row and column of the weight where the first of these groups begins.
    pub first: Option<[u64; 2]>,
}

/// Granules of a weight that were to be held exactly and were rounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LossyGranuleCounts {
    pub granules: u64,
    /// Row and column of the weight where the first of these granules begins.
    pub first: Option<[u64; 2]>,
}

/// Statistics of all weights so far, by number of the plan's input.
#[derive(Debug, Default)]
pub(super) struct StatsByTensor<T>(Mutex<BTreeMap<usize, T>>);

// Bands come in any order. Sums and the smallest place do not depend on it, so that report and manifest are the same
// for any number of workers.
impl StatsByTensor<NonFiniteRecord> {
    /// Adds one band: its non-finite values, and the number of its scales that became non-finite.
    pub(super) fn add(&self, tensor: usize, count: NonFiniteCount, scales: u64) {
        let first = count.first.map(|first| [first.row as u64, first.column as u64]);
        self.add_to(tensor, &NonFiniteRecord { nan: count.nan, infinite: count.infinite, scales, first });
    }
}

impl StatsByTensor<DegenerateScaleCounts> {
    /// Adds one band.
    pub(super) fn add(&self, tensor: usize, odd: qwen_fp8_schemes::DegenerateScales) {
        let first = odd.first.map(|place| place.map(|index| index as u64));
        let (zero, underflowed, subnormal) = (odd.zero, odd.underflowed, odd.subnormal);
        self.add_to(tensor, &DegenerateScaleCounts { zero, underflowed, subnormal, first });
    }
}

impl StatsByTensor<LossyGranuleCounts> {
    /// Adds one band.
    pub(super) fn add(&self, tensor: usize, lossy: qwen_fp8_schemes::LossyGranules) {
        let first = lossy.first.map(|granule| granule.place.map(|index| index as u64));
        self.add_to(tensor, &LossyGranuleCounts { granules: lossy.number, first });
    }
}

/// Counts that of several bands, or of several parts, are added up.
pub(super) trait Counts: Clone + Default {
    /// Adds others of the same weight.
    fn add(&mut self, other: &Self);
}

impl<T: Counts> StatsByTensor<T> {
    /// Adds the statistics that a part recorded, of the rows that it quantized.
    pub(super) fn add_all(&self, plan: &Plan, met: &[TensorStats<T>]) {
        let by_name: BTreeMap<&str, usize> = match met {
            [] => return,
            _ => plan.inputs.iter().enumerate().map(|(input, known)| (known.name.as_str(), input)).collect(),
        };
        for TensorStats { tensor, counts } in met {
            if let Some(&input) = by_name.get(tensor.as_str()) {
                self.add_to(input, counts);
            }
        }
    }

    fn add_to(&self, tensor: usize, counts: &T) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(tensor).or_default().add(counts);
    }
}

impl<T: Clone> StatsByTensor<T> {
    /// Sets the statistics that an earlier run recorded, of the weights that this one does not read again.
    pub(super) fn set(&self, plan: &Plan, met: &[TensorStats<T>], is_read_again: impl Fn(&Job) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for TensorStats { tensor, counts } in met {
            let known = plan.inputs.iter().position(|known| known.name == *tensor);
            all.extend(known.filter(|&known| !is_read_again(&plan.jobs[known])).map(|known| (known, counts.clone())));
        }
    }

    /// Returns the statistics of the weights whose first output lies in a shard that is complete.
    pub(super) fn of_shard(&self, plan: &Plan, shard: usize) -> Vec<TensorStats<T>> {
        let is_there = |job: &Job| match job {
            Job::Copy { .. } | Job::PassThrough { .. } | Job::Dequantize { .. } => false,
            Job::Quantize { outputs, .. } => outputs.first().is_some_and(|(_, slot)| slot.shard == shard),
        };
        self.select(plan, is_there)
    }

    /// Returns the statistics of all weights, in the order of the checkpoint.
    pub(super) fn all(&self, plan: &Plan) -> Vec<TensorStats<T>> {
        self.select(plan, |_| true)
    }

    fn select(&self, plan: &Plan, is_wanted: impl Fn(&Job) -> bool) -> Vec<TensorStats<T>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = all.iter().filter(|&(&tensor, _)| is_wanted(&plan.jobs[tensor]));
        wanted
            .map(|(&tensor, counts)| TensorStats { tensor: plan.inputs[tensor].name.clone(), counts: counts.clone() })
            .collect()
    }
}

impl Counts for NonFiniteRecord {
    fn add(&mut self, other: &Self) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.scales += other.scales;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

impl Counts for DegenerateScaleCounts {
    fn add(&mut self, other: &Self) {
        self.zero += other.zero;
        self.underflowed += other.underflowed;
        self.subnormal += other.subnormal;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

impl Counts for LossyGranuleCounts {
    fn add(&mut self, other: &Self) {
        self.granules += other.granules;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}
