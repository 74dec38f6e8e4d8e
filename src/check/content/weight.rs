//! One quantized weight: its codes and scales, and how each weight decodes against the source.

use rayon::prelude::*;
use safetensors::Dtype;

use super::{Checked, CheckedTensor, Reader, ScaleCount, changed_form};
use crate::check::codebook::{Codebook, E4M3};
use crate::check::element::{self, epsilon, round, widen};
use crate::check::finding::Finding;
use crate::check::kept::Kept;
use crate::check::quality::{Sums, WorstBlock, sqnr};
use crate::check::rules;
use crate::check::shards::{Piece, pieces};
use crate::check::structure::Coded;
use crate::checkpoint::Tensor;
use crate::checkpoint::source::SourceError;
use crate::shown::shown;

/// Relative slack of a boundary: a few roundings of F32, which quotients go through.
const SLACK: f32 = 1e-6;

/// Checks one weight; what could not be compared gives findings alone.
pub(super) fn check(
    reader: &Reader<'_>,
    coded: &Coded<'_>,
    original: Option<&Tensor>,
    findings: &mut Vec<Finding>,
) -> Result<Option<CheckedTensor>, SourceError> {
    let scales = reader.output.scales(coded)?;
    let values = check_scales(coded, &scales, reader.kept, findings);
    let weight = coded.weight;
    let [rows, columns] = weight.shape[..] else { return Ok(None) };
    let original = match (reader.source, original) {
        (None, _) => None,
        (Some(_), None) => {
            let message = format!("{} is not in the source", shown(&weight.name));
            findings.push(Finding::new(&rules::EXTRA, message).tensor(&weight.name));
            return Ok(None);
        }
        (Some(_), Some(original)) if weight.shape != original.shape || element::width(original.dtype).is_none() => {
            findings.push(changed_form(weight, original));
            return Ok(None);
        }
        (Some(source), Some(original)) => Some((source, original)),
    };
    let matrix =
        Matrix { coded, book: &E4M3, scales: &scales, columns, source: original.map(|(_, tensor)| tensor.dtype) };
    let parts = pieces([rows, columns])
        .into_par_iter()
        .map_init(Buffers::default, |buffers, piece| {
            reader.output.read_piece(weight, columns, 1, &piece, &mut buffers.codes)?;
            if let Some((source, original)) = original {
                let width = element::width(original.dtype).unwrap_or(1);
                source.read_piece(original, columns, width, &piece, &mut buffers.bytes)?;
                widen(original.dtype, &buffers.bytes, &mut buffers.weights);
            }
            Ok(matrix.part(&piece, buffers))
        })
        .collect::<Result<Vec<Part>, SourceError>>()?;
    let whole = matrix.join(parts);
    whole.report(&matrix, values, findings);
    let storage = Some(format!("{} {}", weight.dtype, coded.grid.describe()));
    let (name, bytes) = (weight.name.clone(), weight.len + coded.scale.len);
    let mut checked = CheckedTensor {
        name,
        action: Checked::Decoded,
        bytes,
        storage,
        figures: None,
        worst: None,
        scales: ScaleCount::default(),
    };
    if let Some((_, original)) = original {
        checked.action = Checked::Quantized;
        checked.figures = Some(whole.sums.figures());
        checked.worst = matrix.worst(&whole.groups, rows);
        if values == Scales::Sound && whole.nans.number == 0 {
            checked.scales = matrix.count_scales(&whole.groups, original.dtype);
        }
    }
    Ok(Some(checked))
}

/// What the scales of a weight are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::check) enum Scales {
    /// Positive numbers, every one.
    Sound,
    /// Positive numbers, but where NaN and infinity of the source were kept.
    Kept,
    Bad,
}

/// Whether every scale is a positive number, or is none on purpose.
pub(in crate::check) fn check_scales(
    coded: &Coded<'_>,
    scales: &[f32],
    kept: &Kept,
    findings: &mut Vec<Finding>,
) -> Scales {
    let is_bad = |scale: &f32| !scale.is_finite() || *scale <= 0.0;
    let Some(first) = scales.iter().position(is_bad) else { return Scales::Sound };
    let number = scales.iter().filter(|scale| is_bad(scale)).count();
    let weight = &coded.weight.name;
    if scales.iter().filter(|scale| is_bad(scale)).all(|scale| !scale.is_finite() && *scale != f32::NEG_INFINITY)
        && kept.explains(weight, number)
    {
        let message = format!("{number} scales of {} are NaN or infinite, as the manifest says", shown(weight));
        findings.push(Finding::new(&rules::KEPT, message).tensor(&coded.scale.name));
        return Scales::Kept;
    }
    let message = format!(
        "{} holds {number} that are not positive numbers, such as {:e} at position {first}",
        shown(&coded.scale.name),
        scales[first]
    );
    findings.push(Finding::new(&rules::SCALE_VALUE, message).tensor(&coded.scale.name));
    Scales::Bad
}

