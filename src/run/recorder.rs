//! The record of what passes through a run: checksums of what is written and statistics of what was met.

use qwen_fp8_schemes::{Band, NonFiniteCount, Role, Scheme, TensorSpec, odd_scales};

use crate::checkpoint::manifest::NonFinite;
use crate::run::checksums::Checksums;
use crate::run::scales::non_finite_scales;
use crate::run::stats::{DegenerateScaleCounts, StatsByTensor};

/// What is noted of the data that goes through.
#[derive(Clone, Copy)]
pub(super) struct Recorder<'a> {
    pub(super) checksums: &'a Checksums<'a>,
    pub(super) non_finite: &'a StatsByTensor<NonFinite>,
    pub(super) degenerate_scales: &'a StatsByTensor<DegenerateScaleCounts>,
}

impl Recorder<'_> {
    /// Notes what a band has of remarkable counts: those that are none, as `met` has them, and the scales among what
    /// it stored.
    pub(super) fn add<'s>(
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
            if spec.role == Role::Scale {
                let odd = odd_scales(scheme.weights().strategy, spec, stored, band);
                if odd.first.is_some() {
                    self.degenerate_scales.add(tensor, odd);
                }
            }
        }
        if let Some(met) = met {
            self.non_finite.add(tensor, met, spoilt);
        }
    }
}
