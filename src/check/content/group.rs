//! The weights under one scale, and what can be said of them when all are known.

use safetensors::Dtype;

use super::places::Places;
use crate::coded::Coded;
use crate::quality::{WorstBlock, sqnr};
use crate::storage::{Extremes, Step};

/// The weights under one scale.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    pub(super) extremes: Extremes,
    pub(super) source: f64,
    pub(super) error: f64,
    /// Whether the source has a NaN or an infinity here.
    pub(super) spoilt: bool,
    /// Weights that were clamped to an end of the format from further away than rounding explains.
    pub(super) clamped: Places,
}

impl Group {
    /// Adds what a later part has of the group.
    pub(super) fn merge(&mut self, later: &Self) {
        self.extremes.merge(later.extremes);
        self.source += later.source;
        self.error += later.error;
        self.spoilt |= later.spoilt;
        self.clamped.merge(later.clamped);
    }
}

/// How many scales are those that the reference makes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ScaleCount {
    pub(super) following: u64,
    pub(super) other: u64,
    /// Index of the first that is not.
    pub(super) first: usize,
    pub(super) held: Held,
}

/// What the scales of a weight are held against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Held {
    /// The rule that most of the result's follow, if they do.
    #[default]
    Together,
    /// What a search comes to, or the rule.
    Search,
    /// The rule.
    Rule,
}

/// What groups show together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    pub(super) scales: ScaleCount,
    /// Scales that are no numbers though the source is finite.
    pub(super) unexplained: u64,
    /// Weights that were clamped and should not have been.
    pub(super) outside: Places,
    /// The largest magnitude.
    pub(super) largest: f32,
    /// Index, noise and scale of the noisiest group.
    worst: Option<(usize, f64, f32)>,
}

impl Verdict {
    /// Takes in a group that is known as a whole, in order of the indices; `is_found` says of a step that the reference
    /// does not make whether a search has.
    pub(super) fn add(
        &mut self,
        coded: &Coded<'_>,
        source: Dtype,
        index: usize,
        step: Step,
        group: &Group,
        is_found: impl FnOnce() -> bool,
    ) {
        self.largest = self.largest.max(group.extremes.largest());
        self.unexplained += u64::from(!step.scale.is_finite() && !group.spoilt);
        let (storage, rounding) = (coded.form.storage(), coded.rounding(source));
        let follows = storage.follows(step, group.extremes, rounding) || is_found();
        if follows {
            self.scales.following += 1;
        } else {
            if self.scales.other == 0 {
                self.scales.first = index;
            }
            self.scales.other += 1;
        }
        if group.clamped.number > 0 {
            // A step is rounded too, and what it is then too small for is clamped.
            let made = storage.made(group.extremes, rounding);
            let is_due = follows || (made.zero == step.zero && made.scale <= step.scale);
            if !is_due {
                self.outside.merge(group.clamped);
            }
        }
        if let Some(noise) = sqnr(group.source, group.error)
            && self.worst.is_none_or(|(_, least, _)| noise < least)
        {
            self.worst = Some((index, noise, step.scale));
        }
    }

    /// Adds that of a later part.
    pub(super) fn merge(&mut self, later: Self) {
        if self.scales.other == 0 {
            self.scales.first = later.scales.first;
        }
        self.scales.following += later.scales.following;
        self.scales.other += later.scales.other;
        self.unexplained += later.unexplained;
        self.outside.merge(later.outside);
        self.largest = self.largest.max(later.largest);
        if let Some((_, noise, _)) = later.worst
            && self.worst.is_none_or(|(_, least, _)| noise < least)
        {
            self.worst = later.worst;
        }
    }

    /// The noisiest group of a weight.
    pub(super) fn worst(&self, coded: &Coded<'_>) -> Option<WorstBlock> {
        let (index, sqnr_db, scale) = self.worst?;
        let ([height, width], [rows, columns], across) = (coded.sides(), coded.matrix, coded.across());
        let at = [index / across * height, index % across * width];
        let size = [height.min(rows - at[0]), width.min(columns - at[1])];
        Some(WorstBlock { at, size, sqnr_db, scale })
    }
}
