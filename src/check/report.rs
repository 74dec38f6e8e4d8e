//! The words and figures of a check: rules and findings, quality, thresholds, SARIF.

mod finding;
mod lint_rule;
mod quality;
pub mod sarif;
mod threshold;

pub use finding::{Finding, Location};
pub use lint_rule::{LintRule, Severity};
pub use quality::{Figures, WorstBlock};
pub use threshold::{Threshold, ThresholdError};

pub(crate) use finding::{has_error, locate};
pub(crate) use quality::{Sums, decibels, signal_to_noise};
pub(crate) use sarif::log;
