//! Integers of 2 to 8 bits, with or without zero points: `int-quantized` in a byte each, `pack-quantized` in words.

use safetensors::Dtype;

use super::auxiliary::{AuxRole, AuxTensor};
use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage, StorageForms};
use super::qparams::{Extremes, Qparams, Rounding, absmax_scale};
use super::searched::SearchedError;
use crate::decode::codebook;
use crate::decode::codebook::Codebook;
use crate::decode::element::{epsilon, round};
use crate::decode::packing::Packing;

/// Integers with a float scale for each group.
#[derive(Clone, Copy, Debug)]
struct IntegerStorage {
    /// Bits of an integer, from 2 to 8.
    bits: u32,
    packed: bool,
    zero_points: bool,
}

pub(super) fn forms() -> StorageForms {
    let mut forms: StorageForms = Vec::new();
    for bits in 2..=8 {
        for packed in [false, true] {
            for zero_points in [false, true] {
                forms.push(Box::new(IntegerStorage { bits, packed, zero_points }));
            }
        }
    }
    forms
}

impl IntegerStorage {
    /// Returns the largest integer less the least one.
    fn range(&self) -> f32 {
        self.codebook().largest - self.codebook().least
    }
}

impl Storage for IntegerStorage {
    fn name(&self) -> String {
        let packed = if self.packed { "packed " } else { "" };
        let zero_points = if self.zero_points { " with zero points" } else { "" };
        format!("{packed}INT{}{zero_points}", self.bits)
    }

    fn declaration(&self) -> Declaration {
        Declaration {
            formats: if self.packed { &["pack-quantized"] } else { &["int-quantized"] },
            bits: self.bits,
            number: "int",
            symmetric: Symmetry::Declared(!self.zero_points),
            scale_dtypes: &[""],
            // For a whole tensor the reference stores a zero point in a byte also beside packed codes: a layout of
            // its own, which is not checked.
            strategies: if self.zero_points {
                Strategies::Any(&["channel", "group"])
            } else {
                Strategies::Any(&["tensor", "channel", "group"])
            },
            activations: &[(4, "int"), (8, "int"), (8, "float")],
        }
    }

    fn codes(&self) -> CodesTensor {
        if self.packed {
            CodesTensor { suffix: "weight_packed", dtype: Dtype::I32, packing: Packing::Words(self.bits) }
        } else {
            CodesTensor { suffix: "weight", dtype: Dtype::I8, packing: Packing::Bytes }
        }
    }

    fn codebook(&self) -> &'static Codebook {
        codebook::integers(self.bits)
    }

    fn auxiliary(&self) -> Vec<AuxTensor> {
        let shape = AuxTensor { suffix: "weight_shape", dtype: Dtype::I64, role: AuxRole::WeightShape };
        let suffix = "weight_zero_point";
        let zero_points = if self.packed {
            AuxTensor { suffix, dtype: Dtype::I32, role: AuxRole::PackedZeroPoints { bits: self.bits } }
        } else {
            AuxTensor { suffix, dtype: Dtype::I8, role: AuxRole::ZeroPoints }
        };
        let shape = self.packed.then_some(shape);
        shape.into_iter().chain(self.zero_points.then_some(zero_points)).collect()
    }

    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        if !self.zero_points {
            // The reference divides by half of the range, 127.5 or 7.5, not by the largest integer.
            return Qparams { scale: absmax_scale(group.amax(), self.range() / 2.0, rounding.scale), zero: 0.0 };
        }
        // The reference rounds each step to the dtype of the weights, and so does this; one rounding at the end would
        // give other scales.
        let in_source = |number: f32| round(number, rounding.source);
        let (least, largest) = (self.codebook().least, self.codebook().largest);
        let scale = in_source(in_source(group.greatest - group.least) / self.range());
        // The reference computes the zero point before the epsilon stands in for a scale of zero; 0 / 0 gives 0.
        let zero = match group.least / scale {
            quotient if quotient.is_nan() => 0.0,
            quotient => in_source(least - in_source(quotient)).clamp(least, largest).round_ties_even(),
        };
        let scale = if scale == 0.0 { epsilon(rounding.source) } else { scale };
        Qparams { scale: round(scale, rounding.scale), zero }
    }

    fn is_search_candidate(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        group.shrunken(rounding.source).any(|group| self.reference(group, rounding) == qparams)
    }

    fn searched_error(&self) -> SearchedError {
        SearchedError::Observer
    }
}
