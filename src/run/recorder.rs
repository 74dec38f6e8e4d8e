//! The record of what passes through a run: checksums of what is written and statistics of what was met.

use qwen_fp8_schemes::{Band, NonFiniteCount, Scheme, TensorRole, TensorSpec, degenerate_scales};

use crate::checkpoint::manifest::NonFiniteRecord;
use crate::plan::{Job, Plan};
use crate::run::checksums::Checksums;
use crate::run::journal::FinishedShard;
use crate::run::scales::non_finite_scales;
use crate::run::share::is_wanted;
use crate::run::stats::{DegenerateScaleCounts, LossyGranuleCounts, StatsByTensor};

/// Checksums and statistics of the data that passes through a run.
pub(super) struct Recorder<'a> {
    pub(super) checksums: Checksums<'a>,
    pub(super) non_finite: StatsByTensor<NonFiniteRecord>,
    pub(super) degenerate_scales: StatsByTensor<DegenerateScaleCounts>,
    pub(super) lossy_granules: StatsByTensor<LossyGranuleCounts>,
}

impl<'a> Recorder<'a> {
    /// Begins with nothing recorded.
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self {
            checksums: Checksums::new(&plan.shards),
            non_finite: StatsByTensor::default(),
            degenerate_scales: StatsByTensor::default(),
            lossy_granules: StatsByTensor::default(),
        }
    }

    /// Records a quantized band: its non-finite values, which the scheme has counted, and the degenerate scales among
    /// the tensors that it stored.
    pub(super) fn add<'s>(
        &self,
        tensor: usize,
        scheme: &dyn Scheme,
        band: &Band<'_>,
        non_finite: Option<NonFiniteCount>,
        stored: impl Iterator<Item = (&'s TensorSpec, &'s [u8])>,
    ) {
        let mut non_finite_count = 0;
        for (spec, stored) in stored {
            // Only a band with a non-finite value can have a non-finite scale by now: others have ended the run.
            if non_finite.is_some() {
                non_finite_count += non_finite_scales(spec, stored);
            }
            if spec.role == TensorRole::Scale {
                let odd = degenerate_scales(scheme.weights().strategy, spec, stored, band);
                if odd.first.is_some() {
                    self.degenerate_scales.add(tensor, odd);
                }
            }
        }
        if let Some(values) = non_finite {
            self.non_finite.add(tensor, values, non_finite_count);
        }
    }

    /// Takes over what an earlier run met in the weights of a shard that it finished; `finished` says of each shard whether it is.
    pub(super) fn resume(&self, plan: &Plan, shard: &FinishedShard, finished: &[bool]) {
        let is_read_again = |job: &Job| is_wanted(job, finished);
        self.non_finite.set(plan, &shard.non_finite, is_read_again);
        self.degenerate_scales.set(plan, &shard.degenerate_scales, is_read_again);
        self.lossy_granules.set(plan, &shard.lossy_granules, is_read_again);
    }

    /// Returns the journal's line for a complete shard.
    pub(super) fn finished_shard(&self, plan: &Plan, shard: usize) -> FinishedShard {
        let layout = &plan.shards[shard];
        FinishedShard {
            shard: layout.file_name.clone(),
            size: layout.size,
            crc64: self.checksums.shard(shard),
            non_finite: self.non_finite.of_shard(plan, shard),
            degenerate_scales: self.degenerate_scales.of_shard(plan, shard),
            lossy_granules: self.lossy_granules.of_shard(plan, shard),
        }
    }
}
