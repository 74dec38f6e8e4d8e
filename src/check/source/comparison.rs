//! The comparison of a quantized weight with its source, piece by piece.
//!
//! One pass over the data answers all questions at once: codes without a value, codes that rounding does not explain,
//! the error, and the extremes of each group, from which the scales follow. Rules judge what it found.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

use super::group::{GroupSums, GroupVerdict, ScaleRule};
use super::occurrences::Occurrences;
use super::runs::Run;
use super::stretch::{GROUPS, STRETCH, Stretch, StretchArrays};
use crate::decode::{
    Codebook, Extremes, Piece, Qparams, QparamsRange, QuantizedWeight, SearchedError, round, widen, widen_into, width,
};
use crate::report::Sums;

/// A quantized weight and what it is compared with.
pub(crate) struct WeightComparison<'a> {
    pub(crate) weight: &'a QuantizedWeight<'a>,
    pub(crate) book: &'a Codebook,
    /// The dtype of the source; `None` where there is no source.
    pub(crate) source: Option<Dtype>,
    /// The rule that the scales follow.
    pub(crate) rule: ScaleRule,
}

/// The result of a piece, or of all pieces together.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) sums: Sums,
    /// Codes that have no value.
    pub(crate) nans: Occurrences,
    /// Codes without a value that no non-finite weight of the source explains, as far as that can be told.
    pub(crate) unexplained_nans: Occurrences,
    /// Weights whose code is not the one that rounding gives.
    pub(crate) outside: Occurrences,
    pub(crate) verdict: GroupVerdict,
    /// Set where the source's values were rounded before they were compared.
    pub(crate) is_source_rounded: bool,
    /// Groups that another piece holds a part of, with their qparams.
    cut: BTreeMap<usize, (Qparams, GroupSums)>,
}

/// Arrays for one run after the other.
struct RunArrays {
    weights: [f32; STRETCH],
    stretch: StretchArrays,
}

impl Default for RunArrays {
    fn default() -> Self {
        Self { weights: [0.0; STRETCH], stretch: StretchArrays::default() }
    }
}

