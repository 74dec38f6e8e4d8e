//! The distributions of a few weights, for pictures: values before and after, and scales.

use rayon::prelude::*;

use crate::decode::{Piece, QuantizedWeight, Scratch, Shards, pieces};
use crate::open::{self, CheckError, judged};
use crate::source::{CheckedAs, CheckedTensor, OpenedSource, Original};
use crate::structure;
use crate::verify::Verification;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::source::SourceError;

/// Bins of the values of a weight; odd, so that zero is in the middle of one.
const VALUE_BINS: usize = 61;
/// The most bins of the scales of a weight.
const SCALE_BINS: usize = 48;
/// Fine bins of scales for each power of two.
const PER_OCTAVE: usize = 64;
/// The powers of two that scales of F32 and E8M0 have, subnormal ones aside.
const OCTAVES: usize = 256;
/// Scales that are read at once.
const SCALES_AT_ONCE: usize = 1 << 18;

/// The number of values in each of some bins of equal width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// The lower end of the first bin and the upper end of the last.
    pub range: [f64; 2],
    pub counts: Vec<u64>,
    /// Values that have no place: not finite or, of scales, not positive.
    pub without_place: u64,
}

/// The distributions of one weight.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The name of the weight.
    pub name: String,
    /// The decoded values; what is beyond the range is in the bins at its ends.
    pub decoded: Histogram,
    /// The source's values in the same bins, where there is a source.
    pub source: Option<Histogram>,
    /// The logarithms of the scales to base 2.
    pub scales: Histogram,
}

/// Reads the weights of a result that are furthest from the source, or the largest ones where there is no source.
///
/// A result that cannot be opened has none.
///
/// # Errors
/// A file cannot be read.
pub fn distributions(
    verification: &Verification,
    number: usize,
    progress: &dyn ProgressSink,
) -> Result<Vec<Distribution>, CheckError> {
    let chosen = chosen(verification, number);
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let output = &verification.output;
    let source = verification.source.as_ref();
    let source = source.map(|source| open::source_of(output, source, verification.source_layers)).transpose()?;
    let source = source.as_ref().map(open::source).transpose()?;
    // What is wrong with the result has been found by the proof.
    let Some(checkpoint) = judged(output, &mut Vec::new())? else { return Ok(Vec::new()) };
    let shards = Shards::open(&checkpoint)?;
    let structure = structure::check(&checkpoint, &shards, &mut Vec::new())?;
    let weights: Vec<(&CheckedTensor, &QuantizedWeight<'_>)> = chosen
        .into_iter()
        .filter_map(|tensor| Some((tensor, structure.weights.iter().find(|weight| weight.name() == tensor.name)?)))
        .collect();
    progress.reading("reading the noisiest tensors again", weights.iter().map(|(_, weight)| weight.codes.len).sum());
    let read = |(tensor, weight): (&CheckedTensor, &QuantizedWeight<'_>)| {
        Ok(DistributionPass { weight, shards: &shards, progress }.read(tensor, source.as_ref())?)
    };
    weights.into_iter().map(read).collect()
}

fn chosen(verification: &Verification, number: usize) -> Vec<&CheckedTensor> {
    let mut chosen = verification.noisiest();
    if chosen.is_empty() {
        let decoded = verification.tensors.iter().filter(|tensor| tensor.action == CheckedAs::Decoded);
        chosen = decoded.collect();
        chosen.sort_by_key(|tensor| std::cmp::Reverse(tensor.bytes));
    }
    chosen.truncate(number);
    chosen
}

/// A weight that is read once more.
struct DistributionPass<'a> {
    weight: &'a QuantizedWeight<'a>,
    shards: &'a Shards,
    progress: &'a dyn ProgressSink,
}

/// Buffers and counts of a thread.
#[derive(Default)]
struct PassPart {
    scratch: Scratch,
    values: Vec<f32>,
    decoded: Vec<u64>,
    source: Vec<u64>,
    without_place: [u64; 2],
}

