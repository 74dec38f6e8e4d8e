//! `nvfp4-pack-quantized` and ModelOpt's NVFP4: E2M1 under an E4M3 scale for every 16 columns, and one F32 scale for
//! the matrix.

use safetensors::Dtype;

use super::auxiliary::{AuxRole, AuxTensor};
use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage, StorageForms};
use super::qparams::{Extremes, Qparams, Rounding};
use crate::decode::codebook::{Codebook, E2M1, E4M3};
use crate::decode::element::{round, smallest_normal};
use crate::decode::packing::Packing;

/// Columns that share a scale.
const GROUP: usize = 16;

/// E2M1 codes with an E4M3 scale for each group of columns and an F32 scale for the matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nvfp4Storage {
    pub(super) by: Nvfp4Maker,
}

/// The tool whose names and whose direction of the global scale are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nvfp4Maker {
    /// Scales are divided by the global one.
    CompressedTensors,
    /// Scales are multiplied by it.
    ModelOpt,
}

pub(super) fn forms() -> StorageForms {
    vec![Box::new(Nvfp4Storage { by: Nvfp4Maker::CompressedTensors })]
}

impl Storage for Nvfp4Storage {
    fn name(&self) -> String {
        "NVFP4".to_owned()
    }

    fn declaration(&self) -> Declaration {
        Declaration {
            formats: &["nvfp4-pack-quantized"],
            bits: 4,
            number: "float",
            symmetric: Symmetry::Always,
            scale_dtypes: &["torch.float8_e4m3fn", ""],
            strategies: Strategies::Group("tensor_group", GROUP),
            activations: &[(4, "float")],
        }
    }

    fn codes(&self) -> CodesTensor {
        let suffix = match self.by {
            Nvfp4Maker::CompressedTensors => "weight_packed",
            Nvfp4Maker::ModelOpt => "weight",
        };
        CodesTensor { suffix, dtype: Dtype::U8, packing: Packing::Nibbles }
    }

    fn codebook(&self) -> &'static Codebook {
        &E2M1
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        &[Dtype::F8_E4M3]
    }

    fn auxiliary(&self) -> Vec<AuxTensor> {
        let suffix = match self.by {
            Nvfp4Maker::CompressedTensors => "weight_global_scale",
            Nvfp4Maker::ModelOpt => "weight_scale_2",
        };
        vec![AuxTensor { suffix, dtype: Dtype::F32, role: AuxRole::GlobalScale }]
    }

    fn scales(&self, _: Dtype, bytes: &[u8], global: f32, out: &mut Vec<f32>) {
        // As many divisions as there are codes, where scales are thousands.
        let values: [f32; 256] = std::array::from_fn(|code| self.under(E4M3.value[code], global));
        out.clear();
        out.extend(bytes.iter().map(|&code| values[usize::from(code)]));
    }

    fn global_scale(&self, amax: f32, source: Dtype) -> f32 {
        if self.by == Nvfp4Maker::ModelOpt {
            return amax / (E4M3.largest * E2M1.largest);
        }
        global_scale(amax, E4M3.largest, source)
    }

    #[inline]
    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        self.made(&E4M3, E2M1.largest, group, rounding)
    }

    fn are_references(&self, qparams: &[Qparams], groups: &[Extremes], rounding: Rounding, answers: &mut [bool]) {
        // The tables are asked for once: what is made when it is first asked for keeps a loop from becoming vectors.
        let largest = E2M1.largest;
        let scales: &Codebook = &E4M3;
        for ((qparams, &group), answer) in qparams.iter().zip(groups).zip(answers) {
            *answer = self.made(scales, largest, group, rounding) == *qparams;
        }
    }

    fn is_search_candidate(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        // The range of llm-compressor's `nvfp4_expanded_mse`.
        let exact = self.exact(group, E2M1.largest, rounding);
        let tried = |scale: &f32| (0.8 * exact..=1.8 * exact).contains(scale);
        E4M3.value.iter().filter(|scale| tried(scale)).any(|&scale| self.under(scale, rounding.global) == qparams.scale)
    }

    fn is_four_over_six(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        [E2M1.largest, 4.0].into_iter().any(|largest| self.made(&E4M3, largest, group, rounding) == qparams)
    }

    // One and a half times 256 are no more than 448.
    fn global_of_four_over_six(&self, amax: f32, source: Dtype) -> f32 {
        global_scale(amax, 256.0, source)
    }

    // The largest weight is more than half of what it may be, and its group has the largest scale. Doubling is exact.
    fn global_power_of_two(&self, amax: f32) -> f32 {
        let (amax, mut scale) = (f64::from(amax), 1f64);
        let product = |scale: f64| f64::from(E2M1.largest) * POWERS[1] / scale;
        if amax == 0.0 || !amax.is_finite() {
            return 1.0;
        }
        while amax > product(scale) {
            scale /= 2.0;
        }
        // The reciprocal, which servers store, is to be normal.
        while amax <= product(2.0 * scale) && scale < 2f64.powi(126) {
            scale *= 2.0;
        }
        scale as f32
    }

    fn is_least_power_of_two(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        // What is stored, and so no power that E4M3 does not have. Both numbers are powers of two: the product is exact.
        let stored = f64::from(qparams.scale) * f64::from(rounding.global);
        let is_power = (POWERS[0]..=POWERS[1]).contains(&stored) && stored.to_bits() << 12 == 0;
        let (amax, bound) = (f64::from(group.amax()), f64::from(E2M1.largest) * f64::from(qparams.scale));
        is_power && amax <= bound && (amax > bound / 2.0 || stored == POWERS[0])
    }
}

