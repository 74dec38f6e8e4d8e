//! The values of codes, and the interval of numbers that rounds to each.
//!
//! A format is a table of its 256 codes, filled from the definition of the format. The rounding intervals follow from
//! the order of the values and from nothing else, so that no rounding code of the kernels is repeated here. How far apart the
//! values are, by which many numbers are rounded at once, is held against them by a test.

use std::sync::LazyLock;

/// The value table of a number format of at most eight bits.
#[derive(Debug)]
pub(crate) struct Codebook {
    /// Value of each code; NaN where it has none.
    pub(crate) value: [f32; 256],
    /// Least and greatest quotient that round to the code; half a unit beyond the least and the largest value.
    pub(crate) interval: [[f32; 2]; 256],
    pub(crate) least: f32,
    pub(crate) largest: f32,
    pub(crate) spacing: Spacing,
    /// Least and greatest quotient that round to the least and the largest value.
    bounds: [f32; 2],
}

/// How far apart the values of a format are: as far as floats are that have so many bits of mantissa, and under a least
/// exponent as far as there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spacing {
    /// The power of two with the least exponent.
    least_power: f32,
    /// What makes of a power of two the number whose last bit of mantissa is worth as much as the last one of the format.
    to_last_bit: f32,
}

impl Spacing {
    fn new(mantissa: i32, least_exponent: i32) -> Self {
        Self { least_power: 2f32.powi(least_exponent), to_last_bit: 2f32.powi(23 - mantissa) }
    }

    /// Rounds a number that is not beyond the last value to the nearest value, ties to even.
    //
    // The sum has no bits of less worth than the last one of the format, and a float sum is rounded so. Without a branch:
    // loops over it become vector instructions.
    #[inline(always)]
    pub(crate) fn round(self, exact: f32) -> f32 {
        const EXPONENT: u32 = 0x7F80_0000;
        let power = f32::from_bits(exact.to_bits() & EXPONENT);
        let power = if power > self.least_power { power } else { self.least_power };
        let coarse = power * self.to_last_bit;
        ((exact.abs() + coarse) - coarse).copysign(exact)
    }
}

/// Sign, four exponent bits with a bias of 7, three mantissa bits, no infinities: OCP's E4M3, PyTorch's
/// `float8_e4m3fn`.
pub(crate) static E4M3: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(e4m3, Spacing::new(3, -6)));

/// Sign, two exponent bits with a bias of 1, three mantissa bits: OCP's E2M3. The codes have six bits.
pub(crate) static E2M3: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(e2m3, Spacing::new(3, 0)));

/// Sign, two exponent bits with a bias of 1, one mantissa bit: OCP's E2M1. The codes are nibbles.
pub(crate) static E2M1: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(e2m1, Spacing::new(1, 0)));

/// Two's complement in a byte, by the number of bits in use. Up to 255, floats of eight bits are one apart if none of them has
/// a lesser exponent.
static INTEGERS: LazyLock<Vec<Codebook>> =
    LazyLock::new(|| (0..=8).map(|bits| Codebook::new(|code| integer(bits, code), Spacing::new(7, 7))).collect());

/// Returns the integers of this many bits, eight at most, as bytes of two's complement; a byte out of range has no
/// value.
pub(crate) fn integers(bits: u32) -> &'static Codebook {
    &INTEGERS[bits.min(8) as usize]
}