impl DistributionPass<'_> {
    fn read(&self, tensor: &CheckedTensor, source: Option<&OpenedSource<'_>>) -> Result<Distribution, SourceError> {
        let (scales, bound) = self.scales()?;
        // The source's largest magnitude where it is known: codes of four bits reach beyond it.
        let largest = if tensor.amax > 0.0 { tensor.amax } else { bound };
        let largest = if largest > 0.0 && largest.is_finite() { f64::from(largest) } else { 1.0 };
        let original = source.and_then(|source| source.original(&tensor.name));
        let original = original.filter(|original| original.is_float() && original.shape() == self.weight.shape);
        let empty = || PassPart { decoded: vec![0; VALUE_BINS], source: vec![0; VALUE_BINS], ..PassPart::default() };
        let part = pieces(self.weight.shape, self.weight.sides()[0])
            .into_par_iter()
            .try_fold(empty, |part, piece| self.piece(part, &piece, original.as_ref(), largest))
            .try_reduce(empty, |part, later| Ok(part.merge(&later)))?;
        let histogram = |counts, without_place| Histogram { range: [-largest, largest], counts, without_place };
        Ok(Distribution {
            name: tensor.name.clone(),
            decoded: histogram(part.decoded, part.without_place[0]),
            source: original.is_some().then(|| histogram(part.source, part.without_place[1])),
            scales,
        })
    }

    fn piece(
        &self,
        mut part: PassPart,
        piece: &Piece,
        original: Option<&Original<'_>>,
        largest: f64,
    ) -> Result<PassPart, SourceError> {
        let PassPart { scratch, values, decoded, source, without_place: [lost, lost_of_source] } = &mut part;
        self.weight.decode(self.shards, piece, scratch, values)?;
        *lost += add(values, largest, decoded);
        if let Some(original) = original {
            original.read(piece, scratch, values)?;
            *lost_of_source += add(values, largest, source);
        }
        // Codes of less than a byte: what is stored, as the total counts it.
        let elements = (self.weight.shape[0] * self.weight.shape[1]).max(1) as u64;
        let here = (piece.rows.len() * piece.columns.len()) as u64;
        self.progress.advanced((u128::from(self.weight.codes.len) * u128::from(here) / u128::from(elements)) as u64);
        Ok(part)
    }

    /// Returns the distribution of the scales, and the largest magnitude that codes can have under them.
    //
    // By rows of groups and not by pieces: a piece may hold a part of a group only, whose scale would count twice.
    fn scales(&self) -> Result<(Histogram, f32), SourceError> {
        let (rows, [height, _], across) = (self.weight.shape[0], self.weight.sides(), self.weight.across());
        let book = self.weight.form.storage.codebook();
        let step = height.saturating_mul((SCALES_AT_ONCE / across.max(1)).max(1));
        let (mut fine, mut without_place, mut bound) = (vec![0_u64; OCTAVES * PER_OCTAVE], 0, 0.0_f32);
        for first in (0..rows).step_by(step) {
            let qparams = self.weight.qparams(self.shards, &(first..rows.min(first.saturating_add(step))))?;
            for group in qparams.groups() {
                let group = qparams.of(group);
                if !(group.scale.is_finite() && group.scale > 0.0) {
                    without_place += 1;
                    continue;
                }
                let end = (book.largest - group.zero).abs().max((book.least - group.zero).abs());
                bound = bound.max(end * group.scale);
                let octaves = f64::from(group.scale).log2() + (OCTAVES / 2) as f64;
                let bin = (octaves * PER_OCTAVE as f64).floor().clamp(0.0, (fine.len() - 1) as f64);
                fine[bin as usize] += 1;
            }
        }
        Ok((coarse(&fine, without_place), bound))
    }
}

impl PassPart {
    fn merge(mut self, later: &Self) -> Self {
        let sum = |all: &mut Vec<u64>, more: &[u64]| all.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        sum(&mut self.decoded, &later.decoded);
        sum(&mut self.source, &later.source);
        self.without_place = [0, 1].map(|side| self.without_place[side] + later.without_place[side]);
        self
    }
}

/// Counts values between plus and minus `largest`, and returns the number of those that have no place.
fn add(values: &[f32], largest: f64, counts: &mut [u64]) -> u64 {
    let last = (counts.len() - 1) as f64;
    let per_value = counts.len() as f64 / (2.0 * largest);
    let mut without_place = 0;
    for &value in values {
        if value.is_finite() {
            counts[((f64::from(value) + largest) * per_value).clamp(0.0, last) as usize] += 1;
        } else {
            without_place += 1;
        }
    }
    without_place
}

/// Puts fine bins together into a few, from the first that holds anything to the last.
fn coarse(fine: &[u64], without_place: u64) -> Histogram {
    let first = fine.iter().position(|count| *count > 0);
    let last = fine.iter().rposition(|count| *count > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Histogram { without_place, ..Histogram::default() };
    };
    // Scales that are powers of two would leave most bins empty if these were narrower.
    let is_whole = |(bin, count): (usize, &u64)| *count == 0 || bin.is_multiple_of(PER_OCTAVE);
    let narrowest = if fine.iter().enumerate().all(is_whole) { PER_OCTAVE } else { 1 };
    let width = (last + 1 - first).div_ceil(SCALE_BINS).next_multiple_of(narrowest);
    let counts: Vec<u64> = fine[first..=last].chunks(width).map(|bins| bins.iter().sum()).collect();
    let at = |bin: usize| bin as f64 / PER_OCTAVE as f64 - (OCTAVES / 2) as f64;
    Histogram { range: [at(first), at(first + width * counts.len())], counts, without_place }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bins_around_zero_and_beyond_the_ends_into_the_last() {
        let mut counts = vec![0; 5];
        assert_eq!(add(&[-9.0, -1.0, 0.0, 0.19, 1.0, f32::NAN, f32::INFINITY], 1.0, &mut counts), 2);
        assert_eq!(counts, [2, 0, 2, 0, 1]);
    }

    #[test]
    fn scales_of_any_spread_make_few_bins_that_lose_none() {
        let mut fine = vec![0; OCTAVES * PER_OCTAVE];
        assert_eq!(coarse(&fine, 3), Histogram { range: [0.0, 0.0], counts: vec![], without_place: 3 });
        for octave in 100..140 {
            fine[octave * PER_OCTAVE] = 2;
        }
        let whole = coarse(&fine, 0);
        assert_eq!((whole.range, &whole.counts), ([-28.0, 12.0], &vec![2; 40]));
        fine[100 * PER_OCTAVE + 5] = 7;
        let odd = coarse(&fine, 0);
        assert!(odd.counts.len() <= SCALE_BINS && odd.counts.iter().sum::<u64>() == 87, "{odd:?}");
    }
}
