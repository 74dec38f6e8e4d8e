//! Figures of how close decoded weights are to their source.

use serde::Serialize;

/// Sums over pairs of a source weight and its decoded value.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) elements: u64,
    pub(super) source: f64,
    pub(super) decoded: f64,
    pub(super) product: f64,
    pub(super) error: f64,
    pub(super) max_error: f64,
    /// Row and column of the greatest error.
    pub(super) max_error_at: [usize; 2],
    /// Clamped to the largest number of the format.
    pub(super) saturated: u64,
    /// Not zero in the source, zero when decoded.
    pub(super) flushed: u64,
}

impl Sums {
    /// Adds those of a later part.
    pub(super) fn merge(&mut self, other: &Self) {
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

    pub(super) fn figures(&self) -> Figures {
        Figures {
            elements: self.elements,
            sqnr_db: sqnr(self.source, self.error),
            relative_error: if self.source > 0.0 { (self.error / self.source).sqrt() } else { self.error.sqrt() },
            max_error: self.max_error,
            max_error_at: self.max_error_at,
            cosine: match (self.source * self.decoded).sqrt() {
                // Two zero vectors are the same, and a zero one is like no other.
                0.0 => f64::from(u8::from(self.source == self.decoded)),
                norms => (self.product / norms).clamp(-1.0, 1.0),
            },
            saturated: self.saturated,
            flushed: self.flushed,
        }
    }
}

/// Signal to noise in decibels; `None` where there is no noise.
pub(super) fn sqnr(source: f64, error: f64) -> Option<f64> {
    (error > 0.0).then(|| 10.0 * (source.max(f64::MIN_POSITIVE) / error).log10())
}

/// How close the decoded weights of a tensor are to their source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub elements: u64,
    /// Signal to quantization noise; null where there is no noise.
    pub sqnr_db: Option<f64>,
    /// The Frobenius norm of the error over that of the source.
    pub relative_error: f64,
    pub max_error: f64,
    /// Row and column.
    pub max_error_at: [usize; 2],
    pub cosine: f64,
    pub saturated: u64,
    pub flushed: u64,
}

/// The part of a tensor under one scale that has the most noise for its size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WorstBlock {
    /// Its first row and column.
    pub at: [usize; 2],
    /// Its rows and columns.
    pub size: [usize; 2],
    pub sqnr_db: f64,
    pub scale: f32,
}
