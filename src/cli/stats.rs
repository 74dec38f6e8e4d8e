//! The tensor statistics that `apply` prints: a line for all weights, and one for each of the first few.

use super::screen::Screen;
use crate::checkpoint::manifest::NonFinite;
use crate::checkpoint::text::count;
use crate::checkpoint::text::grouped;
use crate::checkpoint::text::shown;
use crate::run::{DegenerateScaleCounts, RunReport, TensorStats};

/// Weights that are named; `--json` names all.
const MOST: usize = 5;

pub(super) fn say(report: &RunReport, screen: &Screen) {
    let kept = &report.non_finite;
    if !kept.is_empty() {
        let nan = sum(kept, |of| of.nan);
        let infinite = sum(kept, |of| of.infinite);
        let scales = sum(kept, |of| of.scales);
        let weights = count(kept.len(), "weight");
        screen.say(&format!(
            "warning: kept {nan} NaN and {infinite} infinities in {weights}, which make {scales} scales non-finite"
        ));
        weights_of(kept, screen, |NonFinite { nan, infinite, scales, first }| {
            (format!("{nan} NaN, {infinite} infinities, {scales} scales"), *first)
        });
    }
    let odd = &report.degenerate_scales;
    if !odd.is_empty() {
        let numbers = DegenerateScaleCounts {
            zero: odd.iter().map(|met| met.counts.zero).sum(),
            underflowed: odd.iter().map(|met| met.counts.underflowed).sum(),
            subnormal: odd.iter().map(|met| met.counts.subnormal).sum(),
            first: None,
        };
        screen.say(&format!("scales of {}: {}", count(odd.len(), "weight"), groups(&numbers)));
        weights_of(odd, screen, |numbers| (groups(numbers), numbers.first));
    }
}

/// `2 groups of zeros, 1 with a subnormal scale`.
fn groups(numbers: &DegenerateScaleCounts) -> String {
    let parts = [
        (numbers.zero, "of zeros"),
        (numbers.underflowed, "too small for a scale"),
        (numbers.subnormal, "with a subnormal scale"),
    ];
    let parts = parts.into_iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts.map(|(number, what)| format!("{} {what}", groups_of(number))).collect();
    parts.join(", ")
}

fn groups_of(number: u64) -> String {
    format!("{} group{}", grouped(number), if number == 1 { "" } else { "s" })
}

fn sum<T>(all: &[TensorStats<T>], of: impl Fn(&T) -> u64) -> String {
    grouped(all.iter().map(|met| of(&met.counts)).sum())
}

/// The first weights, each with its numbers and the first place.
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
