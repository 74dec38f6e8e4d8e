//! Walks a band of rows group by group: absolute maxima, scales, then the cast.

use super::absmax::{accumulate, first_non_finite, maximum};
use super::division::Division;
use super::e4m3;
use super::element::{Bf16, Element, F16, F32};
#[cfg(target_arch = "x86_64")]
use super::multiply::Multiply;
use super::scale;
use super::search::BySearch;
use crate::simd::Vectorized;
use crate::{Band, NonFinite, Simd, SourceDtype};

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
    /// Whether the scale of a row or tile is the one that leaves the least squared error.
    pub(crate) search: bool,
}

/// Casts a band to E4M3 and stores its scales; `scales` is empty where the band stores none (see [`Grouping::Tensor`]).
pub(crate) fn quantize(cast: Cast, band: &Band<'_>, weight: &mut [u8], scales: &mut [u8]) -> Result<(), NonFinite> {
    match (band.source.dtype, cast.round_quotient, cast.scale_dtype) {
        #[cfg(target_arch = "x86_64")]
        (SourceDtype::Bf16, false, SourceDtype::Bf16) if band.simd != Simd::PORTABLE => {
            run::<Multiply>(cast, band, weight, scales)
        }
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

    /// Casts the finite elements of a tile; inlined into code that was compiled for `simd`.
    fn cast(tile: Tile<'_, Self::Source>, divisor: Self::Divisor, simd: Simd);
}

/// Elements under one scale, and where their codes go: some columns of some rows.
pub(super) struct Tile<'a, E: Element> {
    source: &'a [E::Raw],
    out: &'a mut [u8],
    /// From the start of a row to that of the next.
    stride: usize,
    columns: usize,
}

impl<E: Element> Tile<'_, E> {
    /// The rows, each with its codes.
    #[inline(always)]
    pub(super) fn rows(&mut self) -> impl Iterator<Item = (&[E::Raw], &mut [u8])> {
        let columns = self.columns;
        // The last row ends with the tile, and not after a whole stride.
        let source = self.source.chunks(self.stride).map(move |row| &row[..columns]);
        source.zip(self.out.chunks_mut(self.stride).map(move |row| &mut row[..columns]))
    }
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
        Grouping::Channel if cast.search => {
            let shape = [1, walk.columns];
            band.simd.run(BySearch { walk, shape, groups_of_a_row: 1 })
        }
        Grouping::Block(shape) if cast.search => {
            let groups_of_a_row = walk.columns.div_ceil(shape[1]);
            band.simd.run(BySearch { walk, shape, groups_of_a_row })
        }
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
pub(super) struct Poisoned;

/// The rows of a band, and where its codes and scales go.
pub(super) struct Walk<'a, C: Caster> {
    elements: &'a [<C::Source as Element>::Raw],
    pub(super) columns: usize,
    pub(super) rows: usize,
    pub(super) scale_dtype: SourceDtype,
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
        let scale = scale::scale(C::Source::widen(maximum), e4m3::MAX, self.scale_dtype);
        self.store(group, scale);
        Ok(C::divisor(scale))
    }

    /// Stores the scale of group number `group`.
    #[inline(always)]
    pub(super) fn store(&mut self, group: usize, scale: f32) {
        let bytes = self.scale_dtype.bytes();
        scale::store(scale, self.scale_dtype, &mut self.scales[group * bytes..][..bytes]);
    }

    /// The part of a row that begins at a column.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, first: usize, columns: usize) -> &[<C::Source as Element>::Raw] {
        &self.elements[row * self.columns + first..][..columns]
    }

    /// The codes of such a part, once it is cast.
    #[inline(always)]
    pub(super) fn codes(&self, row: usize, first: usize, columns: usize) -> &[u8] {
        &self.weight[row * self.columns + first..][..columns]
    }

    #[inline(always)]
    pub(super) fn cast(
        &mut self,
        row: usize,
        rows: usize,
        first: usize,
        columns: usize,
        divisor: C::Divisor,
        simd: Simd,
    ) {
        if rows == 0 || columns == 0 {
            return;
        }
        let place = row * self.columns + first;
        let length = (rows - 1) * self.columns + columns;
        let source = &self.elements[place..][..length];
        let out = &mut self.weight[place..][..length];
        C::cast(Tile { source, out, stride: self.columns, columns }, divisor, simd);
    }
}

struct ByTensor<'a, C: Caster> {
    walk: Walk<'a, C>,
    amax: f32,
}

