//! Rounding to E2M3: multiples of 0.125 below 2, of 0.25 below 4 and of 0.5 up to 7.5, in five bits and a sign.

use super::e4m3::steps_of_eighths;

/// The largest E2M3 value.
const MAX: f32 = 7.5;

/// The sign bit of a code.
pub(super) const SIGN: u8 = 0x20;

/// The code of the E2M3 value nearest to `magnitude`, ties to even; at most the code of 7.5.
///
/// `magnitude` is neither negative nor NaN.
#[inline(always)]
pub(super) fn encode(magnitude: f32) -> u8 {
    steps_of_eighths(if magnitude < MAX { magnitude } else { MAX }, SMALLEST_NORMAL)
}

/// The value of a code with its sign; bits above the sixth do not count.
#[inline(always)]
pub(super) fn decode(code: u8) -> f32 {
    // The exponent moves into place with a bias that is 126 short; the product is exact, subnormals included.
    let magnitude = f32::from_bits(u32::from(code & 0x1F) << 20) * f32::from_bits((127 + 126) << 23);
    if code & SIGN == 0 { magnitude } else { -magnitude }
}

/// The bits of 1.
const SMALLEST_NORMAL: u32 = 127 << 23;

#[cfg(test)]
mod tests {
    use super::*;

    /// `2^(e-1) (1 + m/8)`, and `m/8` where `e` is 0.
    fn definition(code: u8) -> f32 {
        let (exponent, mantissa) = (i32::from(code >> 3), f32::from(code & 7));
        if exponent == 0 { mantissa / 8.0 } else { 2f32.powi(exponent - 1) * (1.0 + mantissa / 8.0) }
    }

    #[test]
    fn every_code_is_the_number_of_its_definition() {
        for code in 0..0x20 {
            assert_eq!(decode(code), definition(code), "{code:#04x}");
            assert_eq!(decode(code | SIGN).to_bits(), (-definition(code)).to_bits(), "{code:#04x}");
            assert_eq!(encode(definition(code)), code);
        }
    }

    #[test]
    fn every_tie_goes_to_the_even_code_and_its_neighbours_to_the_nearest() {
        for code in 0..0x1F {
            let tie = (definition(code) + definition(code + 1)) / 2.0;
            assert_eq!(encode(tie.next_down()), code, "below {tie}");
            assert_eq!(encode(tie), code + code % 2, "at {tie}");
            assert_eq!(encode(tie.next_up()), code + 1, "above {tie}");
        }
        for value in [7.5, 7.75, 8.0, 1e30, f32::INFINITY] {
            assert_eq!(encode(value), 0x1F, "{value}");
        }
        assert_eq!(encode(f32::from_bits(1)), 0);
    }
}
