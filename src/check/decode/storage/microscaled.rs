//! Floats under a power of two for every 32 columns: `mxfp8-quantized`, `mxfp6-pack-quantized` and
//! `mxfp4-pack-quantized`, MiniMax's `mxfp8` and the experts of DeepSeek-V4.

use safetensors::Dtype;

use super::declaration::{Declaration, Strategies, Symmetry};
use super::form::{CodesTensor, Storage, StorageForms};
use super::qparams::{Extremes, Qparams, Rounding};
use super::searched::SearchedError;
use crate::decode::codebook::{Codebook, E2M1, E2M3, E4M3};
use crate::decode::element::power_of_two;
use crate::decode::packing::Packing;

/// Columns that share a scale.
const GROUP: usize = 32;

/// E4M3, E2M3 or E2M1 codes with an E8M0 scale, a power of two, for each group of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct MicroscaledStorage {
    pub(super) element: MicroscaledElement,
    pub(super) names: MicroscaledNames,
}

/// The names and dtypes of the tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MicroscaledNames {
    CompressedTensors,
    /// Codes are `weight`, of E2M1 two in a byte of I8; scales have the names of the `fp8` method.
    Official,
}

/// The format of the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MicroscaledElement {
    E4M3,
    E2M3,
    E2M1,
}

pub(super) fn forms() -> StorageForms {
    let names = MicroscaledNames::CompressedTensors;
    let form = |element| Box::new(MicroscaledStorage { element, names }) as Box<dyn Storage>;
    [MicroscaledElement::E4M3, MicroscaledElement::E2M3, MicroscaledElement::E2M1].map(form).into()
}

impl Storage for MicroscaledStorage {
    fn name(&self) -> String {
        match self.element {
            MicroscaledElement::E4M3 => "MXFP8".to_owned(),
            MicroscaledElement::E2M3 => "MXFP6".to_owned(),
            MicroscaledElement::E2M1 => "MXFP4".to_owned(),
        }
    }

    fn declaration(&self) -> Declaration {
        let (formats, bits, activations): (&[&str], _, &[(u64, &str)]) = match self.element {
            MicroscaledElement::E4M3 => (&["mxfp8-quantized"], 8, &[(8, "float")]),
            // No server has kernels for it, and one may come to quantize activations as the reference's presets ask.
            MicroscaledElement::E2M3 => (&["mxfp6-pack-quantized"], 6, &[(8, "float")]),
            MicroscaledElement::E2M1 => (&["mxfp4-pack-quantized"], 4, &[(4, "float"), (8, "float")]),
        };
        Declaration {
            formats,
            bits,
            number: "float",
            symmetric: Symmetry::Always,
            // The reference stores E8M0 as plain bytes and declares them so.
            scale_dtypes: &["torch.uint8"],
            strategies: Strategies::Group("group", GROUP),
            activations,
        }
    }

    fn codes(&self) -> CodesTensor {
        match (self.element, self.names) {
            (MicroscaledElement::E4M3, _) => {
                CodesTensor { suffix: "weight", dtype: Dtype::F8_E4M3, packing: Packing::Bytes }
            }
            (MicroscaledElement::E2M3, _) => {
                CodesTensor { suffix: "weight_packed", dtype: Dtype::U8, packing: Packing::Sixes }
            }
            (MicroscaledElement::E2M1, MicroscaledNames::Official) => {
                CodesTensor { suffix: "weight", dtype: Dtype::I8, packing: Packing::Nibbles }
            }
            (MicroscaledElement::E2M1, MicroscaledNames::CompressedTensors) => {
                CodesTensor { suffix: "weight_packed", dtype: Dtype::U8, packing: Packing::Nibbles }
            }
        }
    }

