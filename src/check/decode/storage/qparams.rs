//! Quantization parameters, and what they are computed from.

use safetensors::Dtype;

use crate::decode::element::{epsilon, round};

/// Quantization parameters of a group: a code stands for its value less `zero`, times `scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Qparams {
    pub(crate) scale: f32,
    /// The zero point; 0 where the form has none.
    pub(crate) zero: f32,
}

/// The least and the greatest weight of a group; zero counts as one of its weights.
// The reference takes min(least, 0) and max(greatest, 0), so that zero always has a code.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Extremes {
    pub(crate) least: f32,
    pub(crate) greatest: f32,
}

impl Extremes {
    /// Takes in a weight; NaN changes nothing.
    pub(crate) fn add(&mut self, weight: f32) {
        self.least = self.least.min(weight);
        self.greatest = self.greatest.max(weight);
    }

    /// Takes in the extremes of another part of the group.
    pub(crate) fn merge(&mut self, other: Self) {
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }

    /// Returns the largest magnitude.
    pub(crate) fn amax(self) -> f32 {
        self.greatest.max(-self.least)
    }
}

/// The dtypes that numbers are rounded to on the way from weights to their qparams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounding {
    /// The dtype of the weights.
    pub(crate) source: Dtype,
    /// The dtype of the scales.
    pub(crate) scale: Dtype,
    /// The global scale; 1 where there is none.
    pub(crate) global: f32,
}

/// Computes the scale that takes a group's amax to `range`, as compressed-tensors does: an epsilon stands in for
/// zero.
pub(super) fn absmax_scale(amax: f32, range: f32, dtype: Dtype) -> f32 {
    // Zero is replaced after the rounding, so that a scale which underflows in `dtype` becomes the epsilon as well.
    match round(amax / range, dtype) {
        0.0 => epsilon(dtype),
        rounded => rounded,
    }
}
