//! Figures of the error between decoded weights and their source.

use std::fmt;

use qwen_fp8_checkpoint::text;
use schemars::JsonSchema;
use serde::Serialize;

/// Sums over pairs of a source weight and its decoded value.
// In F64: a tensor has up to 10^9 elements, and squares of small errors would vanish in a sum of F32.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) elements: u64,
    pub(crate) source: f64,
    pub(crate) decoded: f64,
    pub(crate) product: f64,
    pub(crate) error: f64,
    pub(crate) max_error: f64,
    /// Row and column of the greatest error.
    pub(crate) max_error_at: [usize; 2],
    /// Weights beyond the largest value of the format, which clamps them.
    pub(crate) saturated: u64,
    /// Weights that are not zero in the source and decode to zero.
    pub(crate) flushed: u64,
}

impl Sums {
    /// Adds the sums of a later part.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.elements += other.elements;
        self.source += other.source;
        self.decoded += other.decoded;
        self.product += other.product;
        self.error += other.error;
        self.saturated += other.saturated;
        self.flushed += other.flushed;
        if other.max_error > self.max_error {
            (self.max_error, self.max_error_at) = (other.max_error, other.max_error_at);
        }
    }

    /// Returns the figures that follow from the sums.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            elements: self.elements,
            sqnr_db: signal_to_noise(self.source, self.error).map(decibels),
            relative_error: if self.source > 0.0 { (self.error / self.source).sqrt() } else { self.error.sqrt() },
            max_error: self.max_error,
            max_error_at: self.max_error_at,
            cosine: match (self.source * self.decoded).sqrt() {
                // The cosine of a zero vector is undefined: 1 where both are zero, which are equal, else 0.
                0.0 => f64::from(u8::from(self.source == self.decoded)),
                norms => (self.product / norms).clamp(-1.0, 1.0),
            },
            saturated: self.saturated,
            flushed: self.flushed,
        }
    }
}

/// Returns the ratio of the squares of signal and noise; `None` without noise.
pub(crate) fn signal_to_noise(source: f64, error: f64) -> Option<f64> {
    (error > 0.0).then(|| source.max(f64::MIN_POSITIVE) / error)
}

/// Returns a ratio of squares in decibels.
pub(crate) fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.log10()
}

/// The error of a tensor's decoded weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Figures {
    pub elements: u64,
    /// Signal-to-quantization-noise ratio in decibels; null without noise.
    pub sqnr_db: Option<f64>,
    /// Frobenius norm of the error over that of the source; null in JSON, as the next ones, where NaN makes it none.
    #[schemars(with = "Option<f64>")]
    pub relative_error: f64,
    /// Largest absolute error of an element.
    #[schemars(with = "Option<f64>")]
    pub max_error: f64,
    /// Row and column of the largest error.
    pub max_error_at: [usize; 2],
    /// Cosine of the angle between the decoded and the source tensor as vectors.
    #[schemars(with = "Option<f64>")]
    pub cosine: f64,
    /// Weights beyond the largest value of the format.
    pub saturated: u64,
    /// Weights other than zero that decode to zero.
    pub flushed: u64,
}

impl Figures {
    /// Returns ratio, largest error, cosine, and the numbers of saturated and of flushed weights, as people read them.
    pub fn shown(&self) -> [String; 5] {
        [
            text::decibels(self.sqnr_db),
            format!("{:.3e}", self.max_error),
            format!("{:.6}", self.cosine),
            text::grouped(self.saturated),
            text::grouped(self.flushed),
        ]
    }
}

/// The group of a tensor with the lowest signal-to-noise ratio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WorstBlock {
    /// Its first row and column.
    pub at: [usize; 2],
    /// Its rows and columns.
    pub size: [usize; 2],
    /// Signal-to-quantization-noise ratio in decibels.
    pub sqnr_db: f64,
    /// The scale of the group.
    pub scale: f32,
}

impl fmt::Display for WorstBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([row, column], [rows, columns]) = (self.at, self.size);
        write!(f, "{:.1} dB in {rows} × {columns} at [{row}, {column}]", self.sqnr_db)
    }
}
