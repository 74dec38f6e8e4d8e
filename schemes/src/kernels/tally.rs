//! How often each magnitude occurs in a granule, so that each is judged once.
//!
//! BF16 has 128 magnitudes to an octave. Of a normal distribution 128 x 128 weights have about a thousand, and a row of 4096
//! some seven hundred. E4M3 rounds the octaves of its normal numbers alike: a magnitude twice as large has a code twice as large
//! and four times the squared error. So the octaves between those that a scale may clip and those that it may make subnormal
//! are judged as one, in which a magnitude counts four times as much for each octave that it lies higher.

use super::e4m3;
use super::element::Element;
use super::walk::Caster;
use crate::Simd;
use crate::simd::Vectorized;

/// Sums that squares go to, an element to that of its column: in the same order under every instruction
/// set, since sums of floating-point numbers depend on it.
pub(super) const LANES: usize = 16;

/// Octaves from that of the largest magnitude down of which each magnitude has a counter. What lies lower becomes zero under
/// every scale that is tried, and is rare.
const OCTAVES: usize = 20;

/// The first and the last of those octaves that are judged as one.
///
/// A scale is at least 0.70 of that of the absolute maximum, so that it clips numbers of the first two octaves only. It is at
/// most 1.81 times that scale, so that quotients are at least 2^-6, the smallest normal number, up to this many octaves down.
const ALIKE: std::ops::RangeInclusive<usize> = 2..=12;

/// The magnitudes of a granule, and how often each occurs; made once and filled for one granule after the other.
pub(super) struct Tally<E: Element> {
    /// Occurrences of the magnitudes of the octave of the largest, from its end down, and so on; the last counter has all that
    /// lie lower.
    counters: Vec<u32>,
    /// The magnitudes to be judged.
    magnitudes: Vec<E::Raw>,
    values: Vec<f64>,
    /// What the squared error of each is multiplied by.
    weights: Vec<f64>,
    codes: Vec<u8>,
}

impl<E: Element> Tally<E> {
    const OCTAVE: usize = E::MAGNITUDES_OF_AN_OCTAVE;
    const COUNTERS: usize = OCTAVES * Self::OCTAVE;

    /// The number of elements from which on counting them takes less time than judging each: going through all counters
    /// takes as long as judging about half as many elements. F32 has too many magnitudes to be counted.
    pub(super) const PAYS_FROM: usize = if Self::COUNTERS < 1 << 16 { Self::COUNTERS / 2 } else { usize::MAX };

    pub(super) fn new() -> Self {
        Self {
            counters: Vec::new(),
            magnitudes: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            codes: Vec::new(),
        }
    }