/// The least and the largest power of two that E4M3 has.
const POWERS: [f64; 2] = [1.0 / 512.0, 256.0];

impl Nvfp4Storage {
    /// The scale of a group, not yet rounded to E4M3, under which its amax is `largest`.
    fn exact(self, group: Extremes, largest: f32, rounding: Rounding) -> f32 {
        match self.by {
            Nvfp4Maker::CompressedTensors => rounding.global * round(group.amax() / largest, rounding.source),
            Nvfp4Maker::ModelOpt => group.amax() / largest / rounding.global,
        }
    }

    /// The scale that is stored for a group whose largest code is to be `largest`: 0.125, the epsilon of E4M3, stands in for one
    /// that rounds to zero. `scales` is the table of E4M3.
    #[inline]
    fn made(self, scales: &Codebook, largest: f32, group: Extremes, rounding: Rounding) -> Qparams {
        let scale = match scales.nearest(self.exact(group, largest, rounding)) {
            0.0 => 0.125,
            scale => scale,
        };
        Qparams { scale: self.under(scale, rounding.global), zero: 0.0 }
    }

    /// Puts a scale under the global one.
    fn under(self, scale: f32, global: f32) -> f32 {
        match self.by {
            Nvfp4Maker::CompressedTensors => scale / global,
            Nvfp4Maker::ModelOpt => scale * global,
        }
    }
}

/// Computes compressed-tensors' global scale, under which the scale that takes `amax` to 6 is `largest`.
fn global_scale(amax: f32, largest: f32, source: Dtype) -> f32 {
    // PyTorch evaluates `2688 / amax` as a reciprocal times 2688: two roundings, both in the dtype of the weights.
    let reciprocal = round(1.0 / amax.max(smallest_normal(source)), source);
    let scale = round(reciprocal * (largest * E2M1.largest), source);
    // The reference takes 1 where that overflows, as F16 does for every amax below 0.041.
    if scale.is_finite() { scale } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_contract() {
        let storage = Nvfp4Storage { by: Nvfp4Maker::CompressedTensors };
        assert_eq!((storage.global_scale(3.0, Dtype::BF16), storage.global_scale(1.0, Dtype::F32)), (896.0, 2688.0));
        assert_eq!((storage.global_scale(0.0, Dtype::BF16), storage.global_scale(0.04, Dtype::F16)), (1.0, 1.0));
        assert!(storage.global_scale(0.042, Dtype::F16) > 60_000.0);
        let made = |largest, global| {
            let rounding = Rounding { source: Dtype::BF16, scale: Dtype::F8_E4M3, global };
            storage.reference(Extremes { least: 0.0, greatest: largest }, rounding).scale
        };
        // The largest weight of the matrix has the largest scale, and zeros have an eighth.
        assert_eq!((made(3.0, 896.0), made(0.0, 896.0), made(6.0, 1.0)), (448.0 / 896.0, 0.125 / 896.0, 1.0));
    }
}
