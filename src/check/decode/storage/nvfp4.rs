//! `nvfp4-pack-quantized`: E2M1 under an E4M3 scale for every 16 columns, and one F32 scale for the matrix.

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
struct Nvfp4Storage;

pub(super) fn forms() -> StorageForms {
    vec![Box::new(Nvfp4Storage)]
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
        CodesTensor { suffix: "weight_packed", dtype: Dtype::U8, packing: Packing::Nibbles }
    }

    fn codebook(&self) -> &'static Codebook {
        &E2M1
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        &[Dtype::F8_E4M3]
    }

    fn auxiliary(&self) -> Vec<AuxTensor> {
        vec![AuxTensor { suffix: "weight_global_scale", dtype: Dtype::F32, role: AuxRole::GlobalScale }]
    }

    fn scales(&self, _: Dtype, bytes: &[u8], global: f32, out: &mut Vec<f32>) {
        out.clear();
        out.extend(bytes.iter().map(|&code| E4M3.value[usize::from(code)] / global));
    }

    fn global_scale(&self, amax: f32, source: Dtype) -> f32 {
        // PyTorch evaluates `2688 / amax` as a reciprocal times 2688: two roundings, both in the dtype of the
        // weights.
        let reciprocal = round(1.0 / amax.max(smallest_normal(source)), source);
        let scale = round(reciprocal * (E4M3.largest * E2M1.largest), source);
        // The reference takes 1 where that overflows, as F16 does for every amax below 0.041.
        if scale.is_finite() { scale } else { 1.0 }
    }

    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        let exact = rounding.global * round(group.amax() / E2M1.largest, rounding.source);
        // The reference stores 0.125, the epsilon of E4M3, for a scale that rounds to zero.
        let scale = match E4M3.nearest(exact) {
            0.0 => 0.125,
            scale => scale,
        };
        Qparams { scale: scale / rounding.global, zero: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_contract() {
        assert_eq!(
            (Nvfp4Storage.global_scale(3.0, Dtype::BF16), Nvfp4Storage.global_scale(1.0, Dtype::F32)),
            (896.0, 2688.0)
        );
        assert_eq!(
            (Nvfp4Storage.global_scale(0.0, Dtype::BF16), Nvfp4Storage.global_scale(0.04, Dtype::F16)),
            (1.0, 1.0)
        );
        assert!(Nvfp4Storage.global_scale(0.042, Dtype::F16) > 60_000.0);
        let made = |largest, global| {
            let rounding = Rounding { source: Dtype::BF16, scale: Dtype::F8_E4M3, global };
            Nvfp4Storage.reference(Extremes { least: 0.0, greatest: largest }, rounding).scale
        };
        // The largest weight of the matrix has the largest scale, and zeros have an eighth.
        assert_eq!((made(3.0, 896.0), made(0.0, 896.0), made(6.0, 1.0)), (448.0 / 896.0, 0.125 / 896.0, 1.0));
    }
}
