//! Signal-to-noise ratios for people.

/// Returns a signal-to-noise ratio as people read it; `exact` where there is no noise.
pub fn decibels(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "exact".to_owned(), |ratio| format!("{ratio:.2} dB"))
}
