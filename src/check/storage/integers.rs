//! Integers of 2 to 8 bits, with or without zero points: `int-quantized` in a byte each, `pack-quantized` in words.

use safetensors::Dtype;

use super::{Beside, Codes, Extremes, Rounding, Step, Storage, absmax_scale};
use crate::codebook::{self, Codebook};
use crate::element::{epsilon, round};
use crate::packing::Packing;

/// Integers, and scales to multiply them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integers {
    /// From 2 to 8.
    pub(crate) bits: u32,
    pub(crate) packed: bool,
    pub(crate) zero_points: bool,
}

impl Integers {
    /// The largest integer less the least one.
    fn range(&self) -> f32 {
        self.book().largest - self.book().least
    }
}

impl Storage for Integers {
    fn name(&self) -> String {
        let packed = if self.packed { "packed " } else { "" };
        let zero_points = if self.zero_points { " with zero points" } else { "" };
        format!("{packed}INT{}{zero_points}", self.bits)
    }

    fn codes(&self) -> Codes {
        match self.packed {
            true => Codes { suffix: "weight_packed", dtype: Dtype::I32, packing: Packing::Words(self.bits) },
            false => Codes { suffix: "weight", dtype: Dtype::I8, packing: Packing::Bytes },
        }
    }

    fn book(&self) -> &'static Codebook {
        codebook::integers(self.bits)
    }

    fn beside(&self) -> Vec<Beside> {
        let shape = self.packed.then_some(Beside::WeightShape);
        let zero_points = match self.packed {
            true => Beside::PackedZeroPoints { bits: self.bits },
            false => Beside::ZeroPoints,
        };
        shape.into_iter().chain(self.zero_points.then_some(zero_points)).collect()
    }

    fn made(&self, group: Extremes, rounding: Rounding) -> Step {
        if !self.zero_points {
            // Half of the range lies between the largest integer and the magnitude of the least.
            return Step { scale: absmax_scale(group.largest(), self.range() / 2.0, rounding.scale), zero: 0.0 };
        }
        let in_source = |number: f32| round(number, rounding.source);
        let (least, largest) = (self.book().least, self.book().largest);
        let scale = in_source(in_source(group.greatest - group.least) / self.range());
        // The zero point belongs to the scale before the epsilon stands in for it; of nothing divided by nothing it is 0.
        let zero = match group.least / scale {
            quotient if quotient.is_nan() => 0.0,
            quotient => in_source(least - in_source(quotient)).clamp(least, largest).round_ties_even(),
        };
        let scale = if scale == 0.0 { epsilon(rounding.source) } else { scale };
        Step { scale: round(scale, rounding.scale), zero }
    }
}