impl<C: Caster> Vectorized for ByTensor<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), Poisoned> {
        let Self { mut walk, amax } = self;
        let scale = scale::scale(amax, e4m3::MAX, walk.scale_dtype);
        if !walk.scales.is_empty() {
            scale::store(scale, walk.scale_dtype, walk.scales);
        }
        let divisor = C::divisor(scale);
        for row in 0..walk.rows {
            // The maximum is known, but not that it was taken of these very bytes.
            if maximum::<C::Source>(walk.part(row, 0, walk.columns)) >= C::Source::INFINITE {
                return Err(Poisoned);
            }
            walk.cast(row, 1, 0, walk.columns, divisor, simd);
        }
        Ok(())
    }
}

struct ByChannel<'a, C: Caster>(Walk<'a, C>);

impl<C: Caster> Vectorized for ByChannel<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), Poisoned> {
        let Self(mut walk) = self;
        for row in 0..walk.rows {
            let maximum = maximum::<C::Source>(walk.part(row, 0, walk.columns));
            let divisor = walk.scale(row, maximum)?;
            for first in (0..walk.columns).step_by(PART) {
                let columns = PART.min(walk.columns - first);
                if row + AHEAD < walk.rows {
                    prefetch(walk.part(row + AHEAD, first, columns));
                }
                walk.cast(row, 1, first, columns, divisor, simd);
            }
        }
        Ok(())
    }
}

struct ByBlock<'a, C: Caster> {
    walk: Walk<'a, C>,
    shape: [usize; 2],
}

/// The part of a row of blocks that is walked twice in a row: once for the maxima, and once for the cast.
#[derive(Clone, Copy)]
struct Strip {
    first_row: usize,
    rows: usize,
    first_column: usize,
    columns: usize,
    /// The number of its first block, in the order in which scales are stored.
    first_block: usize,
}

/// About so many columns make a strip: 128 rows of BF16 are then 512 KiB, so that two strips fit an L2 cache.
const STRIP: usize = 2048;

/// So many rows of a block are cast before those of the block beside it.
const TILE: usize = 8;

/// A channel is cast in parts of so many columns; before each, as much of a row further on is asked for.
const PART: usize = 128;

/// How many rows further on that is: far enough for the memory to answer, near enough to be in the cache still.
const AHEAD: usize = 2;

impl<C: Caster> Vectorized for ByBlock<'_, C> {
    type Output = Result<(), Poisoned>;

    #[inline(always)]
    fn run(self, simd: Simd) -> Result<(), Poisoned> {
        let Self { mut walk, shape } = self;
        let [_, width] = shape;
        let mut maxima = Vec::new();
        let mut divisors = Vec::new();
        let mut strips = strips(walk.rows, walk.columns, shape).peekable();
        while let Some(strip) = strips.next() {
            maxima.clear();
            maxima.resize(strip.columns, Default::default());
            for row in 0..strip.rows {
                accumulate::<C::Source>(
                    &mut maxima,
                    walk.part(strip.first_row + row, strip.first_column, strip.columns),
                );
            }
            divisors.clear();
            for (block, maxima) in maxima.chunks(width).enumerate() {
                let maximum = maxima.iter().copied().max().unwrap_or_default();
                divisors.push(walk.scale(strip.first_block + block, maximum)?);
            }
            let next = strips.peek().copied();
            for row in (0..strip.rows).step_by(TILE) {
                let rows = TILE.min(strip.rows - row);
                let mut first = 0;
                for &divisor in &divisors {
                    let columns = width.min(strip.columns - first);
                    walk.cast(strip.first_row + row, rows, strip.first_column + first, columns, divisor, simd);
                    // The memory delivers the next strip while this one is computed.
                    if let Some(next) = next {
                        let columns = columns.min(next.columns.saturating_sub(first));
                        for row in row..next.rows.min(row + rows) {
                            prefetch(walk.part(
                                next.first_row + row,
                                next.first_column + first.min(next.columns),
                                columns,
                            ));
                        }
                    }
                    first += columns;
                }
            }
        }
        Ok(())
    }
}

/// The strips of a band, in the order of its bytes as far as rows of blocks go.
fn strips(rows: usize, columns: usize, [height, width]: [usize; 2]) -> impl Iterator<Item = Strip> {
    let per_row = columns.div_ceil(width);
    let step = (STRIP / width).max(1);
    (0..rows).step_by(height).enumerate().flat_map(move |(block_row, first_row)| {
        (0..per_row).step_by(step).map(move |block| Strip {
            first_row,
            rows: height.min(rows - first_row),
            first_column: block * width,
            columns: width.saturating_mul(step).min(columns - block * width),
            first_block: block_row * per_row + block,
        })
    })
}

/// Asks for the cache lines of `elements`, which changes nothing but the time it takes to read them.
#[inline(always)]
fn prefetch<T>(elements: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in elements.chunks(64 / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a prefetch reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = elements;
}