impl WeightComparison<'_> {
    /// Compares the codes of a piece with the source's weights, given as they are stored; empty without a source.
    pub(crate) fn piece(&self, piece: &Piece, qparams: &QparamsRange, codes: &[u8], weights: &[u8]) -> Comparison {
        let ([height, breadth], across) = (self.weight.sides(), self.weight.across());
        let size = self.source.and_then(width).unwrap_or(0);
        let (mut part, mut arrays) = (Comparison::default(), RunArrays::default());
        // A group that is a part of one row is complete, and judged, as soon as it is read: with few weights in a
        // group, the sums of all groups would be as large as their codes.
        let is_whole_at_once = height == 1 && piece.columns.len() == self.weight.shape[1];
        let of_all = if is_whole_at_once || self.source.is_none() { 0 } else { qparams.groups().len() };
        let mut groups = vec![GroupSums::default(); of_all];
        let first = qparams.groups().start;
        let mut run_qparams = [Qparams::default(); GROUPS];
        for row in piece.rows.clone() {
            let from = (row - piece.rows.start) * piece.columns.len();
            let mut column = piece.columns.start;
            while column < piece.columns.end {
                let group = row / height * across + column / breadth;
                let (of_run, end) = self.run_from(column, piece.columns.end);
                let range = from + column - piece.columns.start..from + end - piece.columns.start;
                let run_qparams = &mut run_qparams[..of_run];
                for (index, of_group) in run_qparams.iter_mut().enumerate() {
                    *of_group = qparams.of(group + index);
                }
                let run = Run { at: [row, column], qparams: run_qparams, codes: &codes[range.clone()] };
                column = end;
                let Some(dtype) = self.source else {
                    self.scan(&run, &mut part);
                    continue;
                };
                let stored = &weights[range.start * size..range.end * size];
                if is_whole_at_once {
                    let sums = &mut [GroupSums::default(); GROUPS][..of_run];
                    self.compare(&run, stored, dtype, &mut part, sums, &mut arrays);
                    self.judge(piece, weights, group, run.qparams, sums, dtype, &mut part.verdict);
                } else {
                    let sums = &mut groups[group - first..][..of_run];
                    self.compare(&run, stored, dtype, &mut part, sums, &mut arrays);
                }
            }
        }
        if let Some(source) = self.source {
            for (index, group) in qparams.groups().zip(&groups) {
                let qparams = qparams.of(index);
                match self.coverage(piece, index) {
                    Coverage::All => {
                        let (qparams, group) = (std::slice::from_ref(&qparams), std::slice::from_ref(group));
                        self.judge(piece, weights, index, qparams, group, source, &mut part.verdict);
                    }
                    Coverage::Some => drop(part.cut.insert(index, (qparams, *group))),
                    Coverage::None => {}
                }
            }
        }
        part
    }

    /// Returns the number of groups in a run that begins at a column, and the column where it ends.
    fn run_from(&self, column: usize, last: usize) -> (usize, usize) {
        let breadth = self.weight.sides()[1];
        let whole = (STRETCH / breadth).min((last - column) / breadth).min(GROUPS);
        // Of groups whose scale was searched for, each is compared weight by weight.
        if whole > 1 && column.is_multiple_of(breadth) && !self.rule.is_search() {
            (whole, column + whole * breadth)
        } else {
            (1, last.min((column / breadth + 1) * breadth))
        }
    }

    /// Adds groups that lie in the piece, [`GROUPS`] of them at most and from the index `first` on, to the verdict.
    #[expect(
        clippy::too_many_arguments,
        reason = "the groups and the piece that they are in, each with what belongs to it"
    )]
    fn judge(
        &self,
        piece: &Piece,
        weights: &[u8],
        first: usize,
        qparams: &[Qparams],
        groups: &[GroupSums],
        source: Dtype,
        verdict: &mut GroupVerdict,
    ) {
        let mut extremes = [Extremes::default(); GROUPS];
        for (extremes, group) in extremes.iter_mut().zip(groups) {
            *extremes = group.extremes;
        }
        let (mut answers, rounding) = ([false; GROUPS], self.weight.rounding(source));
        self.weight.form.storage.are_references(qparams, &extremes, rounding, &mut answers);
        for (at, ((&qparams, group), &is_reference)) in qparams.iter().zip(groups).zip(&answers).enumerate() {
            // A search is asked for only where it has to be, since it reads the group once more.
            let follows = || {
                is_reference
                    || self.rule.is_search() && self.is_found(piece, weights, first + at, qparams, group, source)
                    || self.is_least_power(qparams, group, source)
            };
            verdict.add(self.weight, source, first + at, qparams, group, follows);
        }
    }

    /// Reports whether the scale of a group is the power of two that lossless scales are.
    fn is_least_power(&self, qparams: Qparams, group: &GroupSums, source: Dtype) -> bool {
        let rounding = self.weight.rounding(source);
        self.rule == ScaleRule::Lossless
            && self.weight.form.storage.is_least_power_of_two(qparams, group.extremes, rounding)
    }

    /// Reports whether a search comes to the qparams of a group that lies in the piece: they are among the
    /// candidates, and the codes have no greater error than the absmax scale would leave.
    // The search keeps the best of its candidates, and the absmax scale is one of them. To ask for the very best
    // would be to repeat the search, with all its candidates, for every group.
    fn is_found(
        &self,
        piece: &Piece,
        weights: &[u8],
        index: usize,
        qparams: Qparams,
        group: &GroupSums,
        source: Dtype,
    ) -> bool {
        let (storage, rounding) = (self.weight.form.storage, self.weight.rounding(source));
        let is_candidate = match self.rule {
            ScaleRule::FourOverSix => storage.is_four_over_six(qparams, group.extremes, rounding),
            _ => storage.is_search_candidate(qparams, group.extremes, rounding),
        };
        if !is_candidate {
            return false;
        }
        let (rows, columns) = self.place(index);
        let mut group_weights = Vec::new();
        for row in rows {
            let from = (row - piece.rows.start) * piece.columns.len() + columns.start - piece.columns.start;
            let (size, mut of_row) = (width(source).unwrap_or(0), Vec::new());
            widen(source, &weights[from * size..(from + columns.len()) * size], &mut of_row);
            group_weights.append(&mut of_row);
        }
        let (absmax, measure) = (storage.reference(group.extremes, rounding), storage.searched_error());
        let error = |qparams: Qparams, quotient: &dyn Fn(f32, f32) -> f32| -> f64 {
            let Qparams { scale, zero } = qparams;
            let of = |&weight: &f32| {
                let number = self.book.nearest(quotient(weight / scale, zero)) - zero;
                measure.of(weight, number, scale, source)
            };
            group_weights.iter().map(of).sum()
        };
        let as_gpu = |quotient: f32, zero: f32| quotient + zero;
        let as_cpu = |quotient: f32, zero: f32| round(round(quotient, source) + zero, source);
        // The reference divides in F32 on a GPU and in the dtype of the weight on a CPU.
        let quotients: [&dyn Fn(f32, f32) -> f32; 2] = [&as_gpu, &as_cpu];
        match measure {
            // F64 sums of the same squares in another order differ by less than this.
            SearchedError::Squares => {
                quotients.into_iter().any(|quotient| group.error * (1.0 - 1e-9) <= error(absmax, quotient))
            }
            SearchedError::Observer => quotients
                .into_iter()
                .any(|quotient| error(qparams, quotient) <= SearchedError::bound(error(absmax, quotient), source)),
        }
    }

    /// Returns the rows and columns of a group.
    fn place(&self, group: usize) -> (Range<usize>, Range<usize>) {
        let ([height, width], across) = (self.weight.sides(), self.weight.across());
        let side = |at: usize, size: usize, end: usize| at * size..((at + 1) * size).min(end);
        let [rows, columns] = self.weight.shape;
        (side(group / across, height, rows), side(group % across, width, columns))
    }

    /// Returns how much of a group lies in a piece.
    fn coverage(&self, piece: &Piece, group: usize) -> Coverage {
        let (rows, columns) = self.place(group);
        let within = |inner: &Range<usize>, outer: &Range<usize>| outer.start <= inner.start && inner.end <= outer.end;
        let touches = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        if within(&rows, &piece.rows) && within(&columns, &piece.columns) {
            Coverage::All
        } else if touches(&rows, &piece.rows) && touches(&columns, &piece.columns) {
            Coverage::Some
        } else {
            Coverage::None
        }
    }

    /// Counts codes without a value, which is all that can be wrong with them where there is no source.
    fn scan(&self, run: &Run<'_>, part: &mut Comparison) {
        let width = run.codes.len() / run.qparams.len();
        for (index, &code) in run.codes.iter().enumerate() {
            if self.book.value[usize::from(code)].is_nan() {
                part.nans.add(run.place(index));
                if run.qparams[index / width].scale.is_finite() {
                    part.unexplained_nans.add(run.place(index));
                }
            }
        }
    }

    /// Compares the weights of a run with their codes.
    fn compare(
        &self,
        run: &Run<'_>,
        stored: &[u8],
        dtype: Dtype,
        part: &mut Comparison,
        groups: &mut [GroupSums],
        RunArrays { weights, stretch }: &mut RunArrays,
    ) {
        let size = width(dtype).unwrap_or(1);
        for (index, (codes, stored)) in run.codes.chunks(STRETCH).zip(stored.chunks(STRETCH * size)).enumerate() {
            let weights = &mut weights[..codes.len()];
            widen_into(dtype, stored, weights);
            let run = Run { at: run.place(index * STRETCH), qparams: run.qparams, codes };
            if self.compare_at_once(&run, weights, dtype, part, groups, stretch) {
                continue;
            }
            // Of several groups, as a rule all but one pass.
            let is_several = run.qparams.len() > 1;
            for ((run, weights), group) in run.groups(weights).zip(&mut *groups) {
                let of_group = std::slice::from_mut(group);
                if !is_several || !self.compare_at_once(&run, weights, dtype, part, of_group, stretch) {
                    self.compare_each(&run, weights, dtype, part, group);
                }
            }
        }
    }

    /// Compares the weights of a stretch with their codes; false if they have to be compared one by one.
    fn compare_at_once(
        &self,
        run: &Run<'_>,
        weights: &[f32],
        dtype: Dtype,
        part: &mut Comparison,
        groups: &mut [GroupSums],
        stretch: &mut StretchArrays,
    ) -> bool {
        // The error under a scale that was searched for is compared with that under another one, to the last bit.
        if self.rule.is_search() {
            return false;
        }
        let of_run = Stretch { codes: run.codes, weights, dtype, qparams: run.qparams };
        let Some(figures) = stretch.figures(self.book, of_run) else { return false };
        part.sums.elements += run.codes.len() as u64;
        part.sums.saturated += figures.saturated;
        part.sums.flushed += figures.flushed;
        let width = run.codes.len() / run.qparams.len();
        for (index, (figures, group)) in figures.groups.iter().zip(groups).enumerate() {
            part.sums.source += figures.source;
            part.sums.decoded += figures.decoded;
            part.sums.product += figures.product;
            part.sums.error += figures.error;
            group.extremes.merge(figures.extremes);
            group.clamped.merge(figures.clamped.at(run.place(index * width)));
            group.source += figures.source;
            group.error += figures.error;
            if figures.largest_error > part.sums.max_error
                && let Some((run, weights)) = run.groups(weights).nth(index)
            {
                self.find_largest(&run, weights, part);
            }
        }
        true
    }

    /// Looks for an error that is larger than all before it, in a run of one group.
    fn find_largest(&self, run: &Run<'_>, weights: &[f32], part: &mut Comparison) {
        for (index, (&code, &weight)) in run.codes.iter().zip(weights).enumerate() {
            let error = (f64::from(weight) - self.decoded(run.qparams[0], code)).abs();
            if error > part.sums.max_error {
                (part.sums.max_error, part.sums.max_error_at) = (error, run.place(index));
            }
        }
    }

    fn decoded(&self, Qparams { scale, zero }: Qparams, code: u8) -> f64 {
        f64::from(self.book.value[usize::from(code)] - zero) * f64::from(scale)
    }

    /// Compares the weights of a run of one group with their codes one by one.
    fn compare_each(&self, run: &Run<'_>, weights: &[f32], dtype: Dtype, part: &mut Comparison, group: &mut GroupSums) {
        let qparams @ Qparams { scale, zero } = run.qparams[0];
        // Sums of a run in locals: they stay in registers, where sums of the group would be loaded and stored each
        // time.
        let (mut sums, mut extremes, mut non_finite) = (Sums::default(), Extremes::default(), false);
        for (index, (&code, &weight)) in run.codes.iter().zip(weights).enumerate() {
            let number = self.book.value[usize::from(code)];
            non_finite |= !weight.is_finite();
            if number.is_nan() {
                part.nans.add(run.place(index));
                // A NaN scale makes every quotient NaN. An infinite one makes NaN of infinity alone: x / inf is 0.
                if scale.is_finite() || (scale.is_infinite() && weight.is_finite()) {
                    part.unexplained_nans.add(run.place(index));
                }
                continue;
            }
            let quotient = weight / scale + zero;
            if !self.book.rounds_to(quotient, zero, code) {
                // The reference divides in F32 on a GPU. On a CPU it rounds the quotient to the dtype of the weight
                // first, and again with the zero point; 3 % of FP8 codes differ by it (BF16 weights), and both are
                // right.
                let rounded = round(round(weight / scale, dtype) + zero, dtype);
                if !self.book.rounds_to(rounded, zero, code) {
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
            let (source, decoded) = (f64::from(weight), self.decoded(qparams, code));
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
        group.non_finite |= non_finite;
        group.source += sums.source;
        group.error += sums.error;
        part.sums.merge(&sums);
    }

    /// Joins the pieces, in their order: sums of floats must not depend on the threads.
    pub(crate) fn join(&self, parts: Vec<Comparison>) -> Comparison {
        let mut whole = Comparison::default();
        for part in parts {
            whole.sums.merge(&part.sums);
            whole.nans.merge(part.nans);
            whole.unexplained_nans.merge(part.unexplained_nans);
            whole.outside.merge(part.outside);
            whole.is_source_rounded |= part.is_source_rounded;
            whole.verdict.merge(part.verdict);
            for (index, (qparams, group)) in part.cut {
                whole.cut.entry(index).or_insert((qparams, GroupSums::default())).1.merge(&group);
            }
        }
        if let Some(source) = self.source {
            let mut verdict = GroupVerdict::default();
            for (index, (qparams, group)) in std::mem::take(&mut whole.cut) {
                // The error under another scale needs all weights of a group at once, and these are gone.
                let rounding = self.weight.rounding(source);
                let follows = || {
                    self.weight.form.storage.is_reference(qparams, group.extremes, rounding)
                        || self.is_least_power(qparams, &group, source)
                };
                verdict.add(self.weight, source, index, qparams, &group, follows);
            }
            whole.verdict.merge(verdict);
        }
        whole.outside.merge(whole.verdict.outside);
        whole
    }
}

/// The share of a group in a piece.
enum Coverage {
    All,
    Some,
    None,
}
