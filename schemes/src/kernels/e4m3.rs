//! Rounding to E4M3 (the `fn` variant: no infinities, 448 is the largest).

/// The largest finite E4M3 value.
pub(super) const MAX: f32 = 448.0;

/// The code of the E4M3 value nearest to `magnitude`, ties to even; at most the code of 448.
///
/// `magnitude` is neither negative nor NaN.
#[inline(always)]
pub(super) fn encode(magnitude: f32) -> u8 {
    steps_of_eighths(if magnitude < MAX { magnitude } else { MAX }, SMALLEST_NORMAL)
}

/// The code nearest to a magnitude, ties to even, in a format with three bits of mantissa and this smallest normal value.
#[inline(always)]
pub(super) fn steps_of_eighths(magnitude: f32, smallest_normal: u32) -> u8 {
    // The steps are an eighth of the smallest normal value below it, and of the octave above. A power of two 20 binary
    // places above the octave has exactly that step, so the adder does the rounding; what it adds to the bits is the
    // number of steps.
    let octave = (magnitude.to_bits() & 0x7F80_0000).max(smallest_normal);
    let magic = octave + (20 << 23);
    let steps = (magnitude + f32::from_bits(magic)).to_bits() - magic;
    (steps + ((octave - smallest_normal) >> 20)) as u8
}

/// The value of a code without a sign.
#[inline(always)]
pub(super) fn decode(code: u8) -> f32 {
    // A subnormal code is read as if it were in the octave of the smallest normal value, which is then taken off. Multiplied
    // by a power of two instead, as subnormal F32, it would take Intel's processors a hundred times as long.
    let subnormal = code < 8;
    let lifted = f32::from_bits(((code as u32) << 20) + (if subnormal { 121 } else { 120 } << 23));
    lifted - if subnormal { f32::from_bits(SMALLEST_NORMAL) } else { 0.0 }
}

/// The bits of `2^-6`.
const SMALLEST_NORMAL: u32 = (127 - 6) << 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_decodes_as_in_the_float8_crate() {
        for code in 0..0x7F {
            assert_eq!(decode(code), float8::F8E4M3::from_bits(code).to_f32(), "{code:#04x}");
        }
    }

    #[test]
    fn every_bf16_encodes_as_in_the_float8_crate() {
        for bits in 0..0x7F80u32 {
            let value = f32::from_bits(bits << 16);
            assert_eq!(encode(value), float8::F8E4M3::from_f32(value.min(MAX)).to_bits(), "{value:e}");
        }
    }

    #[test]
    fn every_tie_goes_to_the_even_code_and_its_neighbours_to_the_nearest() {
        for code in 0..0x7Eu8 {
            let (low, high) = (float8::F8E4M3::from_bits(code).to_f32(), float8::F8E4M3::from_bits(code + 1).to_f32());
            let tie = (low + high) / 2.0;
            assert_eq!(encode(low), code);
            assert_eq!(encode(tie.next_down()), code, "below {tie}");
            assert_eq!(encode(tie), code + code % 2, "at {tie}");
            assert_eq!(encode(tie.next_up()), code + 1, "above {tie}");
        }
    }

    #[test]
    fn large_magnitudes_saturate() {
        for value in [448.0, 464.0, 480.0, 1e30, f32::MAX, f32::INFINITY] {
            assert_eq!(encode(value), 0x7E, "{value}");
        }
    }
}
