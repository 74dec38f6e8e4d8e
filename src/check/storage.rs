//! The ways to store weights in few bits: the tensors that each takes, what their bytes stand for, and the scales that the
//! reference makes.

mod float8;
mod integers;
mod microscaled;
mod nvfp4;

use std::fmt::Debug;

use safetensors::Dtype;

use super::codebook::Codebook;
use super::element::{epsilon, round, widen};
use super::grid::Grid;
use super::packing::{Packing, words};

pub(super) use float8::Float8;
pub(super) use integers::Integers;
pub(super) use microscaled::{Element, GROUP as MX_GROUP, Microscaled};
pub(super) use nvfp4::{GROUP as NVFP4_GROUP, Nvfp4};

/// A way to store the weights of a matrix in few bits.
pub(super) trait Storage: Debug + Sync {
    /// As messages call it, such as `FP8` or `packed INT4`.
    fn name(&self) -> String;

    /// The tensor that holds the codes.
    fn codes(&self) -> Codes;

    fn book(&self) -> &'static Codebook;

    /// The dtypes that scales are read in.
    fn scale_dtypes(&self) -> &'static [Dtype] {
        &[Dtype::F32, Dtype::BF16, Dtype::F16]
    }

    /// The tensors beside codes and scales.
    fn beside(&self) -> Vec<Beside> {
        Vec::new()
    }

    /// What the bytes of scales stand for, under the global scale where there is one.
    fn scales(&self, dtype: Dtype, bytes: &[u8], _global: f32, out: &mut Vec<f32>) {
        widen(dtype, bytes, out);
    }

    /// The step that the reference makes of a group.
    fn made(&self, group: Extremes, rounding: Rounding) -> Step;

    /// Whether a step is one that some reference tool makes of the group.
    fn follows(&self, step: Step, group: Extremes, rounding: Rounding) -> bool {
        self.made(group, rounding) == step
    }

    /// Whether a search for the least error may come to this step.
    fn is_sought(&self, _step: Step, _group: Extremes, _rounding: Rounding) -> bool {
        false
    }
}

/// One of the ways to store weights, with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float8(Float8),
    Integers(Integers),
    Microscaled(Microscaled),
    Nvfp4(Nvfp4),
}

impl Kind {
    pub(super) fn storage(&self) -> &dyn Storage {
        match self {
            Self::Float8(storage) => storage,
            Self::Integers(storage) => storage,
            Self::Microscaled(storage) => storage,
            Self::Nvfp4(storage) => storage,
        }
    }
}

/// A tensor of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codes {
    /// What follows the module's name.
    pub(super) suffix: &'static str,
    pub(super) dtype: Dtype,
    pub(super) packing: Packing,
}

/// A tensor that stands beside codes and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Rows and columns of a matrix whose codes are packed.
    WeightShape,
    /// What the scales were multiplied by before they were rounded.
    GlobalScale,
    /// The integers that stand for zero, in a byte each.
    ZeroPoints,
    /// The same, packed down the rows.
    PackedZeroPoints { bits: u32 },
}

impl Beside {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::WeightShape => "weight_shape",
            Self::GlobalScale => "weight_global_scale",
            Self::ZeroPoints | Self::PackedZeroPoints { .. } => "weight_zero_point",
        }
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::WeightShape => Dtype::I64,
            Self::GlobalScale => Dtype::F32,
            Self::ZeroPoints => Dtype::I8,
            Self::PackedZeroPoints { .. } => Dtype::I32,
        }
    }

    /// Its shape beside a matrix of this one; `None` where the groups do not fit that.
    pub(super) fn shape(self, matrix: [usize; 2], grid: Grid) -> Option<Vec<usize>> {
        match self {
            Self::WeightShape => Some(vec![2]),
            Self::GlobalScale => Some(vec![1]),
            Self::ZeroPoints => grid.scales(matrix),
            Self::PackedZeroPoints { bits } => {
                let mut shape = grid.scales(matrix)?;
                shape[0] = words(shape[0], bits);
                Some(shape)
            }
        }
    }
}

/// The least and the greatest weight under a scale; zero counts as one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Extremes {
    pub(super) least: f32,
    pub(super) greatest: f32,
}

impl Extremes {
    /// Takes in a weight; one that is no number changes nothing.
    pub(super) fn add(&mut self, weight: f32) {
        self.least = self.least.min(weight);
        self.greatest = self.greatest.max(weight);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.add(other.least);
        self.add(other.greatest);
    }

    /// The largest magnitude.
    pub(super) fn largest(self) -> f32 {
        self.greatest.max(-self.least)
    }
}

/// What the codes of a group stand for: the difference to `zero`, times `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) scale: f32,
    pub(super) zero: f32,
}

/// What numbers pass through on the way from weights to their step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounding {
    /// The dtype of the weights.
    pub(super) source: Dtype,
    /// The dtype of the scales.
    pub(super) scale: Dtype,
    /// The scale of the scales; 1 where there is none.
    pub(super) global: f32,
}

/// The scale that takes a group's largest magnitude to `range`, as compressed-tensors makes it: zero is replaced by an
/// epsilon.
fn absmax_scale(largest: f32, range: f32, dtype: Dtype) -> f32 {
    match round(largest / range, dtype) {
        0.0 => epsilon(dtype),
        rounded => rounded,
    }
}
