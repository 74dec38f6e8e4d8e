//! FP8 with float scales: the `fp8` method, and `float-quantized` and `naive-quantized` of compressed-tensors.

use safetensors::Dtype;

use super::{Codes, Extremes, Rounding, Step, Storage, absmax_scale};
use crate::codebook::{Codebook, E4M3};
use crate::element::round;
use crate::packing::Packing;

/// A search comes to a scale from so many 64ths of the largest magnitude: 12 to 28 sixteenths, and 3 more or less.
const SOUGHT: std::ops::RangeInclusive<u8> = 45..=115;

/// E4M3 codes, and scales to multiply them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Float8;

impl Storage for Float8 {
    fn name(&self) -> String {
        "FP8".to_owned()
    }

    fn codes(&self) -> Codes {
        Codes { suffix: "weight", dtype: Dtype::F8_E4M3, packing: Packing::Bytes }
    }

    fn book(&self) -> &'static Codebook {
        &E4M3
    }

    fn made(&self, group: Extremes, rounding: Rounding) -> Step {
        Step { scale: absmax_scale(group.largest(), E4M3.largest, rounding.scale), zero: 0.0 }
    }

    fn follows(&self, step: Step, group: Extremes, rounding: Rounding) -> bool {
        let (largest, max) = (group.largest(), E4M3.largest);
        // compressed-tensors divides in the dtype of the source.
        let twice = round(round(largest / max, rounding.source), rounding.scale);
        // transformers takes the reciprocal of what it multiplies by, and 1 for zero.
        let reciprocal = if largest == 0.0 { 1.0 } else { 1.0 / (max * (1.0 / largest)) };
        [self.made(group, rounding).scale, twice, round(reciprocal, rounding.scale)].contains(&step.scale)
    }

    fn is_sought(&self, step: Step, group: Extremes, rounding: Rounding) -> bool {
        SOUGHT.into_iter().any(|part| {
            let largest = group.largest() * (f32::from(part) / 64.0);
            absmax_scale(largest, E4M3.largest, rounding.scale) == step.scale
        })
    }
}
