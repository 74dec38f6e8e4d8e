//! Integers of 2 to 8 bits, symmetric or with a zero point, one in a byte or packed.

use super::absmax::maximum;
use super::element::{Bf16, F16, F32};
use super::pack::{pack, packed_bytes};
use super::quotient::{Corrected, Divided, Quotient};
use super::rows::{Poisoned, RowKernel, by_row};
use super::scale;
use super::signed::Signed;
use crate::{Band, NonFinite, Simd, SourceDtype};

/// The arithmetic of a cast to integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IntegerCast {
    /// From 2 to 8.
    pub(crate) bits: u32,
    /// Whether the quotient is rounded to the source dtype before it is rounded to an integer.
    pub(crate) round_quotient: bool,
    /// Whether integers are packed, each raised by half of their range, or stand in a byte each.
    pub(crate) packed: bool,
    /// Groups of a row; a tensor whose maximum comes with the band is one.
    pub(crate) groups: usize,
    /// Columns of a group.
    pub(crate) width: usize,
}

/// Where a band's integers go.
pub(crate) struct IntegerOutputs<'a> {
    pub(crate) weight: &'a mut [u8],
    /// Empty where the band stores none.
    pub(crate) scales: &'a mut [u8],
    /// `None` for symmetric integers.
    pub(crate) zero_points: Option<&'a mut [u8]>,
}

/// Casts a band to integers.
pub(crate) fn quantize_integers(
    cast: IntegerCast,
    band: &Band<'_>,
    outputs: IntegerOutputs<'_>,
) -> Result<(), NonFinite> {
    match (band.source.dtype, cast.round_quotient) {
        (SourceDtype::Bf16, false) => run::<Bf16, false>(cast, band, outputs),
        (SourceDtype::Bf16, true) => run::<Bf16, true>(cast, band, outputs),
        (SourceDtype::F16, false) => run::<F16, false>(cast, band, outputs),
        (SourceDtype::F16, true) => run::<F16, true>(cast, band, outputs),
        (SourceDtype::F32, _) => run::<F32, false>(cast, band, outputs),
    }
}

fn run<E: Signed, const ROUNDED: bool>(
    cast: IntegerCast,
    band: &Band<'_>,
    mut outputs: IntegerOutputs<'_>,
) -> Result<(), NonFinite> {
    let dtype = band.source.dtype;
    let tensor = band.amax.map(|amax| {
        let scale = scale::scale(amax, cast.symmetric_range(), dtype);
        if !outputs.scales.is_empty() {
            scale::store(scale, dtype, outputs.scales);
        }
        Step { scale, zero: 0.0 }
    });
    if let Some(zero_points) = &mut outputs.zero_points {
        // Packed ones are put in bit by bit.
        zero_points.fill(0);
    }
    let columns = band.source.columns;
    let (stride, unpacked) = match cast.packed {
        true => (packed_bytes(columns, cast.bits), vec![0; columns]),
        false => (columns, Vec::new()),
    };
    by_row(band, Integers::<E, ROUNDED> { cast, dtype, outputs, tensor, stride, unpacked, highest: E::INFINITE })
}

impl IntegerCast {
    /// What the absolute maximum is divided by: half of the range, which is the mean of the largest integer and the
    /// magnitude of the least.
    fn symmetric_range(self) -> f32 {
        self.range() / 2.0
    }

    fn range(self) -> f32 {
        ((1 << self.bits) - 1) as f32
    }

    fn half(self) -> u8 {
        1 << (self.bits - 1)
    }

    fn least(self) -> f32 {
        -f32::from(self.half())
    }

    fn largest(self) -> f32 {
        f32::from(self.half() - 1)
    }
}

/// What a group is divided by, and the integer that stands for zero.
#[derive(Clone, Copy)]
struct Step {
    scale: f32,
    zero: f32,
}

