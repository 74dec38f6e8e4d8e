//! `nvfp4-pack-quantized`: E2M1 under an E4M3 scale for every 16 columns, and one F32 scale for the matrix.

use safetensors::Dtype;

use super::{Beside, Codes, Extremes, Rounding, Step, Storage};
use crate::codebook::{Codebook, E2M1, E4M3};
use crate::element::{round, smallest_normal};
use crate::packing::Packing;

/// Columns that share a scale.
pub(crate) const GROUP: usize = 16;

/// E2M1 codes under two scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nvfp4;

impl Storage for Nvfp4 {
    fn name(&self) -> String {
        "NVFP4".to_owned()
    }

    fn codes(&self) -> Codes {
        Codes { suffix: "weight_packed", dtype: Dtype::U8, packing: Packing::Nibbles }
    }

    fn book(&self) -> &'static Codebook {
        &E2M1
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        &[Dtype::F8_E4M3]
    }

    fn beside(&self) -> Vec<Beside> {
        vec![Beside::GlobalScale]
    }

    fn scales(&self, _: Dtype, bytes: &[u8], global: f32, out: &mut Vec<f32>) {
        out.clear();
        out.extend(bytes.iter().map(|&code| E4M3.value[usize::from(code)] / global));
    }

    fn made(&self, group: Extremes, rounding: Rounding) -> Step {
        let exact = rounding.global * round(group.largest() / E2M1.largest, rounding.source);
        // An eighth stands in for a scale of zero.
        let scale = match E4M3.nearest(exact) {
            0.0 => 0.125,
            scale => scale,
        };
        Step { scale: scale / rounding.global, zero: 0.0 }
    }
}

impl Nvfp4 {
    /// The global scale that the reference makes of the largest magnitude of a matrix, or of all that are merged with it.
    pub(crate) fn global(largest: f32, source: Dtype) -> f32 {
        let reciprocal = round(1.0 / largest.max(smallest_normal(source)), source);
        let scale = round(reciprocal * (E4M3.largest * E2M1.largest), source);
        // It is computed in the dtype of the weights, and 1 where that overflows.
        if scale.is_finite() { scale } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_contract() {
        assert_eq!((Nvfp4::global(3.0, Dtype::BF16), Nvfp4::global(1.0, Dtype::F32)), (896.0, 2688.0));
        assert_eq!((Nvfp4::global(0.0, Dtype::BF16), Nvfp4::global(0.04, Dtype::F16)), (1.0, 1.0));
        assert!(Nvfp4::global(0.042, Dtype::F16) > 60_000.0);
        let made = |largest, global| {
            let rounding = Rounding { source: Dtype::BF16, scale: Dtype::F8_E4M3, global };
            Nvfp4.made(Extremes { least: 0.0, greatest: largest }, rounding).scale
        };
        // The largest weight of the matrix has the largest scale, and zeros have an eighth.
        assert_eq!((made(3.0, 896.0), made(0.0, 896.0), made(6.0, 1.0)), (448.0 / 896.0, 0.125 / 896.0, 1.0));
    }
}