    #[inline(always)]
    fn take<'a>(&mut self, rows: impl Iterator<Item = &'a [E::Raw]> + Clone, maximum: E::Magnitude, normal_scales: bool)
    where
        E::Raw: 'a,
    {
        let octave = E::pattern(maximum) as usize / Self::OCTAVE;
        let top = ((octave + 1) * Self::OCTAVE - 1) as u32;
        self.counters.clear();
        self.counters.resize(Self::COUNTERS + 1, 0);
        for elements in rows.clone() {
            count::<E>(elements, top, &mut self.counters);
        }
        self.magnitudes.clear();
        self.weights.clear();
        if self.counters.pop().is_some_and(|lower| lower > 0) {
            let patterns = rows.flatten().map(|&raw| E::pattern(E::magnitude(raw)));
            let lower = patterns.filter(|&pattern| pattern != 0 && (top - pattern) as usize >= Self::COUNTERS);
            self.magnitudes.extend(lower.map(E::positive));
            self.weights.resize(self.magnitudes.len(), 1.0);
        }
        // The octave of subnormal magnitudes is spaced otherwise.
        let alike = normal_scales && octave > *ALIKE.end();
        if alike {
            self.list_as_one(top);
        }
        for octave in (0..OCTAVES).filter(|octave| !(alike && ALIKE.contains(octave))) {
            self.list(octave, top);
        }
        self.values.clear();
        self.values.extend(self.magnitudes.iter().map(|&raw| f64::from(E::widen(E::magnitude(raw)))));
        self.codes.resize(self.magnitudes.len(), 0);
    }

    /// Lists the magnitudes of an octave that occur.
    #[inline(always)]
    fn list(&mut self, octave: usize, top: u32) {
        let first = octave * Self::OCTAVE;
        let counters = &self.counters[first..first + Self::OCTAVE];
        if counters.iter().fold(0, |any, &occurrences| any | occurrences) == 0 {
            return;
        }
        let start = self.magnitudes.len();
        self.magnitudes.resize(start + Self::OCTAVE, E::positive(0));
        self.weights.resize(start + Self::OCTAVE, 0.0);
        let (magnitudes, weights) = (&mut self.magnitudes[start..], &mut self.weights[start..]);
        // Each is written where the next one belongs, and only those that occur move that place on: there is no branch to
        // mispredict. No counter is of a pattern below 0, but where there are fewer octaves than counters.
        let mut listed = 0;
        for (below, &occurrences) in (first as u32..).zip(counters) {
            magnitudes[listed] = E::positive(top.saturating_sub(below));
            weights[listed] = f64::from(occurrences);
            listed += usize::from(occurrences > 0);
        }
        self.magnitudes.truncate(start + listed);
        self.weights.truncate(start + listed);
    }

    /// Lists the magnitudes of all octaves that are rounded alike as those of the last of them.
    #[inline(always)]
    fn list_as_one(&mut self, top: u32) {
        let (first, last) = (*ALIKE.start(), *ALIKE.end());
        let start = self.weights.len();
        self.weights.resize(start + Self::OCTAVE, 0.0);
        let weights = &mut self.weights[start..];
        for octave in first..=last {
            let factor = (1u64 << (2 * (last - octave))) as f64;
            let counters = &self.counters[octave * Self::OCTAVE..][..Self::OCTAVE];
            for (weight, &occurrences) in weights.iter_mut().zip(counters) {
                *weight += factor * f64::from(occurrences);
            }
        }
        let highest = top - (last * Self::OCTAVE) as u32;
        self.magnitudes.extend((0..Self::OCTAVE as u32).map(|below| E::positive(highest - below)));
    }

    #[inline(always)]
    fn error<C: Caster<Source = E>>(&mut self, scale: f32, simd: Simd) -> f64 {
        C::cast(&self.magnitudes, &[C::divisor(scale)], self.magnitudes.len().max(1), &mut self.codes, simd);
        let mut sums = [0f64; LANES];
        let (values, last) = self.values.as_chunks::<LANES>();
        let (codes, last_codes) = self.codes.as_chunks::<LANES>();
        let (weights, last_weights) = self.weights.as_chunks::<LANES>();
        for ((values, codes), weights) in values.iter().zip(codes).zip(weights) {
            for lane in 0..LANES {
                sums[lane] += weights[lane] * square(values[lane], codes[lane], scale);
            }
        }
        for (((sum, &value), &code), &weight) in sums.iter_mut().zip(last).zip(last_codes).zip(last_weights) {
            *sum += weight * square(value, code, scale);
        }
        sums.iter().sum()
    }
}

/// Makes a tally that of the elements of some rows.
pub(super) struct TakeTally<'t, E: Element, I> {
    pub(super) rows: I,
    /// The largest of their magnitudes.
    pub(super) maximum: E::Magnitude,
    /// No scale that will be tried is subnormal in its dtype: then octaves are judged as one. Others may be further from the scale of
    /// the absolute maximum than that allows.
    pub(super) normal_scales: bool,
    pub(super) tally: &'t mut Tally<E>,
}

impl<'a, E: Element, I: Iterator<Item = &'a [E::Raw]> + Clone> Vectorized for TakeTally<'_, E, I>
where
    E::Raw: 'a,
{
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        self.tally.take(self.rows, self.maximum, self.normal_scales);
    }
}

/// The sum of the squared differences between the elements of a tally and what their codes under a scale stand for.
pub(super) struct TallyError<'t, C: Caster> {
    pub(super) tally: &'t mut Tally<C::Source>,
    pub(super) scale: f32,
}

impl<C: Caster> Vectorized for TallyError<'_, C> {
    type Output = f64;

    #[inline(always)]
    fn run(self, simd: Simd) -> f64 {
        self.tally.error::<C>(self.scale, simd)
    }
}

/// Adds to the counters the elements that lie as far below `top`, to the last one all that lie further.
#[inline(always)]
fn count<E: Element>(elements: &[E::Raw], top: u32, counters: &mut [u32]) {
    let last = counters.len() - 1;
    for &raw in elements {
        let below = (top - E::pattern(E::magnitude(raw))) as usize;
        counters[below.min(last)] += 1;
    }
}

/// The squared difference between an absolute value and what its code stands for, which has its sign: exact but for the
/// rounding of the difference and the square.
#[inline(always)]
pub(super) fn square(value: f64, code: u8, scale: f32) -> f64 {
    let difference = value - f64::from(e4m3::decode(code & 0x7F)) * f64::from(scale);
    difference * difference
}
