//! Floats under a power of two for every 32 columns: `mxfp8-quantized` and `mxfp4-pack-quantized`.

use safetensors::Dtype;

use super::{Codes, Extremes, Rounding, Step, Storage};
use crate::codebook::{Codebook, E2M1, E4M3};
use crate::packing::Packing;

/// Columns that share a scale.
pub(crate) const GROUP: usize = 32;

/// Codes under E8M0 scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Microscaled {
    pub(crate) element: Element,
}

/// What the codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    E4M3,
    E2M1,
}

impl Storage for Microscaled {
    fn name(&self) -> String {
        match self.element {
            Element::E4M3 => "MXFP8".to_owned(),
            Element::E2M1 => "MXFP4".to_owned(),
        }
    }

    fn codes(&self) -> Codes {
        match self.element {
            Element::E4M3 => Codes { suffix: "weight", dtype: Dtype::F8_E4M3, packing: Packing::Bytes },
            Element::E2M1 => Codes { suffix: "weight_packed", dtype: Dtype::U8, packing: Packing::Nibbles },
        }
    }

    fn book(&self) -> &'static Codebook {
        match self.element {
            Element::E4M3 => &E4M3,
            Element::E2M1 => &E2M1,
        }
    }

    fn scale_dtypes(&self) -> &'static [Dtype] {
        &[Dtype::U8]
    }

    fn scales(&self, _: Dtype, bytes: &[u8], _global: f32, out: &mut Vec<f32>) {
        out.clear();
        out.extend(bytes.iter().map(|&exponent| power(exponent)));
    }

    /// The largest magnitude comes into the largest octave of the elements, and counts as the next power of two from 1.75
    /// times one on.
    fn made(&self, group: Extremes, rounding: Rounding) -> Step {
        let Format { smallest, largest, least_scale } = Format::of(rounding.source);
        let octave = match self.element {
            Element::E4M3 => 8,
            Element::E2M1 => 2,
        };
        let magnitude = f64::from(group.largest());
        // Below the dtype's normal numbers the reference sees a fraction of the smallest one.
        let exponent = match magnitude {
            subnormal if subnormal < 0.75 * 2f64.powi(smallest) => None,
            subnormal if subnormal < 2f64.powi(smallest) => Some(smallest),
            normal => {
                // The exponent as F64 stores it.
                let floor = (normal.to_bits() >> 52) as i32 - 1023;
                Some(if normal >= 1.75 * 2f64.powi(floor) { floor + 1 } else { floor })
            }
        };
        let byte = match exponent {
            // The next power of two is infinite, and so is the scale, which becomes this byte.
            Some(exponent) if exponent > largest => ONE,
            Some(exponent) => (ONE + exponent - octave).clamp(0, 255),
            None => 0,
        };
        // A scale that vanishes in the dtype of the weight becomes 1.
        let byte = if byte < least_scale { ONE } else { byte };
        Step { scale: power(byte as u8), zero: 0.0 }
    }
}

/// The byte of the scale 1.
const ONE: i32 = 127;

/// What of a dtype decides its scales.
struct Format {
    /// The exponent of the smallest normal number, and of the largest one.
    smallest: i32,
    largest: i32,
    /// The byte of the least scale that is not zero in the dtype.
    least_scale: i32,
}

impl Format {
    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self { smallest: -14, largest: 15, least_scale: ONE - 24 },
            _ => Self { smallest: -126, largest: 127, least_scale: 0 },
        }
    }
}

/// The power of two that an E8M0 byte stands for; the last byte is NaN.
fn power(byte: u8) -> f32 {
    if byte == 255 { f32::NAN } else { 2f64.powi(i32::from(byte) - ONE) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_contract() {
        assert_eq!((power(0), power(127), power(254)), (2f32.powi(-127), 1.0, 2f32.powi(127)));
        assert!(power(255).is_nan());
        let made = |element, source, largest: f32| {
            let group = Extremes { least: -largest, greatest: 0.0 };
            let rounding = Rounding { source, scale: Dtype::U8, global: 1.0 };
            Microscaled { element }.made(group, rounding).scale
        };
        use Element::{E2M1, E4M3};
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
