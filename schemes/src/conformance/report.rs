//! The report of a passed suite.

/// Numbers of what a passed suite has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConformanceReport {
    /// Number of configured schemes: options times formats.
    pub schemes: usize,
    /// Number of weights that were quantized and compared.
    pub cases: usize,
    /// Number of weights whose shape the scheme refuses.
    pub refused: usize,
    /// Number of results that were compared with golden ones.
    pub golden: usize,
}