#[derive(Default)]
struct Buffers {
    codes: Vec<u8>,
    bytes: Vec<u8>,
    weights: Vec<f32>,
}

/// A weight as it is decoded.
struct Matrix<'a> {
    coded: &'a Coded<'a>,
    book: &'a Codebook,
    scales: &'a [f32],
    columns: usize,
    /// What the weight was before.
    source: Option<Dtype>,
}

/// What a piece shows.
struct Part {
    sums: Sums,
    nans: Places,
    /// NaN that no NaN or infinity of the source explains, as far as that can be told.
    strays: Places,
    outside: Places,
    /// Index of the first row of groups, and the groups of the rows that the piece touches.
    first_group: usize,
    groups: Vec<Group>,
}

/// What a whole weight shows.
struct Whole {
    sums: Sums,
    nans: Places,
    strays: Places,
    outside: Places,
    groups: Vec<Group>,
}

/// The weights under one scale.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    largest: f32,
    source: f64,
    error: f64,
    /// Whether the source has a NaN or an infinity here.
    spoilt: bool,
}

/// How often something was met, and where first.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    number: u64,
    first: [usize; 2],
}

impl Places {
    fn add(&mut self, at: [usize; 2]) {
        if self.number == 0 {
            self.first = at;
        }
        self.number += 1;
    }

    fn merge(&mut self, later: Self) {
        if self.number == 0 {
            self.first = later.first;
        }
        self.number += later.number;
    }
}

impl Matrix<'_> {
    fn sides(&self) -> [usize; 2] {
        self.coded.grid.sides([self.coded.weight.shape[0], self.columns])
    }

    /// Groups in a row of them.
    fn groups_across(&self) -> usize {
        self.columns.div_ceil(self.sides()[1])
    }

    fn part(&self, piece: &Piece, buffers: &Buffers) -> Part {
        let ([height, width], across) = (self.sides(), self.groups_across());
        let first_group = piece.rows.start / height * across;
        let touched = (piece.rows.end - 1) / height - piece.rows.start / height + 1;
        let mut part = Part {
            sums: Sums::default(),
            nans: Places::default(),
            strays: Places::default(),
            outside: Places::default(),
            first_group,
            groups: vec![Group::default(); touched * across],
        };
        for row in piece.rows.clone() {
            let from = (row - piece.rows.start) * piece.columns.len();
            let mut column = piece.columns.start;
            while column < piece.columns.end {
                let end = piece.columns.end.min((column / width + 1) * width);
                let group = row / height * across + column / width;
                let range = from + column - piece.columns.start..from + end - piece.columns.start;
                let run = Run { at: [row, column], group, codes: &buffers.codes[range.clone()] };
                match self.source {
                    None => self.scan(&run, &mut part),
                    Some(dtype) => self.compare(&run, &buffers.weights[range], dtype, &mut part),
                }
                column = end;
            }
        }
        part
    }

    fn scan(&self, run: &Run<'_>, part: &mut Part) {
        for (index, &code) in run.codes.iter().enumerate() {
            if self.book.value[usize::from(code)].is_nan() {
                part.nans.add(run.place(index));
                if self.scales[run.group].is_finite() {
                    part.strays.add(run.place(index));
                }
            }
        }
    }

    fn compare(&self, run: &Run<'_>, weights: &[f32], dtype: Dtype, part: &mut Part) {
        let scale = self.scales[run.group];
        let (mut sums, mut largest, mut spoilt) = (Sums::default(), 0f32, false);
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
            let quotient = weight / scale;
            if !self.rounds_to(quotient, code) && !self.explains(weight, scale, code, dtype) {
                part.outside.add(run.place(index));
            }
            if !weight.is_finite() || !scale.is_finite() {
                continue;
            }
            largest = largest.max(weight.abs());
            sums.saturated += u64::from(quotient.abs() > self.book.max);
            sums.flushed += u64::from(number == 0.0 && weight != 0.0);
            let (source, decoded) = (f64::from(weight), f64::from(number) * f64::from(scale));
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
        let group = &mut part.groups[run.group - part.first_group];
        group.largest = group.largest.max(largest);
        group.source += sums.source;
        group.error += sums.error;
        group.spoilt |= spoilt;
        part.sums.merge(&sums);
    }

    /// Whether the nearest code to the quotient is this one, or as near.
    fn rounds_to(&self, quotient: f32, code: u8) -> bool {
        let (low, high) = (self.book.low[usize::from(code)], self.book.high[usize::from(code)]);
        quotient >= low - low.abs() * SLACK && quotient <= high + high.abs() * SLACK
    }

    /// Whether the code is what the reference makes of the weight in the two cases where it is not the nearest.
    fn explains(&self, weight: f32, scale: f32, code: u8, dtype: Dtype) -> bool {
        // On a CPU the quotient is rounded to the dtype of the weight first.
        if self.rounds_to(round(weight / scale, dtype), code) {
            return true;
        }
        // A scale is rounded too, and what it is then too small for is clamped.
        let number = self.book.value[usize::from(code)];
        let clamped = number.abs() == self.book.max && (number < 0.0) == (weight < 0.0);
        clamped && weight.is_finite() && round(weight.abs() / self.book.max, self.coded.scale.dtype) <= scale
    }

    fn join(&self, parts: Vec<Part>) -> Whole {
        let mut whole = Whole {
            sums: Sums::default(),
            nans: Places::default(),
            strays: Places::default(),
            outside: Places::default(),
            groups: vec![Group::default(); self.scales.len()],
        };
        // In the order of the pieces, so that sums do not depend on the threads.
        for part in parts {
            whole.sums.merge(&part.sums);
            whole.nans.merge(part.nans);
            whole.strays.merge(part.strays);
            whole.outside.merge(part.outside);
            for (group, of_part) in whole.groups[part.first_group..].iter_mut().zip(&part.groups) {
                group.largest = group.largest.max(of_part.largest);
                group.source += of_part.source;
                group.error += of_part.error;
                group.spoilt |= of_part.spoilt;
            }
        }
        whole
    }

    fn worst(&self, groups: &[Group], rows: usize) -> Option<WorstBlock> {
        let ([height, width], across) = (self.sides(), self.groups_across());
        let noise = |group: &Group| sqnr(group.source, group.error);
        let noisy = groups.iter().enumerate().filter_map(|(index, group)| Some((index, noise(group)?)));
        let (index, sqnr_db) = noisy.min_by(|a, b| a.1.total_cmp(&b.1))?;
        let at = [index / across * height, index % across * width];
        let size = [height.min(rows - at[0]), width.min(self.columns - at[1])];
        Some(WorstBlock { at, size, sqnr_db, scale: self.scales[index] })
    }

    fn count_scales(&self, groups: &[Group], source: Dtype) -> ScaleCount {
        let mut count = ScaleCount::default();
        for (index, (&scale, group)) in self.scales.iter().zip(groups).enumerate() {
            if follows(scale, group.largest, self.book.max, self.coded.scale.dtype, source) {
                count.following += 1;
            } else {
                if count.other == 0 {
                    count.first = index;
                }
                count.other += 1;
            }
        }
        count
    }
}