fn e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(code >> 3 & 0xF), u32::from(code & 7));
    let magnitude = match (exponent, mantissa) {
        (0xF, 7) => f32::NAN,
        (0, mantissa) => mantissa as f32 / 512.0,
        // The same exponent under F32's bias of 127, and the mantissa at the top of its 23 bits.
        (exponent, mantissa) => f32::from_bits((exponent + 120) << 23 | mantissa << 20),
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

fn e2m3(code: u8) -> f32 {
    let (exponent, mantissa) = (code >> 3 & 3, f32::from(code & 7));
    let magnitude = match exponent {
        _ if code > 0x3F => f32::NAN,
        0 => mantissa * 0.125,
        exponent => (8.0 + mantissa) * 0.125 * f32::from(1u8 << (exponent - 1)),
    };
    if code & 0x20 == 0 { magnitude } else { -magnitude }
}

fn e2m1(code: u8) -> f32 {
    let magnitude = match code & 7 {
        _ if code > 0xF => f32::NAN,
        // Below 1 there is one number, which is subnormal.
        subnormal @ (0 | 1) => f32::from(subnormal) * 0.5,
        normal => (1.0 + f32::from(normal & 1) * 0.5) * f32::from(1u8 << ((normal >> 1) - 1)),
    };
    if code & 8 == 0 { magnitude } else { -magnitude }
}

fn integer(bits: u32, code: u8) -> f32 {
    let (number, end) = (i32::from(code.cast_signed()), (1 << bits) / 2);
    if (-end..end).contains(&number) { number as f32 } else { f32::NAN }
}

/// Relative tolerance at the boundary between two codes.
// A quotient has gone through a few roundings of F32, each of at most 6e-8. The closest boundaries of all formats,
// those of INT8 at its largest value, are 8e-3 apart, so that the tolerance lets no wrong code pass.
const TOLERANCE: f32 = 1e-6;

#[inline(always)]
fn tolerance(edge: f32, zero: f32) -> f32 {
    (edge.abs() + zero.abs()) * TOLERANCE
}

impl Codebook {
    fn new(value: impl Fn(u8) -> f32, spacing: Spacing) -> Self {
        let value: [f32; 256] = std::array::from_fn(|code| value(code as u8));
        let mut numbers: Vec<f32> = value.iter().copied().filter(|number| !number.is_nan()).collect();
        numbers.sort_by(f32::total_cmp);
        // `dedup` compares by `==`: the two zeros become one value.
        numbers.dedup();
        let place = |number: f32| numbers.iter().position(|&other| other == number);
        // Between neighbours the boundary is in the middle; past the last one it is as far away as on its other side.
        let edge = |number: f32, step: isize| {
            let at = place(number)?;
            let next = |step: isize| at.checked_add_signed(step).and_then(|at| numbers.get(at)).copied();
            let beyond = || next(-step).map(|other| number + (number - other));
            Some(f32::midpoint(number, next(step).or_else(beyond)?))
        };
        let interval = |code| [-1, 1].map(|step| edge(value[code], step).unwrap_or(f32::NAN));
        let (least, largest) = (numbers.first().copied(), numbers.last().copied());
        Self {
            value,
            interval: std::array::from_fn(interval),
            least: least.unwrap_or(f32::NAN),
            largest: largest.unwrap_or(f32::NAN),
            spacing,
            bounds: [(least, -1), (largest, 1)]
                .map(|(last, step)| last.and_then(|last| edge(last, step)).unwrap_or(f32::NAN)),
        }
    }

    /// Reports whether a quotient, to which a zero point was added, rounds to this code or lies on its boundary.
    pub(crate) fn rounds_to(&self, quotient: f32, zero: f32, code: u8) -> bool {
        let [low, high] = self.interval[usize::from(code)];
        quotient >= low - tolerance(low, zero) && quotient <= high + tolerance(high, zero)
    }

    /// Reports whether a quotient, to which a zero point was added, lies so far beyond the last value that it does not round to
    /// it.
    #[inline(always)]
    pub(crate) fn is_beyond_rounding(&self, quotient: f32, zero: f32) -> bool {
        let [low, high] = self.bounds;
        (quotient < low - tolerance(low, zero)) | (quotient > high + tolerance(high, zero))
    }

    /// Rounds to the nearest value, ties to even; a number out of range becomes the last value. NaN stays NaN.
    //
    // Comparisons that NaN fails, where `clamp` would panic at a book without values: it is without a branch, as its loops
    // have to be.
    #[inline(always)]
    pub(crate) fn nearest(&self, exact: f32) -> f32 {
        let below = if exact > self.largest { self.largest } else { exact };
        self.spacing.round(if below < self.least { self.least } else { below })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(-1)^s 2^(e-7) (1 + m/8)`, and `(-1)^s 2^-6 m/8` where `e` is 0.
    fn definition(code: usize) -> Option<f64> {
        let sign = if code >= 128 { -1.0 } else { 1.0 };
        let (exponent, mantissa) = ((code % 128 / 8) as i32, (code % 8) as f64);
        match (exponent, code % 8) {
            (15, 7) => None,
            (0, _) => Some(sign * 2f64.powi(-6) * (mantissa / 8.0)),
            _ => Some(sign * 2f64.powi(exponent - 7) * (1.0 + mantissa / 8.0)),
        }
    }

    #[test]
    fn every_code_is_the_number_of_its_definition() {
        for code in 0..256 {
            match definition(code) {
                None => assert!(E4M3.value[code].is_nan(), "{code:#x}"),
                Some(number) => {
                    assert_eq!(f64::from(E4M3.value[code]), number, "{code:#x}");
                    assert_eq!(E4M3.value[code].is_sign_negative(), code >= 128, "{code:#x}");
                }
            }
        }
        assert_eq!((E4M3.value[0x7E], E4M3.value[0x01], E4M3.largest), (448.0, 2f32.powi(-9), 448.0));
    }

    #[test]
    fn nibbles_and_integers_are_the_numbers_of_their_tables() {
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (code, magnitude) in magnitudes.into_iter().enumerate() {
            assert_eq!((E2M1.value[code], E2M1.value[code | 8]), (magnitude, -magnitude));
        }
        assert!(E2M1.value[16..].iter().all(|number| number.is_nan()));
        assert_eq!((E2M1.interval[7], E2M1.interval[15][0], E2M1.interval[9][1]), ([5.0, 7.0], -7.0, -0.25));
        let octaves = [[0.0, 0.125], [1.0, 0.125], [2.0, 0.25], [4.0, 0.5]];
        for code in 0..0x20 {
            let [first, step]: [f32; 2] = octaves[code / 8];
            let magnitude = first + (code % 8) as f32 * step;
            assert_eq!((E2M3.value[code], E2M3.value[code | 0x20]), (magnitude, -magnitude));
        }
        assert!(E2M3.value[64..].iter().all(|number| number.is_nan()));
        assert_eq!((E2M3.interval[0x1F], E2M3.interval[0x20][0], E2M3.largest), ([7.25, 7.75], -0.0625, 7.5));
        for bits in 2..=8u32 {
            let (book, end) = (integers(bits), 1 << (bits - 1));
            for number in -128..=127i32 {
                let value = book.value[usize::from(number as u8)];
                if (-end..end).contains(&number) {
                    assert_eq!(value, number as f32);
                } else {
                    assert!(value.is_nan(), "{number} of {bits} bits");
                }
            }
            assert_eq!((book.least, book.largest), (-end as f32, (end - 1) as f32));
            assert_eq!(book.interval[0xFF], [-1.5, -0.5]);
        }
    }

    fn code_of(book: &Codebook, number: f32) -> usize {
        book.value.iter().position(|&value| value == number).unwrap()
    }

    #[test]
    fn the_nearest_number_is_the_even_one_of_two() {
        for book in [&*E4M3, &*E2M3, &*E2M1].into_iter().chain((2..=8).map(integers)) {
            let mut numbers: Vec<f32> = book.value.into_iter().filter(|number| !number.is_nan()).collect();
            numbers.sort_by(f32::total_cmp);
            numbers.dedup();
            for pair in numbers.windows(2) {
                let tie = f32::midpoint(pair[0], pair[1]);
                let is_even = |number: f32| code_of(book, number).is_multiple_of(2);
                let even = if is_even(pair[0]) { pair[0] } else { pair[1] };
                assert_ne!(is_even(pair[0]), is_even(pair[1]));
                let below = [pair[0], pair[0].next_up(), tie.next_down()].map(|exact| (exact, pair[0]));
                let above = [tie.next_up(), pair[1].next_down(), pair[1]].map(|exact| (exact, pair[1]));
                for (exact, nearest) in below.into_iter().chain([(tie, even)]).chain(above) {
                    assert_eq!(book.nearest(exact), nearest, "{exact}");
                    assert_eq!(book.spacing.round(exact), nearest, "{exact}");
                }
            }
            let [low, high] = [book.least, book.largest].map(|last| book.interval[code_of(book, last)]);
            assert_eq!(book.spacing.round(low[0].next_up()), book.least);
            assert_eq!(book.spacing.round(high[1].next_down()), book.largest);
            for beyond in [high[1], high[1] * 1.1, high[1] * 40.0, 1e30, f32::INFINITY] {
                assert_eq!(book.nearest(beyond), book.largest, "{beyond}");
            }
            for beyond in [low[0], low[0] * 1.1, low[0] * 40.0, -1e30, f32::NEG_INFINITY] {
                assert_eq!(book.nearest(beyond), book.least, "{beyond}");
            }
            assert!(book.nearest(f32::NAN).is_nan());
        }
    }

    #[test]
    fn a_number_rounds_to_the_nearest_code() {
        for code in (0..256).filter(|code| code % 128 != 127) {
            let number = definition(code).unwrap();
            let others = (0..256).filter_map(definition).filter(|&other| other != number);
            let nearest = |above: bool| {
                let others = others.clone().filter(move |&other| (other > number) == above);
                others.min_by(|a, b| (a - number).abs().total_cmp(&(b - number).abs()))
            };
            let below = nearest(false).map_or(-464.0, |other| f64::midpoint(number, other));
            let above = nearest(true).map_or(464.0, |other| f64::midpoint(number, other));
            assert_eq!(f64::from(E4M3.interval[code][0]), below, "{code:#x}");
            assert_eq!(f64::from(E4M3.interval[code][1]), above, "{code:#x}");
        }
    }
}
