//! What a run meets in weights that is worth telling, gathered by weight: NaNs and infinities that it carries into its
//! output, and groups with remarkable scales.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use qwen_fp8_schemes::{Band, NonFiniteCount, Scheme, TensorRole, TensorSpec, odd_scales};
use serde::{Deserialize, Serialize};

use crate::plan::{Job, Plan};
use crate::report::manifest::NonFinite;
use crate::run::checksums::Checksums;
use crate::run::self_check::non_finite_scales;

/// A weight and what was met in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met<T> {
    pub tensor: String,
    #[serde(flatten)]
    pub numbers: T,
}

/// Groups of a weight whose scale says more than how large they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OddScales {
    /// Groups of zeros.
    pub zero: u64,
    /// Groups too small for a scale of their own.
    pub underflowed: u64,
    /// Groups whose scale is subnormal.
    pub subnormal: u64,
    /// Row and column where the first of them begins.
    pub first: Option<[u64; 2]>,
}

/// What has been met so far, by number of the source tensor.
#[derive(Debug, Default)]
pub(super) struct Gathered<T>(Mutex<BTreeMap<usize, T>>);

/// What is noted of the data that goes through.
#[derive(Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) checksums: &'a Checksums<'a>,
    pub(super) kept: &'a Gathered<NonFinite>,
    pub(super) scales: &'a Gathered<OddScales>,
}

impl Record<'_> {
    /// Notes what a band has of remarkable numbers: those that are none, as `met` has them, and the scales among what
    /// it stored.
    pub(super) fn note<'s>(
        &self,
        tensor: usize,
        scheme: &dyn Scheme,
        band: &Band<'_>,
        met: Option<NonFiniteCount>,
        stored: impl Iterator<Item = (&'s TensorSpec, &'s [u8])>,
    ) {
        let mut spoilt = 0;
        for (spec, stored) in stored {
            if met.is_some() {
                spoilt += non_finite_scales(spec, stored);
            }
            if spec.role == TensorRole::Scale {
                let odd = odd_scales(scheme.weights().strategy, spec, stored, band);
                if odd.first.is_some() {
                    self.scales.add(tensor, odd);
                }
            }
        }
        if let Some(met) = met {
            self.kept.add(tensor, met, spoilt);
        }
    }
}

// The sums and the first place are the same in whatever order bands come.
impl Gathered<NonFinite> {
    /// Takes in one band: what it holds, and how many of the scales that it stored are no numbers.
    pub(super) fn add(&self, tensor: usize, count: NonFiniteCount, scales: u64) {
        let first = count.first.map(|first| [first.row as u64, first.column as u64]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(tensor).or_default();
        known.nan += count.nan;
        known.infinite += count.infinite;
        known.scales += scales;
        known.first = known.first.into_iter().chain(first).min();
    }
}

impl Gathered<OddScales> {
    /// Takes in one band.
    pub(super) fn add(&self, tensor: usize, odd: qwen_fp8_schemes::OddScales) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(tensor).or_default();
        known.zero += odd.zero;
        known.underflowed += odd.underflowed;
        known.subnormal += odd.subnormal;
        let first = odd.first.map(|place| place.map(|index| index as u64));
        known.first = known.first.into_iter().chain(first).min();
    }
}

impl<T: Clone> Gathered<T> {
    /// Takes in what an earlier run has met in weights that this one does not read again.
    pub(super) fn set(&self, plan: &Plan, met: &[Met<T>], is_read_again: impl Fn(&Job) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Met { tensor, numbers } in met {
            let known = plan.checkpoint.tensors.iter().position(|known| known.name == *tensor);
            all.extend(known.filter(|&known| !is_read_again(&plan.jobs[known])).map(|known| (known, numbers.clone())));
        }
    }

    /// What was met in the weights whose first output lies in this shard, once that is complete.
    pub(super) fn of_shard(&self, plan: &Plan, shard: usize) -> Vec<Met<T>> {
        let is_there = |job: &Job| match job {
            Job::Copy { .. } | Job::Carry { .. } => false,
            Job::Quantize { outputs, .. } => outputs.first().is_some_and(|(_, slot)| slot.shard == shard),
        };
        self.select(plan, is_there)
    }

    /// All, in the order of the checkpoint.
    pub(super) fn all(&self, plan: &Plan) -> Vec<Met<T>> {
        self.select(plan, |_| true)
    }

    fn select(&self, plan: &Plan, is_wanted: impl Fn(&Job) -> bool) -> Vec<Met<T>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = all.iter().filter(|&(&tensor, _)| is_wanted(&plan.jobs[tensor]));
        wanted
            .map(|(&tensor, numbers)| Met {
                tensor: plan.checkpoint.tensors[tensor].name.clone(),
                numbers: numbers.clone(),
            })
            .collect()
    }
}
