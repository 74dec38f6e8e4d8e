//! The numbers that codes stand for, and which numbers round to each.

use std::sync::LazyLock;

/// A number format of at most eight bits, by its codes.
#[derive(Debug)]
pub(super) struct Codebook {
    /// What each code stands for; NaN for one that is no number.
    pub(super) value: [f32; 256],
    /// The least quotient that rounds to the code.
    pub(super) low: [f32; 256],
    /// The greatest; for the largest number, half a unit above it.
    pub(super) high: [f32; 256],
    /// The largest number.
    pub(super) max: f32,
}

/// Sign, four exponent bits with a bias of 7, three mantissa bits, no infinities: OCP's E4M3, PyTorch's `float8_e4m3fn`.
pub(super) static E4M3: LazyLock<Codebook> = LazyLock::new(|| Codebook::new(e4m3));

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

impl Codebook {
    fn new(value: impl Fn(u8) -> f32) -> Self {
        let value: [f32; 256] = std::array::from_fn(|code| value(code as u8));
        let mut numbers: Vec<f32> = value.iter().copied().filter(|number| !number.is_nan()).collect();
        numbers.sort_by(f32::total_cmp);
        // The two zeros are one number.
        numbers.dedup();
        let place = |number: f32| numbers.iter().position(|&other| other == number);
        // Between neighbours the boundary is in the middle; past the last one it is as far away as on its other side.
        let edge = |number: f32, step: isize| {
            let at = place(number)?;
            let next = |step: isize| at.checked_add_signed(step).and_then(|at| numbers.get(at)).copied();
            let beyond = || next(-step).map(|other| number + (number - other));
            Some(f32::midpoint(number, next(step).or_else(beyond)?))
        };
        let edges = |step| std::array::from_fn(|code| edge(value[code], step).unwrap_or(f32::NAN));
        let max = numbers.last().copied().unwrap_or(f32::NAN);
        Self { value, low: edges(-1), high: edges(1), max }
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
        assert_eq!((E4M3.value[0x7E], E4M3.value[0x01], E4M3.max), (448.0, 2f32.powi(-9), 448.0));
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
            assert_eq!(f64::from(E4M3.low[code]), below, "{code:#x}");
            assert_eq!(f64::from(E4M3.high[code]), above, "{code:#x}");
        }
    }
}
