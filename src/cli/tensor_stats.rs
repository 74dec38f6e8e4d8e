//! The tensor statistics of a run in words: a line for all weights, and one for each of the first few.

use super::screen::Screen;
use crate::checkpoint::manifest::NonFiniteRecord;
use crate::checkpoint::text::{agree, count, grouped, shown};
use crate::run::{DegenerateScaleCounts, LossyGranuleCounts, RunReport, TensorStats};

/// The number of weights that are named; `--json` names all.
const MOST: usize = 5;

/// Reports the non-finite values that were let through, the granules that are not lossless, and the degenerate scales.
pub(super) fn say(report: &RunReport, screen: &Screen) {
    let non_finite = &report.non_finite;
    if !non_finite.is_empty() {
        let nan = grouped(total(non_finite, |of| of.nan));
        let infinite = infinities(total(non_finite, |of| of.infinite));
        let scales = scales_of(total(non_finite, |of| of.scales));
        let weights = count(non_finite.len(), "weight");
        screen.say(&format!("warning: kept {nan} NaN and {infinite} in {weights}, which make {scales} non-finite"));
        weights_of(non_finite, screen, |NonFiniteRecord { nan, infinite, scales, first }| {
            (format!("{nan} NaN, {}, {}", infinities(*infinite), scales_of(*scales)), *first)
        });
    }
    let lossy = &report.lossy_granules;
    if !lossy.is_empty() {
        let granules = |number| grouped_count(number, "granule", "granules");
        let (number, weights) = (granules(total(lossy, |of| of.granules)), count(lossy.len(), "weight"));
        screen.say(&format!("warning: rounded {number} of {weights}, which no power of two holds exactly"));
        weights_of(lossy, screen, |LossyGranuleCounts { granules: number, first }| (granules(*number), *first));
    }
    let degenerate = &report.degenerate_scales;
    if !degenerate.is_empty() {
        let numbers = DegenerateScaleCounts {
            zero: degenerate.iter().map(|stats| stats.counts.zero).sum(),
            underflowed: degenerate.iter().map(|stats| stats.counts.underflowed).sum(),
            subnormal: degenerate.iter().map(|stats| stats.counts.subnormal).sum(),
            first: None,
        };
        screen.say(&format!("scales of {}: {}", count(degenerate.len(), "weight"), granules(&numbers)));
        weights_of(degenerate, screen, |numbers| (granules(numbers), numbers.first));
    }
}

/// The granules by kind, such as `2 granules of zeros, 1 granule with a subnormal scale`.
fn granules(numbers: &DegenerateScaleCounts) -> String {
    let parts = [
        (numbers.zero, "of zeros"),
        (numbers.underflowed, "too small for a scale"),
        (numbers.subnormal, "with a subnormal scale"),
    ];
    let parts = parts.into_iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> =
        parts.map(|(number, what)| format!("{} {what}", grouped_count(number, "granule", "granules"))).collect();
    parts.join(", ")
}

fn infinities(number: u64) -> String {
    grouped_count(number, "infinity", "infinities")
}

fn scales_of(number: u64) -> String {
    grouped_count(number, "scale", "scales")
}

/// A count that may be long, with its noun.
fn grouped_count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), agree(number as usize, one, many))
}

fn total<T>(all: &[TensorStats<T>], of: impl Fn(&T) -> u64) -> u64 {
    all.iter().map(|stats| of(&stats.counts)).sum()
}

/// Names the first weights, each with its counts and the first place.
fn weights_of<T>(all: &[TensorStats<T>], screen: &Screen, describe: impl Fn(&T) -> (String, Option<[u64; 2]>)) {
    for TensorStats { tensor, counts } in all.iter().take(MOST) {
        let (numbers, first) = describe(counts);
        let first =
            first.map_or_else(String::new, |[row, column]| format!(", the first at row {row}, column {column}"));
        screen.say(&format!("  {}: {numbers}{first}", shown(tensor)));
    }
    if let Some(more @ 1..) = all.len().checked_sub(MOST) {
        screen.say(&format!("  and {} more, which --json names", count(more, "weight")));
    }
}
