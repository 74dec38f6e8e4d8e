//! What a search for scales makes least, and the extremes that llm-compressor's tries.

use safetensors::Dtype;

use super::qparams::Extremes;
use crate::decode::element::round;

/// The error of a group that a search makes least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchedError {
    /// The sum of the squared differences.
    Squares,
    /// That of llm-compressor's observer `memoryless_mse`: the sum of the powers of 2.4, each step rounded to the dtype of the
    /// weight.
    Observer,
}

/// The exponent of the observer.
const EXPONENT: f32 = 2.4;

/// The observer's candidates: it shrinks extremes by so many hundredths, from none on.
const CANDIDATES: u8 = 20;

impl SearchedError {
    /// Returns the share of a weight under a scale, given the value of its code less the zero point.
    pub(crate) fn of(self, weight: f32, number: f32, scale: f32, source: Dtype) -> f64 {
        match self {
            Self::Squares => (f64::from(weight) - f64::from(number) * f64::from(scale)).powi(2),
            Self::Observer => {
                let difference = round(round(number * scale, source) - weight, source).abs();
                let power = f64::from(difference).powf(f64::from(round(EXPONENT, source)));
                f64::from(round(power as f32, source))
            }
        }
    }

    /// Returns the error up to which an observer may take a group for no worse than one of `error`: sums are rounded to the
    /// dtype of the weight, in BF16 to eight bits and in F16 to steps of 2^-24.
    pub(crate) fn bound(error: f64, source: Dtype) -> f64 {
        let step = if source == Dtype::F16 { 2f64.powi(-24) } else { 0.0 };
        error * (1.0 + 2f64.powi(-7)) + step
    }
}

impl Extremes {
    /// Lists the extremes that the observer tries for a group.
    pub(super) fn shrunken(self, source: Dtype) -> impl Iterator<Item = Self> {
        (0..CANDIDATES).map(move |hundredths| {
            let part = (1.0 - f64::from(hundredths) / 100.0) as f32;
            Self { least: round(self.least * part, source), greatest: round(self.greatest * part, source) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_rounded_as_the_dtype_is() {
        let power = |source| SearchedError::Observer.of(-1.0, 2.0, 0.5, source);
        assert_eq!((power(Dtype::BF16), power(Dtype::F16)), (5.3125, 5.281_25));
        assert!((power(Dtype::F32) - 5.278_031).abs() < 1e-5);
        assert_eq!(SearchedError::Squares.of(-1.0, 2.0, 0.5, Dtype::BF16), 4.0);
    }

    #[test]
    fn extremes_shrink_to_four_fifths() {
        let group = Extremes { least: -2.0, greatest: 1.0 };
        let tried: Vec<Extremes> = group.shrunken(Dtype::F32).collect();
        assert_eq!((tried.len(), tried[0]), (20, group));
        assert_eq!(tried[19], Extremes { least: -1.62, greatest: 0.81 });
    }
}
