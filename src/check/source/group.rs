//! The weights of a group, and the verdict on its qparams once all of them are known.

use safetensors::Dtype;

use super::occurrences::Occurrences;
use crate::decode::{Extremes, Qparams, QuantizedWeight};
use crate::report::{WorstBlock, decibels, signal_to_noise};

/// Sums over the weights of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupSums {
    pub(crate) extremes: Extremes,
    /// Sum of the squared weights.
    pub(crate) source: f64,
    /// Sum of the squared errors.
    pub(crate) error: f64,
    /// Set where the source has a NaN or an infinity in the group.
    pub(crate) non_finite: bool,
    /// Weights that were clamped to an end of the format from further away than rounding explains.
    pub(crate) clamped: Occurrences,
}

impl GroupSums {
    /// Adds a later part of the group.
    pub(crate) fn merge(&mut self, later: &Self) {
        self.extremes.merge(later.extremes);
        self.source += later.source;
        self.error += later.error;
        self.non_finite |= later.non_finite;
        self.clamped.merge(later.clamped);
    }
}

/// Counts of scales that are the reference's and of others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ScaleCount {
    /// Scales that the rule gives.
    pub(crate) following: u64,
    pub(crate) other: u64,
    /// Index of the first other one.
    pub(crate) first: usize,
    pub(crate) rule: ScaleRule,
}

/// The rule that a weight's scales are compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ScaleRule {
    /// The absmax rule, where most scales of the whole result follow it. Where most do not, another observer made
    /// them.
    #[default]
    Majority,
    /// The absmax rule or a search for the least error, for every scale.
    Search,
    /// The scale that takes the amax to 6 or that which takes it to 4, whichever leaves the lesser squared error, for every
    /// scale.
    FourOverSix,
    /// The absmax rule or the least power of two that clamps nothing, for every scale.
    Lossless,
    /// The absmax rule, for every scale.
    Absmax,
}

impl ScaleRule {
    /// Reports whether scales are those of least error among several.
    pub(crate) fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::FourOverSix)
    }
}

/// The verdict on the groups of a weight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupVerdict {
    pub(crate) scales: ScaleCount,
    /// Scales that are not finite though the source is.
    pub(crate) unexplained: u64,
    /// Weights that were clamped and should not have been.
    pub(crate) outside: Occurrences,
    /// The largest magnitude of the source.
    pub(crate) amax: f32,
    /// Index, signal-to-noise ratio (of squares) and scale of the group with the lowest ratio.
    worst: Option<(usize, f64, f32)>,
}

impl GroupVerdict {
    /// Takes in a group of which all weights are known, in order of the indices. `follows` says whether its qparams are those of
    /// the rule.
    pub(crate) fn add(
        &mut self,
        weight: &QuantizedWeight<'_>,
        source: Dtype,
        index: usize,
        qparams: Qparams,
        group: &GroupSums,
        follows: impl FnOnce() -> bool,
    ) {
        self.amax = self.amax.max(group.extremes.amax());
        if !qparams.scale.is_finite() && group.non_finite {
            // Let through with the weights that made it, and of no rule: the finite scales beside it are judged all
            // the same.
            return;
        }
        self.unexplained += u64::from(!qparams.scale.is_finite());
        let follows = follows();
        if follows {
            self.scales.following += 1;
        } else {
            if self.scales.other == 0 {
                self.scales.first = index;
            }
            self.scales.other += 1;
        }
        if group.clamped.number > 0 {
            // A scale is rounded to its dtype, and one that was rounded down is too small for the largest weight:
            // such clamping is the reference's. Under a scale of one's own it is right only where that is no smaller.
            let reference = weight.form.storage.reference(group.extremes, weight.rounding(source));
            let is_due = follows || (reference.zero == qparams.zero && reference.scale <= qparams.scale);
            if !is_due {
                self.outside.merge(group.clamped);
            }
        }
        // The lowest ratio and not the largest error: groups of small weights would never be the worst otherwise.
        // Nearly all groups are told to be better by a product, which takes a fraction of the time of the quotient.
        let may_be_worst = self.worst.is_none_or(|(_, least, _)| group.source <= least * group.error * 1.000_001);
        if may_be_worst
            && let Some(noise) = signal_to_noise(group.source, group.error)
            && self.worst.is_none_or(|(_, least, _)| noise < least)
        {
            self.worst = Some((index, noise, qparams.scale));
        }
    }

    /// Adds the verdict on later groups.
    pub(crate) fn merge(&mut self, later: Self) {
        if self.scales.other == 0 {
            self.scales.first = later.scales.first;
        }
        self.scales.following += later.scales.following;
        self.scales.other += later.scales.other;
        self.unexplained += later.unexplained;
        self.outside.merge(later.outside);
        self.amax = self.amax.max(later.amax);
        if let Some((_, noise, _)) = later.worst
            && self.worst.is_none_or(|(_, least, _)| noise < least)
        {
            self.worst = later.worst;
        }
    }

    /// Returns the group with the lowest signal-to-noise ratio.
    pub(crate) fn worst(&self, weight: &QuantizedWeight<'_>) -> Option<WorstBlock> {
        let (index, ratio, scale) = self.worst?;
        let sqnr_db = decibels(ratio);
        let ([height, width], [rows, columns], across) = (weight.sides(), weight.shape, weight.across());
        let at = [index / across * height, index % across * width];
        let size = [height.min(rows - at[0]), width.min(columns - at[1])];
        Some(WorstBlock { at, size, sqnr_db, scale })
    }
}
