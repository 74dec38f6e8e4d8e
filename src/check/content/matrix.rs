//! The decoding of a weight, piece by piece, against its source.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

use super::group::{Group, Verdict};
use super::places::Places;
use crate::codebook::Codebook;
use crate::coded::{Coded, Steps};
use crate::element::round;
use crate::quality::Sums;
use crate::shards::Piece;
use crate::storage::{Extremes, Step};

/// Relative slack of a boundary: a few roundings of F32, which quotients go through.
const SLACK: f32 = 1e-6;

/// A weight as it is decoded.
pub(super) struct Matrix<'a> {
    pub(super) coded: &'a Coded<'a>,
    pub(super) book: &'a Codebook,
    /// The dtype of the weight before.
    pub(super) source: Option<Dtype>,
    /// Whether its scales were looked for by the squared error.
    pub(super) searched: bool,
}

/// What a piece shows, or all of them together.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) sums: Sums,
    pub(super) nans: Places,
    /// NaN that no NaN or infinity of the source explains, as far as that can be told.
    pub(super) strays: Places,
    pub(super) outside: Places,
    pub(super) verdict: Verdict,
    /// Groups of which another piece holds more, with their steps.
    cut: BTreeMap<usize, (Step, Group)>,
}

/// A stretch of one row under one scale.
struct Run<'a> {
    at: [usize; 2],
    step: Step,
    codes: &'a [u8],
}

impl Run<'_> {
    fn place(&self, index: usize) -> [usize; 2] {
        [self.at[0], self.at[1] + index]
    }
}

