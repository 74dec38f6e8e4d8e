//! Walks a band of rows group by group: absolute maxima, scales, then the cast.

use super::amax::{BlockAmaxes, first_non_finite, maximum};
use super::division::Division;
use super::e4m3;
use super::element::{Bf16, Element, F16, F32};
use super::scale::{self, ScaleChoice};
use super::search::BySearch;
use super::table::ByTable;
use super::walk::{Caster, FoundNonFinite, Walk};
use crate::simd::Vectorized;
use crate::{Band, NonFinite, Simd, SourceDtype};

/// Granularity of the scales of E4M3: the elements of a weight that share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fp8Granularity {
    Tensor,
    Channel,
    /// Blocks of these numbers of rows and columns, neither of them zero.
    Block([usize; 2]),
}

/// The arithmetic of a cast to E4M3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cast {
    pub(crate) granularity: Fp8Granularity,
    /// The dtype that scales are rounded to and stored as.
    pub(crate) scale_dtype: SourceDtype,
    /// Rounds the quotient to the source dtype before it is rounded to E4M3.
    pub(crate) round_quotient: bool,
    pub(crate) choice: ScaleChoice,
}

/// Casts a band to E4M3 and stores its scales; `scales` is empty where the band stores none (see [`Fp8Granularity::Tensor`]).
pub(crate) fn quantize(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    // One instance for each source dtype and rounding: branches inside of the loops would keep LLVM from vectorizing them.
    match (band.source.dtype, cast.round_quotient) {
        (SourceDtype::Bf16, false) if band.simd != Simd::PORTABLE => run::<ByTable<false>>(cast, band, weight, scales),
        (SourceDtype::Bf16, true) if band.simd != Simd::PORTABLE => run::<ByTable<true>>(cast, band, weight, scales),
        (SourceDtype::Bf16, false) => run::<Division<Bf16, false>>(cast, band, weight, scales),
        (SourceDtype::Bf16, true) => run::<Division<Bf16, true>>(cast, band, weight, scales),
        (SourceDtype::F16, false) => run::<Division<F16, false>>(cast, band, weight, scales),
        (SourceDtype::F16, true) => run::<Division<F16, true>>(cast, band, weight, scales),
        (SourceDtype::F32, _) => run::<Division<F32, false>>(cast, band, weight, scales),
    }
}

fn run<C: Caster>(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    let walk = Walk::<C>::of(band, cast.scale_dtype, weight, scales);
    let walked = match cast.granularity {
        Fp8Granularity::Channel if cast.choice != ScaleChoice::Absmax => {
            let shape = [1, walk.columns];
            BySearch { walk, shape, groups_of_a_row: 1, choice: cast.choice }.run(band.simd)
        }
        Fp8Granularity::Block(shape) if cast.choice != ScaleChoice::Absmax => {
            let groups_of_a_row = walk.columns.div_ceil(shape[1]);
            BySearch { walk, shape, groups_of_a_row, choice: cast.choice }.run(band.simd)
        }
        Fp8Granularity::Tensor => {
            let amax = band.amax.expect("a band of a scheme with `AmaxScope::Tensor` comes with the maximum");
            band.simd.run(ByTensor { walk, amax })
        }
        Fp8Granularity::Channel => band.simd.run(ByChannel(walk)),
        Fp8Granularity::Block(shape) => band.simd.run(ByBlock { walk, shape }),
    };
    walked.map_err(|FoundNonFinite| first_non_finite::<C::Source>(band.source, band.first_row, band.bytes))
}

struct ByTensor<'a, C: Caster> {
    walk: Walk<'a, C>,
    amax: f32,
}

impl<C: Caster> Vectorized for ByTensor<'_, C> {
    type Output = Result<(), FoundNonFinite>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), FoundNonFinite> {
        let Self { mut walk, amax } = self;
        let scale = scale::scale(amax, e4m3::MAX, walk.scale_dtype);
        if !walk.scales.is_empty() {
            scale::store(scale, walk.scale_dtype, walk.scales);
        }
        let divisor = C::divisor(scale);
        for row in 0..walk.rows {
            // The maximum is known, but not that it was taken of these very bytes.
            if maximum::<C::Source>(walk.part(row, 0, walk.columns)) >= C::Source::INFINITE {
                return Err(FoundNonFinite);
            }
            walk.cast_row(row, &divisor, simd);
        }
        Ok(())
    }
}

struct ByChannel<'a, C: Caster>(Walk<'a, C>);

impl<C: Caster> Vectorized for ByChannel<'_, C> {
    type Output = Result<(), FoundNonFinite>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), FoundNonFinite> {
        let Self(mut walk) = self;
        for row in 0..walk.rows {
            let maximum = maximum::<C::Source>(walk.part(row, 0, walk.columns));
            let divisor = walk.scale(row, maximum)?;
            walk.cast_row(row, &divisor, simd);
        }
        Ok(())
    }
}

struct ByBlock<'a, C: Caster> {
    walk: Walk<'a, C>,
    shape: [usize; 2],
}

impl<C: Caster> Vectorized for ByBlock<'_, C> {
    type Output = Result<(), FoundNonFinite>;

    /// A row of blocks is read twice from end to end, once for the maxima and once for the cast: that is what the memory
    /// is fastest at, and what is read again is in a cache still.
    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), FoundNonFinite> {
        let Self { mut walk, shape: [height, width] } = self;
        let mut maxima = BlockAmaxes::<C::Source>::of(walk.columns, width);
        let mut divisors = Vec::with_capacity(walk.columns.div_ceil(width));
        let mut block = 0;
        // Strips of blocks, which would be read from a nearer cache the second time, were slower: see `BlockAmaxes::add`.
        for first_row in (0..walk.rows).step_by(height) {
            let rows = first_row..walk.rows.min(first_row.saturating_add(height));
            maxima.clear();
            for row in rows.clone() {
                maxima.add(walk.part(row, 0, walk.columns));
            }
            divisors.clear();
            for maximum in maxima.blocks() {
                divisors.push(walk.scale(block, maximum)?);
                block += 1;
            }
            for row in rows {
                walk.cast(row, 0, walk.columns, &divisors, width, simd);
            }
        }
        Ok(())
    }
}