/// A stretch of one row under one scale.
struct Run<'a> {
    at: [usize; 2],
    /// Index of the scale.
    group: usize,
    codes: &'a [u8],
}

impl Run<'_> {
    fn place(&self, index: usize) -> [usize; 2] {
        [self.at[0], self.at[1] + index]
    }
}

impl Whole {
    fn report(&self, matrix: &Matrix<'_>, values: Scales, findings: &mut Vec<Finding>) {
        let name = &matrix.coded.weight.name;
        let Places { number, first } = if values == Scales::Kept { self.strays } else { self.nans };
        if number > 0 {
            let message = format!("{} holds {number} NaN, the first at {first:?}", shown(name));
            findings.push(Finding::new(&rules::WEIGHT_NAN, message).tensor(name));
        }
        let unexplained = |(scale, group): &(&f32, &Group)| !scale.is_finite() && !group.spoilt;
        let unexplained = matrix.scales.iter().zip(&self.groups).filter(unexplained).count();
        if values == Scales::Kept && matrix.source.is_some() && unexplained > 0 {
            let message =
                format!("{unexplained} scales of {} are NaN or infinite where the source is finite", shown(name));
            findings.push(Finding::new(&rules::SCALE_VALUE, message).tensor(&matrix.coded.scale.name));
        }
        if self.outside.number > 0 {
            let Places { number, first } = self.outside;
            let message = format!(
                "{}: {number} weights decode to more than half a step from the source, the first at {first:?}; the greatest error is {:e} at {:?}",
                shown(name),
                self.sums.max_error,
                self.sums.max_error_at
            );
            findings.push(Finding::new(&rules::OUTSIDE_STEP, message).tensor(name));
        }
    }
}

/// Whether a scale is what the reference tools make of the largest weight of its group.
fn follows(scale: f32, largest: f32, max: f32, dtype: Dtype, source: Dtype) -> bool {
    // compressed-tensors divides in the dtype of the source and replaces zero by an epsilon.
    let quotient = largest / max;
    let divided = match round(quotient, dtype) {
        0.0 => epsilon(dtype),
        rounded => rounded,
    };
    // transformers takes the reciprocal of what it multiplies by, and 1 for zero.
    let reciprocal = if largest == 0.0 { 1.0 } else { 1.0 / (max * (1.0 / largest)) };
    [divided, round(round(quotient, source), dtype), round(reciprocal, dtype)].contains(&scale)
}
