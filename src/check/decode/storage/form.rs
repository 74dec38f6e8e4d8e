//! The interface of a storage form.

use std::fmt::Debug;

use safetensors::Dtype;

use super::auxiliary::AuxTensor;
use super::declaration::Declaration;
use super::qparams::{Extremes, Qparams, Rounding};
use super::searched::SearchedError;
use super::words::TransposedStorage;
use crate::decode::codebook::Codebook;
use crate::decode::element::{SCALE_FLOATS, widen};
use crate::decode::packing::Packing;

/// A way to store the weights of a matrix in few bits.
pub(crate) trait Storage: Debug + Send + Sync {
    /// The form in words, such as `FP8` or `packed INT4`. No two forms share a name.
    fn name(&self) -> String;

    /// The kind of values, such as `F8_E4M3` or `packed INT4`, as it is written before the granularity.
    fn values(&self) -> String {
        self.name()
    }

    /// Returns what a compressed-tensors group must say of weights in this form, and of activations beside them.
    fn declaration(&self) -> Declaration;

    /// The tensor that holds the codes.
    fn codes(&self) -> CodesTensor;

    /// The values of the codes.
    fn codebook(&self) -> &'static Codebook;

    /// Parameter names of the scales, after the module's name; the first is the one to recommend.
    fn scale_suffixes(&self) -> &'static [&'static str] {
        &["weight_scale"]
    }

    /// The dtypes in which scales are read.
    fn scale_dtypes(&self) -> &'static [Dtype] {
        SCALE_FLOATS
    }

    /// The tensors beside codes and scales.
    fn auxiliary(&self) -> Vec<AuxTensor> {
        Vec::new()
    }

    /// Returns the form where all tensors hold the transposed weight.
    fn transposed(&self) -> Option<TransposedStorage> {
        None
    }

    /// Appends the values of stored scales, divided by the global scale where the form has one.
    fn scales(&self, dtype: Dtype, bytes: &[u8], _global: f32, out: &mut Vec<f32>) {
        widen(dtype, bytes, out);
    }

    /// Computes the global scale that the reference makes of the amax of a matrix; 1 where the form has none.
    fn global_scale(&self, _amax: f32, _source: Dtype) -> f32 {
        1.0
    }

    /// Computes the global scale under which lossless scales stand; 1 where the form has none.
    fn global_power_of_two(&self, _amax: f32) -> f32 {
        1.0
    }

    /// Computes the qparams that the reference makes of a group.
    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams;

    /// Reports whether qparams are those that some reference tool makes of the group.
    fn is_reference(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        self.reference(group, rounding) == qparams
    }

    /// Answers [`Storage::is_reference`] for one group after the other.
    //
    // With one call for many groups, each form has a loop of its own, in which the arithmetic of a group waits for no call.
    fn are_references(&self, qparams: &[Qparams], groups: &[Extremes], rounding: Rounding, answers: &mut [bool]) {
        for ((&qparams, &group), answer) in qparams.iter().zip(groups).zip(answers) {
            *answer = self.is_reference(qparams, group, rounding);
        }
    }

    /// Reports whether config.json promises scales that are powers of two, whatever their dtype.
    fn are_powers_of_two(&self) -> bool {
        false
    }

    /// Reports whether a search for the least error tries these qparams.
    fn is_search_candidate(&self, _qparams: Qparams, _group: Extremes, _rounding: Rounding) -> bool {
        false
    }

    /// The error that a search makes least.
    fn searched_error(&self) -> SearchedError {
        SearchedError::Squares
    }

    /// Reports whether the scale is one of those that take the amax of a group to 6 and to 4.
    fn is_four_over_six(&self, _qparams: Qparams, _group: Extremes, _rounding: Rounding) -> bool {
        false
    }

    /// Computes the global scale under which such scales stand; 1 where the form has none.
    fn global_of_four_over_six(&self, _amax: f32, _source: Dtype) -> f32 {
        1.0
    }

    /// Reports whether the scale of a group is the least power of two under which none of its weights is clamped.
    fn is_least_power_of_two(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        let (Qparams { scale, .. }, largest) = (qparams, f64::from(self.codebook().largest));
        let least = if rounding.scale == Dtype::F16 { 2f32.powi(-24) } else { f32::MIN_POSITIVE };
        let (amax, bound) = (f64::from(group.amax()), largest * f64::from(scale));
        // A power of two has no bit of a mantissa; that of a subnormal number of F16 is none in F32.
        let is_power = scale > 0.0 && scale.is_normal() && scale.to_bits() << 9 == 0;
        is_power && amax <= bound && (amax > bound / 2.0 || scale == least)
    }
}

/// The tensor that holds a weight's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodesTensor {
    /// Parameter name, after the module's name.
    pub(crate) suffix: &'static str,
    pub(crate) dtype: Dtype,
    pub(crate) packing: Packing,
}

/// The forms of one file.
pub(super) type StorageForms = Vec<Box<dyn Storage>>;
