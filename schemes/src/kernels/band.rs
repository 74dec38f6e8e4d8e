//! Walks a band of rows group by group: absolute maxima, scales, then the cast.

use super::absmax::{Lanes, first_non_finite};
use super::division::Division;
use super::element::{Bf16, Element, F16, F32};
use super::multiply::Multiply;
use super::scale;
use crate::simd::Vectorized;
use crate::{Band, NonFinite, SourceDtype};

/// Which elements of a weight share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grouping {
    Tensor,
    Channel,
    /// Tiles of so many rows and columns, neither of them zero.
    Block([usize; 2]),
}

/// The arithmetic of a cast to E4M3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) grouping: Grouping,
    /// What the scales are rounded to and stored as.
    pub(crate) scale_dtype: SourceDtype,
    /// Whether the quotient is rounded to the source dtype before it is rounded to E4M3.
    pub(crate) round_quotient: bool,
}

/// Casts a band to E4M3 and stores its scales; `scales` is empty where the band stores none (see [`Grouping::Tensor`]).
pub(crate) fn quantize(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    match (band.source.dtype, cast.round_quotient, cast.scale_dtype) {
        (SourceDtype::Bf16, false, SourceDtype::Bf16) => run::<Multiply>(cast, band, weight, scales),
        (SourceDtype::Bf16, false, _) => run::<Division<Bf16, false>>(cast, band, weight, scales),
        (SourceDtype::Bf16, true, _) => run::<Division<Bf16, true>>(cast, band, weight, scales),
        (SourceDtype::F16, false, _) => run::<Division<F16, false>>(cast, band, weight, scales),
        (SourceDtype::F16, true, _) => run::<Division<F16, true>>(cast, band, weight, scales),
        (SourceDtype::F32, ..) => run::<Division<F32, false>>(cast, band, weight, scales),
    }
}

/// One way to divide by a scale and round to E4M3.
pub(super) trait Caster {
    type Source: Element;

    /// A scale, made ready to be divided by.
    type Divisor: Copy;

    fn divisor(scale: f32) -> Self::Divisor;

    /// Casts finite elements to as many codes.
    fn cast(source: &[<Self::Source as Element>::Raw], divisor: Self::Divisor, out: &mut [u8]);
}

fn run<C: Caster>(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    let walk = Walk::<C> {
        elements: C::Source::elements(band.bytes),
        columns: band.source.columns,
        rows: band.rows,
        scale_dtype: cast.scale_dtype,
        weight,
        scales,
    };
    let walked = match cast.grouping {
        Grouping::Tensor => {
            let amax = band.amax.expect("a band of a scheme with `AmaxScope::Tensor` comes with the maximum");
            band.simd.run(ByTensor { walk, amax })
        }
        Grouping::Channel => band.simd.run(ByChannel(walk)),
        Grouping::Block(shape) => band.simd.run(ByBlock { walk, shape }),
    };
    walked.map_err(|Poisoned| first_non_finite::<C::Source>(band.source, band.first_row, band.bytes))
}

/// A NaN or infinity was met; where, is looked up afterwards.
struct Poisoned;

/// The rows of a band, and where its codes and scales go.
struct Walk<'a, C: Caster> {
    elements: &'a [<C::Source as Element>::Raw],
    columns: usize,
    rows: usize,
    scale_dtype: SourceDtype,
    weight: &'a mut [u8],
    scales: &'a mut [u8],
}

impl<C: Caster> Walk<'_, C> {
    /// Turns the maximum of group number `group` into its scale, stores that, and makes it ready to divide by.
    #[inline(always)]
    fn scale(&mut self, group: usize, maximum: <C::Source as Element>::Magnitude) -> Result<C::Divisor, Poisoned> {
        if maximum >= C::Source::INFINITE {
            return Err(Poisoned);
        }
        let scale = scale::scale(C::Source::widen(maximum), self.scale_dtype);
        let bytes = self.scale_dtype.bytes();
        scale::store(scale, self.scale_dtype, &mut self.scales[group * bytes..][..bytes]);
        Ok(C::divisor(scale))
    }

    /// The part of a row that begins at a column.
    #[inline(always)]
    fn part(&self, row: usize, first: usize, columns: usize) -> &[<C::Source as Element>::Raw] {
        &self.elements[row * self.columns + first..][..columns]
    }

    #[inline(always)]
    fn cast(&mut self, row: usize, first: usize, columns: usize, divisor: C::Divisor) {
        let place = row * self.columns + first;
        C::cast(&self.elements[place..][..columns], divisor, &mut self.weight[place..][..columns]);
    }
}

struct ByTensor<'a, C: Caster> {
    walk: Walk<'a, C>,
    amax: f32,
}

impl<C: Caster> Vectorized for ByTensor<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self) -> Result<(), Poisoned> {
        let Self { mut walk, amax } = self;
        let scale = scale::scale(amax, walk.scale_dtype);
        if !walk.scales.is_empty() {
            scale::store(scale, walk.scale_dtype, walk.scales);
        }
        let divisor = C::divisor(scale);
        for row in 0..walk.rows {
            // The maximum is known, but not that it was taken of these very bytes.
            let mut lanes = Lanes::<C::Source>::new();
            lanes.take(walk.part(row, 0, walk.columns));
            if lanes.maximum() >= C::Source::INFINITE {
                return Err(Poisoned);
            }
            walk.cast(row, 0, walk.columns, divisor);
        }
        Ok(())
    }
}

struct ByChannel<'a, C: Caster>(Walk<'a, C>);

impl<C: Caster> Vectorized for ByChannel<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self) -> Result<(), Poisoned> {
        let Self(mut walk) = self;
        for row in 0..walk.rows {
            let mut lanes = Lanes::<C::Source>::new();
            lanes.take(walk.part(row, 0, walk.columns));
            let divisor = walk.scale(row, lanes.maximum())?;
            walk.cast(row, 0, walk.columns, divisor);
        }
        Ok(())
    }
}

struct ByBlock<'a, C: Caster> {
    walk: Walk<'a, C>,
    shape: [usize; 2],
}

/// About so many columns of a row of blocks are read twice in a row: 128 rows of BF16 are then 1 MiB, half of an L2 cache.
const STRIP: usize = 4096;

impl<C: Caster> Vectorized for ByBlock<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self) -> Result<(), Poisoned> {
        let Self { mut walk, shape: [height, width] } = self;
        let per_row = walk.columns.div_ceil(width);
        let per_strip = (STRIP / width).clamp(1, per_row.max(1));
        let mut lanes = vec![Lanes::<C::Source>::new(); per_strip];
        let mut divisors = Vec::with_capacity(per_strip);
        for first_row in (0..walk.rows).step_by(height) {
            let rows = first_row..walk.rows.min(first_row + height);
            for first_block in (0..per_row).step_by(per_strip) {
                let blocks = first_block..per_row.min(first_block + per_strip);
                let columns = |block: usize| (block * width, width.min(walk.columns - block * width));
                lanes.fill(Lanes::new());
                for row in rows.clone() {
                    for (block, lanes) in blocks.clone().zip(&mut lanes) {
                        let (first, columns) = columns(block);
                        lanes.take(walk.part(row, first, columns));
                    }
                }
                divisors.clear();
                for (block, lanes) in blocks.clone().zip(&lanes) {
                    divisors.push(walk.scale(first_row / height * per_row + block, lanes.maximum())?);
                }
                for row in rows.clone() {
                    for (block, &divisor) in blocks.clone().zip(&divisors) {
                        let first = block * width;
                        walk.cast(row, first, width.min(walk.columns - first), divisor);
                    }
                }
            }
        }
        Ok(())
    }
}
