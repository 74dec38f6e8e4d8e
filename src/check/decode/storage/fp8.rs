//! FP8 with float scales: the `fp8` method, and `float-quantized` and `naive-quantized` of compressed-tensors.

use std::ops::RangeInclusive;

use safetensors::Dtype;

use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage, StorageForms};
use super::qparams::{Extremes, Qparams, Rounding, absmax_scale};
use crate::decode::codebook::{Codebook, E4M3};
use crate::decode::element::round;
use crate::decode::packing::Packing;

/// The parts of the amax, in 64ths, of which a search makes its scales.
// The MSE search tries 12 to 28 sixteenths of the amax in steps of a sixteenth, and then three 64ths to either side.
const SEARCHED: RangeInclusive<u8> = 45..=115;

/// E4M3 codes with a float scale for each group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fp8Storage;

pub(super) fn forms() -> StorageForms {
    vec![Box::new(Fp8Storage)]
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
        made.contains(&qparams.scale)
    }

    fn is_search_candidate(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        SEARCHED.into_iter().any(|part| {
            let amax = group.amax() * (f32::from(part) / 64.0);
            absmax_scale(amax, E4M3.largest, rounding.scale) == qparams.scale
        })
    }

    fn is_source(&self) -> bool {
        true
    }
}
