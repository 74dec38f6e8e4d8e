//! Rounding to E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives, in four bits.

/// The largest E2M1 value.
pub(super) const MAX: f32 = 6.0;

/// The code of the E2M1 value nearest to `value`, ties to even; at most that of 6 or -6.
///
/// Whatever is less than zero has its sign, even if it rounds to zero; a negative zero has none.
#[inline(always)]
pub(super) fn encode(value: f32) -> u8 {
    let magnitude = if value.abs() < MAX { value.abs() } else { MAX };
    // E2M1 steps by 0.5 below its smallest normal value 1, and by half of the octave above: see `e4m3::steps_of_eighths`.
    let octave = (magnitude.to_bits() & 0x7F80_0000).max(SMALLEST_NORMAL);
    let magic = octave + (22 << 23);
    let steps = (magnitude + f32::from_bits(magic)).to_bits() - magic;
    let code = steps + ((octave - SMALLEST_NORMAL) >> 22);
    (code + if value < 0.0 { 8 } else { 0 }) as u8
}

/// The value of a code, of which bits above the fourth do not count; of the two zeros the second is negative.
#[inline(always)]
pub(super) fn decode(code: u8) -> f32 {
    // As in `e4m3::decode`: a subnormal code is read in the octave of 1, which is then taken off.
    let magnitude = (code & 7) as u32;
    let subnormal = magnitude < 2;
    let lifted = f32::from_bits((magnitude << 22) + (if subnormal { 127 } else { 126 } << 23));
    let value = lifted - if subnormal { 1.0 } else { 0.0 };
    f32::from_bits(value.to_bits() | ((code & 8) as u32) << 28)
}

/// The bits of 1.
const SMALLEST_NORMAL: u32 = 127 << 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_every_tie_has_the_code_of_the_table() {
        let values = [0.0f32, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (code, pair) in (0u8..).zip(values.windows(2)) {
            let tie = (pair[0] + pair[1]) / 2.0;
            for (value, code) in [
                (pair[0], code),
                (tie.next_down(), code),
                (tie, code + code % 2),
                (tie.next_up(), code + 1),
                (pair[1], code + 1),
            ] {
                assert_eq!(encode(value), code, "{value}");
                assert_eq!(encode(-value), if value == 0.0 { 0 } else { code | 8 }, "-{value}");
            }
        }
        for value in [6.5, 7.0, 1e30, f32::INFINITY] {
            assert_eq!((encode(value), encode(-value)), (7, 15));
        }
        assert_eq!((encode(f32::from_bits(1)), encode(-f32::from_bits(1))), (0, 8));
    }
}