struct Integers<'a, E: Signed, const ROUNDED: bool> {
    cast: IntegerCast,
    dtype: SourceDtype,
    outputs: IntegerOutputs<'a>,
    /// The one step of a tensor.
    tensor: Option<Step>,
    /// Bytes of a row of the weight.
    stride: usize,
    /// The integers of a row before they are packed.
    unpacked: Vec<u8>,
    highest: E::Magnitude,
}

impl<E: Signed, const ROUNDED: bool> RowKernel for Integers<'_, E, ROUNDED> {
    type Source = E;

    #[inline(always)]
    fn row(&mut self, row: usize, elements: &[E::Raw], simd: Simd) -> Result<(), Poisoned> {
        let cast = self.cast;
        for group in 0..cast.groups {
            let (first, end) = (group * cast.width, (group + 1) * cast.width);
            let elements = &elements[first..end];
            let step = self.step(row, group, elements)?;
            let codes = match cast.packed {
                true => &mut self.unpacked[first..end],
                false => &mut self.outputs.weight[row * self.stride..][first..end],
            };
            match Corrected::by(step.scale, E::SHORT, simd) {
                Some(corrected) => integers::<E, ROUNDED>(elements, corrected, step.zero, cast, codes),
                None => integers::<E, ROUNDED>(elements, Divided(step.scale), step.zero, cast, codes),
            }
        }
        if cast.packed {
            pack(&self.unpacked, cast.bits, &mut self.outputs.weight[row * self.stride..][..self.stride]);
        }
        Ok(())
    }
}

impl<E: Signed, const ROUNDED: bool> Integers<'_, E, ROUNDED> {
    /// Computes the step of a group and stores what of it is stored.
    #[inline(always)]
    fn step(&mut self, row: usize, group: usize, elements: &[E::Raw]) -> Result<Step, Poisoned> {
        let step = if self.outputs.zero_points.is_some() {
            let (least, greatest) = extremes::<E>(elements);
            let negative = if least < E::Magnitude::default() { E::negated(least) } else { E::Magnitude::default() };
            if negative >= self.highest || greatest >= self.highest {
                return Err(Poisoned);
            }
            let step = shifted::<E>(-E::widen(negative), E::widen(greatest), self.cast, self.dtype);
            self.store_zero(row, group, step.zero);
            step
        } else {
            let maximum = maximum::<E>(elements);
            if maximum >= self.highest {
                return Err(Poisoned);
            }
            if let Some(step) = self.tensor {
                return Ok(step);
            }
            Step { scale: scale::scale(E::widen(maximum), self.cast.symmetric_range(), self.dtype), zero: 0.0 }
        };
        let bytes = self.dtype.bytes();
        let place = (row * self.cast.groups + group) * bytes;
        scale::store(step.scale, self.dtype, &mut self.outputs.scales[place..][..bytes]);
        Ok(step)
    }

    /// Stores a zero point as a byte, or packed with those of the rows above and below.
    fn store_zero(&mut self, row: usize, group: usize, zero: f32) {
        let Some(zero_points) = &mut self.outputs.zero_points else { return };
        let zero = zero as i8 as u8;
        let IntegerCast { bits, packed, groups, .. } = self.cast;
        if !packed {
            zero_points[row * groups + group] = zero;
            return;
        }
        let code = zero.wrapping_add(self.cast.half()) & (u8::MAX >> (8 - bits));
        let (word, shift) = (row * bits as usize / 32, row * bits as usize % 32);
        // A code may begin in one word and end in the next, which is a row further.
        let halves = (u64::from(code) << shift).to_le_bytes();
        for (index, half) in halves.as_chunks::<4>().0.iter().enumerate() {
            if *half == [0; 4] {
                continue;
            }
            let place = ((word + index) * groups + group) * 4;
            for (byte, bits) in zero_points[place..][..4].iter_mut().zip(half) {
                *byte |= bits;
            }
        }
    }
}

/// The least and the greatest element, as their order has them; zero counts as one of them.
#[inline(always)]
fn extremes<E: Signed>(elements: &[E::Raw]) -> (E::Magnitude, E::Magnitude) {
    elements.iter().fold(Default::default(), |(least, greatest): (E::Magnitude, E::Magnitude), &raw| {
        let ordered = E::ordered(raw);
        (least.min(ordered), greatest.max(ordered))
    })
}

