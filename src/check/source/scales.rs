//! The values of scales and zero points, read without a weight.

use std::ops::Range;

use crate::decode::{QuantizedWeight, Shards};
use qwen_fp8_checkpoint::source::SourceError;

/// Groups whose qparams are read at a time.
const PIECE: usize = 1 << 18;

/// The qparams of a weight that have a value they must not have.
#[derive(Debug)]
pub(crate) struct QparamsScan {
    /// The least scale; infinite where there is none.
    pub(crate) least: f32,
    /// Scales that are no powers of two, where config.json promises such.
    pub(crate) no_powers_of_two: Faults,
    /// Set where the global scale is not positive and finite; the scales under it were not read.
    pub(crate) bad_global: bool,
    /// Scales that are not positive and finite.
    pub(crate) scales: Faults,
    /// Set where a scale is zero, negative or minus infinity, which no non-finite weight makes of it.
    pub(crate) has_impossible: bool,
    /// Zero points that are not among the values of the codes.
    pub(crate) zero_points: Faults,
    /// The scale of the activations, where it is not positive and finite.
    pub(crate) bad_activations: Option<f32>,
}

/// A count of faults, with position and value of the first one.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) number: usize,
    pub(crate) first: Option<(usize, f32)>,
}

impl Faults {
    fn add(&mut self, position: usize, value: f32) {
        self.number += 1;
        self.first.get_or_insert((position, value));
    }
}

/// Reads all qparams of a weight.
pub(crate) fn scan(weight: &QuantizedWeight<'_>, shards: &Shards) -> Result<QparamsScan, SourceError> {
    let mut scan = QparamsScan {
        least: f32::INFINITY,
        no_powers_of_two: Faults::default(),
        bad_global: false,
        scales: Faults::default(),
        has_impossible: false,
        zero_points: Faults::default(),
        bad_activations: weight.input_scale.filter(|scale| !scale.is_finite() || *scale <= 0.0),
    };
    let promised = weight.form.storage.are_powers_of_two();
    // Every scale is divided by the global one: a bad one would report each of them over again.
    if !weight.global.is_finite() || weight.global <= 0.0 {
        scan.bad_global = true;
        return Ok(scan);
    }
    let (least, largest) = (weight.form.storage.codebook().least, weight.form.storage.codebook().largest);
    for rows in bands(weight) {
        let qparams = weight.qparams(shards, &rows)?;
        for group in qparams.groups() {
            let qparams = qparams.of(group);
            if !qparams.scale.is_finite() || qparams.scale <= 0.0 {
                scan.scales.add(group, qparams.scale);
                scan.has_impossible |= qparams.scale.is_finite() || qparams.scale == f32::NEG_INFINITY;
            } else if promised && !is_power_of_two(qparams.scale) {
                scan.no_powers_of_two.add(group, qparams.scale);
            }
            scan.least = scan.least.min(qparams.scale);
            if qparams.zero < least || qparams.zero > largest {
                scan.zero_points.add(group, qparams.zero);
            }
        }
    }
    Ok(scan)
}

fn is_power_of_two(scale: f32) -> bool {
    // Subnormal ones have one bit of their mantissa, all others none.
    let (exponent, mantissa) = (scale.to_bits() >> 23, scale.to_bits() & 0x7F_FFFF);
    if exponent == 0 { mantissa.is_power_of_two() } else { mantissa == 0 }
}

/// Splits the rows of a weight where groups end, each band with a bounded number of groups.
fn bands(weight: &QuantizedWeight<'_>) -> impl Iterator<Item = Range<usize>> {
    let height = weight.sides()[0];
    // A matrix without columns may declare any number of rows, and has no groups.
    let rows = if weight.across() == 0 { 0 } else { weight.shape[0] };
    let band = (PIECE / weight.across().max(1)).max(1).saturating_mul(height);
    (0..rows).step_by(band).map(move |first| first..rows.min(first.saturating_add(band)))
}