impl Matrix<'_> {
    /// Holds the codes of a piece against the source's weights, which are empty without one.
    pub(super) fn part(&self, piece: &Piece, steps: &Steps, codes: &[u8], weights: &[f32]) -> Part {
        let ([height, width], across) = (self.coded.sides(), self.coded.across());
        let mut part = Part::default();
        let mut groups = vec![Group::default(); steps.groups().len()];
        let first = steps.groups().start;
        for row in piece.rows.clone() {
            let from = (row - piece.rows.start) * piece.columns.len();
            let mut column = piece.columns.start;
            while column < piece.columns.end {
                let end = piece.columns.end.min((column / width + 1) * width);
                let group = row / height * across + column / width;
                let range = from + column - piece.columns.start..from + end - piece.columns.start;
                let run = Run { at: [row, column], step: steps.of(group), codes: &codes[range.clone()] };
                match self.source {
                    None => self.scan(&run, &mut part),
                    Some(dtype) => self.compare(&run, &weights[range], dtype, &mut part, &mut groups[group - first]),
                }
                column = end;
            }
        }
        if let Some(source) = self.source {
            for (index, group) in steps.groups().zip(&groups) {
                let step = steps.of(index);
                let is_found = || self.searched && self.is_found(piece, weights, index, step, group, source);
                match self.holds(piece, index) {
                    Holds::All => part.verdict.add(self.coded, source, index, step, group, is_found),
                    Holds::Some => drop(part.cut.insert(index, (step, *group))),
                    Holds::None => {}
                }
            }
        }
        part
    }

    /// Whether a search comes to the step of a group that the piece holds: it is one of those that are tried, and the codes
    /// are no further from the weights than those of the largest weight's scale would be.
    fn is_found(&self, piece: &Piece, weights: &[f32], index: usize, step: Step, group: &Group, source: Dtype) -> bool {
        let (storage, rounding) = (self.coded.form.storage(), self.coded.rounding(source));
        if !storage.is_sought(step, group.extremes, rounding) {
            return false;
        }
        let made = storage.made(group.extremes, rounding).scale;
        let (rows, columns) = self.place(index);
        let error = |quotient: &dyn Fn(f32) -> f32| -> f64 {
            let of = |row: usize| {
                let from = (row - piece.rows.start) * piece.columns.len() + columns.start - piece.columns.start;
                &weights[from..from + columns.len()]
            };
            let square = |&weight: &f32| {
                let decoded = f64::from(self.book.nearest(quotient(weight))) * f64::from(made);
                (f64::from(weight) - decoded).powi(2)
            };
            rows.clone().flat_map(of).map(square).sum()
        };
        // In another order, a sum may be this much greater.
        let bound = group.error * (1.0 - 1e-9);
        bound <= error(&|weight| weight / made) || bound <= error(&|weight| round(weight / made, source))
    }

    /// The rows and columns of a group.
    fn place(&self, group: usize) -> (Range<usize>, Range<usize>) {
        let ([height, width], across) = (self.coded.sides(), self.coded.across());
        let side = |at: usize, size: usize, end: usize| at * size..((at + 1) * size).min(end);
        let [rows, columns] = self.coded.matrix;
        (side(group / across, height, rows), side(group % across, width, columns))
    }

    /// What a piece holds of a group.
    fn holds(&self, piece: &Piece, group: usize) -> Holds {
        let (rows, columns) = self.place(group);
        let within = |inner: &Range<usize>, outer: &Range<usize>| outer.start <= inner.start && inner.end <= outer.end;
        let touches = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        if within(&rows, &piece.rows) && within(&columns, &piece.columns) {
            Holds::All
        } else if touches(&rows, &piece.rows) && touches(&columns, &piece.columns) {
            Holds::Some
        } else {
            Holds::None
        }
    }

    /// Without a source, a code can only be no number.
    fn scan(&self, run: &Run<'_>, part: &mut Part) {
        for (index, &code) in run.codes.iter().enumerate() {
            if self.book.value[usize::from(code)].is_nan() {
                part.nans.add(run.place(index));
                if run.step.scale.is_finite() {
                    part.strays.add(run.place(index));
                }
            }
        }
    }

    fn compare(&self, run: &Run<'_>, weights: &[f32], dtype: Dtype, part: &mut Part, group: &mut Group) {
        let Step { scale, zero } = run.step;
        let (mut sums, mut extremes, mut spoilt) = (Sums::default(), Extremes::default(), false);
        for (index, (&code, &weight)) in run.codes.iter().zip(weights).enumerate() {
            let number = self.book.value[usize::from(code)];
            spoilt |= !weight.is_finite();
            if number.is_nan() {
                part.nans.add(run.place(index));
                // Under a scale that is NaN everything is; under an infinite one only infinity.
                if scale.is_finite() || (scale.is_infinite() && weight.is_finite()) {
                    part.strays.add(run.place(index));
                }
                continue;
            }
            let quotient = weight / scale + zero;
            if !self.rounds_to(quotient, zero, code) {
                // On a CPU the quotient is rounded to the dtype of the weight first, and again with the zero point.
                let rounded = round(round(weight / scale, dtype) + zero, dtype);
                if !self.rounds_to(rounded, zero, code) {
                    let is_beyond = (number == self.book.largest && quotient > number)
                        || (number == self.book.least && quotient < number);
                    let is_clamped = is_beyond && weight.is_finite();
                    let place = if is_clamped { &mut group.clamped } else { &mut part.outside };
                    place.add(run.place(index));
                }
            }
            if !weight.is_finite() || !scale.is_finite() {
                continue;
            }
            extremes.add(weight);
            sums.saturated += u64::from(quotient > self.book.largest || quotient < self.book.least);
            sums.flushed += u64::from(number == zero && weight != 0.0);
            let (source, decoded) = (f64::from(weight), f64::from(number - zero) * f64::from(scale));
            let error = (source - decoded).abs();
            sums.source += source * source;
            sums.decoded += decoded * decoded;
            sums.product += source * decoded;
            sums.error += error * error;
            if error > sums.max_error {
                (sums.max_error, sums.max_error_at) = (error, run.place(index));
            }
        }
        sums.elements = run.codes.len() as u64;
        group.extremes.merge(extremes);
        group.spoilt |= spoilt;
        group.source += sums.source;
        group.error += sums.error;
        part.sums.merge(&sums);
    }

    /// Whether the nearest code to the quotient is this one, or as near.
    fn rounds_to(&self, quotient: f32, zero: f32, code: u8) -> bool {
        let (low, high) = (self.book.low[usize::from(code)], self.book.high[usize::from(code)]);
        let slack = |edge: f32| (edge.abs() + zero.abs()) * SLACK;
        quotient >= low - slack(low) && quotient <= high + slack(high)
    }

    /// What all pieces show together, in their order, so that sums do not depend on the threads.
    pub(super) fn join(&self, parts: Vec<Part>) -> Part {
        let mut whole = Part::default();
        for part in parts {
            whole.sums.merge(&part.sums);
            whole.nans.merge(part.nans);
            whole.strays.merge(part.strays);
            whole.outside.merge(part.outside);
            whole.verdict.merge(part.verdict);
            for (index, (step, group)) in part.cut {
                whole.cut.entry(index).or_insert((step, Group::default())).1.merge(&group);
            }
        }
        if let Some(source) = self.source {
            let mut verdict = Verdict::default();
            for (index, (step, group)) in std::mem::take(&mut whole.cut) {
                // Of a group in pieces the error under another scale is not known.
                verdict.add(self.coded, source, index, step, &group, || false);
            }
            whole.verdict.merge(verdict);
        }
        whole.outside.merge(whole.verdict.outside);
        whole
    }
}

/// How much of a group a piece holds.
enum Holds {
    All,
    Some,
    None,
}