    fn codebook(&self) -> &'static Codebook {
        match self.element {
            MicroscaledElement::E4M3 => &E4M3,
            MicroscaledElement::E2M3 => &E2M3,
            MicroscaledElement::E2M1 => &E2M1,
        }
    }

    fn scale_suffixes(&self) -> &'static [&'static str] {
        match self.names {
            MicroscaledNames::CompressedTensors => &["weight_scale"],
            MicroscaledNames::Official => &["weight_scale_inv", "weight_scale", "scale"],
        }
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        match self.names {
            MicroscaledNames::CompressedTensors => &[Dtype::U8],
            MicroscaledNames::Official => &[Dtype::U8, Dtype::F8_E8M0],
        }
    }

    fn scales(&self, _: Dtype, bytes: &[u8], _global: f32, out: &mut Vec<f32>) {
        out.clear();
        out.extend(bytes.iter().map(|&exponent| power_of_two(exponent)));
    }

    /// Computes the power of two that takes the group's amax into the largest octave of the elements. An amax of 1.75
    /// times a power of two or more counts as the next one; for E2M3, one of 1.9375 times.
    fn reference(&self, group: Extremes, rounding: Rounding) -> Qparams {
        let ExponentRange { smallest, largest, least_scale } = ExponentRange::of(rounding.source);
        let (octave, next_from) = match self.element {
            MicroscaledElement::E4M3 => (8, 1.75),
            MicroscaledElement::E2M3 => (2, 1.9375),
            MicroscaledElement::E2M1 => (2, 1.75),
        };
        let amax = f64::from(group.amax());
        // The reference adds a quarter or, for E2M3, a sixteenth of the smallest normal number's mantissa to the bits of
        // the amax and masks the mantissa off. That carries into the exponent from 1.75 or 1.9375 on, and from 0.75 or
        // 0.9375 times the smallest normal number on for subnormal ones, which have no exponent.
        let exponent = match amax {
            subnormal if subnormal < (next_from - 1.0) * power_of_two_f64(smallest) => None,
            subnormal if subnormal < power_of_two_f64(smallest) => Some(smallest),
            normal => {
                // The exponent as F64 stores it.
                let floor = (normal.to_bits() >> 52) as i32 - 1023;
                Some(if normal >= next_from * power_of_two_f64(floor) { floor + 1 } else { floor })
            }
        };
        let byte = match exponent {
            // The next power of two is infinite in the dtype. The reference's cast of infinity wraps around to this
            // byte and its codes are all zero: the group is lost, which Q502 tells, but the scale is the reference's.
            Some(exponent) if exponent > largest => ONE,
            Some(exponent) => (ONE + exponent - octave).clamp(0, 255),
            None => 0,
        };
        // The reference takes the scale to the dtype of the weight, and 1, its epsilon of bytes, stands in for zero.
        let byte = if byte < least_scale { ONE } else { byte };
        Qparams { scale: power_of_two(byte as u8), zero: 0.0 }
    }

    fn is_search_candidate(&self, qparams: Qparams, group: Extremes, rounding: Rounding) -> bool {
        group.shrunken(rounding.source).any(|group| self.reference(group, rounding) == qparams)
    }

    fn searched_error(&self) -> SearchedError {
        SearchedError::Observer
    }
}

/// Returns the power of two with an exponent of a normal F64, or infinity for the one after the last of these.
//
// By its bits: `powi` takes as long as the comparison of a group of weights.
fn power_of_two_f64(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The byte of the scale 1.
const ONE: i32 = 127;

/// The exponents of a dtype that decide over the scales of its weights.
struct ExponentRange {
    /// Exponent of the smallest normal number.
    smallest: i32,
    /// Exponent of the largest number.
    largest: i32,
    /// Byte of the least scale that is not zero in the dtype.
    least_scale: i32,
}

impl ExponentRange {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self { smallest: -14, largest: 15, least_scale: ONE - 24 },
            _ => Self { smallest: -126, largest: 127, least_scale: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_contract() {
        assert_eq!((power_of_two(0), power_of_two(127), power_of_two(254)), (2f32.powi(-127), 1.0, 2f32.powi(127)));
        assert!(power_of_two(255).is_nan());
        let made = |element, source, largest: f32| {
            let group = Extremes { least: -largest, greatest: 0.0 };
            let rounding = Rounding { source, scale: Dtype::U8, global: 1.0 };
            MicroscaledStorage { element, names: MicroscaledNames::Official }.reference(group, rounding).scale
        };
        use MicroscaledElement::{E2M1, E2M3, E4M3};
        assert_eq!((made(E2M3, Dtype::BF16, 1.9296875), made(E2M3, Dtype::BF16, 1.9375)), (0.25, 0.5));
        assert_eq!(
            (made(E2M3, Dtype::F16, 0.9375 * 2f32.powi(-14)), made(E2M3, Dtype::F32, 1.9375f32.next_down())),
            (2f32.powi(-16), 0.25)
        );
        assert_eq!((made(E2M3, Dtype::F16, 0.93 * 2f32.powi(-14)), made(E2M3, Dtype::F16, 63488.0)), (1.0, 1.0));
        assert_eq!((made(E2M1, Dtype::BF16, 1.0), made(E2M1, Dtype::BF16, 1.74)), (0.25, 0.25));
        assert_eq!((made(E2M1, Dtype::BF16, 1.75), made(E4M3, Dtype::F16, 1.75)), (0.5, 1.0 / 128.0));
        assert_eq!(made(E4M3, Dtype::F32, 1.75f32.next_down()), 1.0 / 256.0);
        assert_eq!((made(E4M3, Dtype::BF16, 0.0), made(E4M3, Dtype::F16, 0.0)), (2f32.powi(-127), 1.0));
        // 2^-24 is the least scale that F16 holds, and 0.75 times its smallest normal number counts as that.
        assert_eq!(made(E4M3, Dtype::F16, 2f32.powi(-14)), 2f32.powi(-22));
        assert_eq!(made(E4M3, Dtype::F16, 0.75 * 2f32.powi(-14)), 2f32.powi(-22));
        assert_eq!(made(E2M1, Dtype::F16, 0.74 * 2f32.powi(-14)), 1.0);
        assert_eq!((made(E2M1, Dtype::F16, 57344.0), made(E2M1, Dtype::F16, 57312.0)), (1.0, 2f32.powi(13)));
        assert_eq!(made(E2M1, Dtype::BF16, 1.75 * 2f32.powi(127)), 1.0);
    }
}
