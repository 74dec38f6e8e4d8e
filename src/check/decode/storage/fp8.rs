//! FP8 with a scale for a block, a row or a whole matrix: the `fp8` method, and `float-quantized` and
//! `naive-quantized` of compressed-tensors.

use std::ops::RangeInclusive;

use safetensors::Dtype;

use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage, StorageForms};
use super::qparams::{Extremes, Qparams, Rounding, absmax_scale};
use crate::decode::codebook::{Codebook, E4M3};
use crate::decode::element::{power_of_two, round, widen};
use crate::decode::packing::Packing;

/// The parts of the amax, in 64ths, of which a search makes its scales.
// The MSE search tries 12 to 28 sixteenths of the amax in steps of a sixteenth, and then three 64ths to either side.
const SEARCHED: RangeInclusive<u8> = 45..=115;

/// E4M3 codes with a scale for each group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp8Storage {
    pub(super) scales: Fp8Scales,
}

/// The scales that config.json allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fp8Scales {
    /// Floats: compressed-tensors.
    Floats,
    /// Floats or E8M0: the `fp8` method, whose readers go by the dtype of the tensor.
    FloatsOrExponents,
    /// Powers of two, as floats or as E8M0: the `fp8` method with `scale_fmt: ue8m0`.
    PowersOfTwo,
}

pub(super) fn forms() -> StorageForms {
    vec![Box::new(Fp8Storage { scales: Fp8Scales::Floats })]
}

impl Storage for Fp8Storage {
    fn name(&self) -> String {
        "FP8".to_owned()
    }

    fn values(&self) -> String {
        self.codes().dtype.to_string()
    }

    fn declaration(&self) -> Declaration {
        Declaration {
            formats: &["float-quantized", "naive-quantized"],
            bits: 8,
            number: "float",
            symmetric: Symmetry::Always,
            scale_dtypes: &[""],
            strategies: Strategies::Any(&["tensor", "channel", "block"]),
            activations: &[(8, "float")],
        }
    }

    fn codes(&self) -> CodesTensor {
        CodesTensor { suffix: "weight", dtype: Dtype::F8_E4M3, packing: Packing::Bytes }
    }

    fn codebook(&self) -> &'static Codebook {
        &E4M3
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        const ALL: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::F8_E8M0, Dtype::U8];
        match self.scales {
            Fp8Scales::Floats => &ALL[..3],
            Fp8Scales::FloatsOrExponents => &ALL[..4],
            // A byte without the name of its format is one that only the config tells.
            Fp8Scales::PowersOfTwo => ALL,
        }
    }

    fn scales(&self, dtype: Dtype, bytes: &[u8], _global: f32, out: &mut Vec<f32>) {
        match dtype {
            Dtype::F8_E8M0 | Dtype::U8 => {
                out.clear();
                out.extend(bytes.iter().map(|&byte| power_of_two(byte)));
            }
            _ => widen(dtype, bytes, out),
        }
    }

    fn are_powers_of_two(&self) -> bool {
        self.scales == Fp8Scales::PowersOfTwo
    }

    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        Qparams { scale: absmax_scale(group.amax(), E4M3.largest, rounding.scale), zero: 0.0 }
    }

    fn is_reference(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        let (amax, max) = (group.amax(), E4M3.largest);
        // compressed-tensors divides in the dtype of the source and stores in that of the scale: two roundings where
        // these differ.
        let twice = round(round(amax / max, rounding.source), rounding.scale);
        // transformers stores the reciprocal of the factor it multiplies by, and 1 for a group of zeros.
        let reciprocal = if amax == 0.0 { 1.0 } else { 1.0 / (max * (1.0 / amax)) };
        let made = [self.reference(group, rounding).scale, twice, round(reciprocal, rounding.scale)];
        // With `scale_fmt: ue8m0` it takes the next power of two that is no smaller. Elsewhere that is no rule: an altered
        // scale may be one by chance.
        let takes_powers = self.are_powers_of_two() || matches!(rounding.scale, Dtype::F8_E8M0 | Dtype::U8);
        let power = reciprocal.max(f32::MIN_POSITIVE).log2().ceil().exp2();
        made.contains(&qparams.scale) || takes_powers && qparams.scale == power
    }

    fn is_search_candidate(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        SEARCHED.into_iter().any(|part| {
            let amax = group.amax() * (f32::from(part) / 64.0);
            absmax_scale(amax, E4M3.largest, rounding.scale) == qparams.scale
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_of_two_follows_from_the_amax_only_where_scales_are_powers_of_two() {
        let mut group = Extremes::default();
        group.add(300.0);
        let rounding = |scale| Rounding { source: Dtype::BF16, scale, global: 1.0 };
        let power = Qparams { scale: 1.0, zero: 0.0 };
        let follows = |scales, dtype| Fp8Storage { scales }.is_reference(power, group, rounding(dtype));
        assert!(!follows(Fp8Scales::Floats, Dtype::F32) && !follows(Fp8Scales::FloatsOrExponents, Dtype::BF16));
        assert!(follows(Fp8Scales::PowersOfTwo, Dtype::F32) && follows(Fp8Scales::FloatsOrExponents, Dtype::F8_E8M0));
        let exact = Qparams { scale: 300.0 / 448.0, zero: 0.0 };
        assert!(Fp8Storage { scales: Fp8Scales::Floats }.is_reference(exact, group, rounding(Dtype::F32)));
    }
}