/// The step of a group between `least`, which is not positive, and `greatest`, which is not negative.
///
/// Every operation is rounded to the dtype of the weight. A difference beyond that dtype gives an infinite scale, as in
/// compressed-tensors.
fn shifted<E: Signed>(least: f32, greatest: f32, cast: IntegerCast, dtype: SourceDtype) -> Step {
    let scale = E::round(E::round(greatest - least) / cast.range());
    // The zero point is that of the scale before the epsilon stands in for it, and of nothing divided by nothing it is 0.
    let zero = match scale == 0.0 && least == 0.0 {
        true => 0.0,
        false => E::round(cast.least() - E::round(least / scale)).clamp(cast.least(), cast.largest()),
    };
    let scale = if scale == 0.0 { scale::epsilon(dtype) } else { scale };
    Step { scale, zero: zero.round_ties_even() }
}

/// Divides finite elements, adds the zero point and rounds.
#[inline(always)]
fn integers<E: Signed, const ROUNDED: bool>(
    elements: &[E::Raw],
    quotient: impl Quotient,
    zero: f32,
    cast: IntegerCast,
    codes: &mut [u8],
) {
    let (least, largest) = (cast.least(), cast.largest());
    // Next to this number `f32` steps by 1, so that the adder rounds, and its lowest byte is 0, or what packed integers
    // are raised by.
    let magic = MAGIC + if cast.packed { f32::from(cast.half()) } else { 0.0 };
    for (code, &raw) in codes.iter_mut().zip(elements) {
        let quotient = quotient.of(E::signed(raw));
        let shifted = match ROUNDED {
            true => E::round(E::round(quotient) + zero),
            false => quotient + zero,
        };
        let raised = if shifted > least { shifted } else { least };
        let clamped = if raised < largest { raised } else { largest };
        *code = (clamped + magic).to_bits() as u8;
    }
}

/// `1.5 * 2^23`.
const MAGIC: f32 = 12_582_912.0;

#[cfg(test)]
mod tests {
    use super::*;

    const CAST: IntegerCast = IntegerCast { bits: 4, round_quotient: false, packed: false, groups: 1, width: 4 };

    #[test]
    fn a_group_lies_between_its_extremes() {
        let step = shifted::<F32>(-1.0, 2.0, CAST, SourceDtype::F32);
        assert_eq!((step.scale, step.zero), (0.2, -3.0));
        // Of one sign, the range begins at zero.
        let step = shifted::<F32>(0.0, 3.0, CAST, SourceDtype::F32);
        assert_eq!((step.scale, step.zero), (0.2, -8.0));
        let step = shifted::<F32>(0.0, 0.0, CAST, SourceDtype::F32);
        assert_eq!((step.scale, step.zero), (f32::EPSILON, 0.0));
        // Too small for a scale, and still below zero.
        let step = shifted::<F16>(-f32::from_bits((127 - 24) << 23), 0.0, CAST, SourceDtype::F16);
        assert_eq!((step.scale, step.zero), (2f32.powi(-10), 7.0));
    }

    #[test]
    fn ties_go_to_the_even_integer_and_the_ends_hold() {
        let values = [0.5f32, 1.5, -0.5, -1.5, 7.5, -8.5, 100.0, -100.0, -7.5, 6.5];
        let raw: Vec<[u8; 4]> = values.iter().map(|value| value.to_le_bytes()).collect();
        let mut codes = [0; 10];
        integers::<F32, false>(&raw, Divided(1.0), 0.0, CAST, &mut codes);
        assert_eq!(codes.map(|code| code as i8), [0, 2, 0, -2, 7, -8, 7, -8, -8, 6]);
        integers::<F32, false>(&raw, Divided(1.0), 0.0, IntegerCast { packed: true, ..CAST }, &mut codes);
        assert_eq!(codes, [8, 10, 8, 6, 15, 0, 15, 0, 0, 14]);
    }
}
