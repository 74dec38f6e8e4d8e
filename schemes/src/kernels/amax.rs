//! The absolute maximum, as an integer maximum over bit patterns; infinity and NaN sort to its top.

use super::element::{Bf16, Element, F16, F32};
use crate::simd::Vectorized;
use crate::{Matrix, NonFinite, NonFiniteCount, Simd, SourceDtype};

/// The absolute maximum of a run of whole rows: the first pass that [`AmaxScope::Tensor`](crate::AmaxScope) asks for.
///
/// `bytes` are the rows from `first_row` on, at any alignment. Rows may be cut into runs in any way: the maximum over
/// all of them is the maximum of what this returns for each. An empty run gives zero.
///
/// # Errors
/// The first NaN or infinity of the run, in row-major order.
pub fn amax(source: Matrix, first_row: usize, bytes: &[u8], simd: Simd) -> Result<f32, NonFinite> {
    match source.dtype {
        SourceDtype::Bf16 => absmax_of::<Bf16>(source, first_row, bytes, simd),
        SourceDtype::F16 => absmax_of::<F16>(source, first_row, bytes, simd),
        SourceDtype::F32 => absmax_of::<F32>(source, first_row, bytes, simd),
    }
}

fn absmax_of<E: Element>(source: Matrix, first_row: usize, bytes: &[u8], simd: Simd) -> Result<f32, NonFinite> {
    let maximum = simd.run(Amax::<E>(E::elements(bytes)));
    // A second pass finds the place of a non-finite element: nearly every weight has none, and this loop carries no
    // positions.
    if maximum < E::INFINITE {
        return Ok(E::widen(maximum));
    }
    Err(first_non_finite::<E>(source, first_row, bytes))
}

struct Amax<'a, E: Element>(&'a [E::Raw]);

impl<E: Element> Vectorized for Amax<'_, E> {
    type Output = E::Magnitude;

    #[inline(always)]
    fn run(self, _: Simd) -> E::Magnitude {
        maximum::<E>(self.0)
    }
}

/// The largest magnitude; that of zero where there are no elements.
#[inline(always)]
pub(super) fn maximum<E: Element>(elements: &[E::Raw]) -> E::Magnitude {
    elements.iter().fold(E::Magnitude::default(), |maximum, &raw| maximum.max(E::magnitude(raw)))
}

/// The running maxima of a row of blocks, while rows are added.
pub(super) struct BlockAmaxes<E: Element> {
    /// Columns of a block.
    width: usize,
    running: Vec<Lanes<E::Magnitude>>,
}

/// Running maxima of 64 columns, aligned to a cache line, which no vector of them then crosses.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes<M>([M; LANES]);

/// Columns that are compared at a time: few enough for registers, and enough to fill them.
const LANES: usize = 64;

impl<E: Element> BlockAmaxes<E> {
    /// Starts at zero, for rows of `columns` columns in blocks of `width`.
    pub(super) fn of(columns: usize, width: usize) -> Self {
        Self { width, running: vec![Lanes([E::Magnitude::default(); LANES]); columns.div_ceil(width)] }
    }

    pub(super) fn clear(&mut self) {
        self.running.fill(Lanes([E::Magnitude::default(); LANES]));
    }

    /// Raises the maxima by one more row.
    #[inline(always)]
    pub(super) fn add(&mut self, row: &[E::Raw]) {
        if self.width != TILE {
            return raise::<E>(&mut self.running, row.chunks(self.width));
        }
        // Whole rows, not strips that fit the second cache: strips measured 2.8 times the narrowing copy where rows took
        // 1.55, since memory is fastest at long streams. Rows backwards, and two rows at a time, came to 1.9.
        let (tiles, rest) = row.as_chunks::<TILE>();
        raise::<E>(&mut self.running, tiles.iter().map(|tile| &tile[..]));
        raise::<E>(&mut self.running[tiles.len()..], std::iter::once(rest));
    }

    /// Returns the maximum of each block.
    pub(super) fn blocks(&self) -> impl Iterator<Item = E::Magnitude> {
        self.running.iter().map(|lanes| lanes.0.iter().copied().max().unwrap_or_default())
    }
}

/// The columns of the blocks that servers have kernels for. Loops over a width that is known here need no remainder.
pub(super) const TILE: usize = 128;

/// Raises the maxima of some blocks by a row of each.
#[inline(always)]
fn raise<'a, E: Element>(running: &mut [Lanes<E::Magnitude>], blocks: impl Iterator<Item = &'a [E::Raw]>)
where
    E::Raw: 'a,
{
    for (Lanes(running), block) in running.iter_mut().zip(blocks) {
        let (parts, rest) = block.as_chunks::<LANES>();
        // In registers, since the store of one part and the load of the next would wait for one another.
        *running = parts
            .iter()
            .fold(*running, |running, part| std::array::from_fn(|lane| E::magnitude(part[lane]).max(running[lane])));
        for (maximum, &raw) in running.iter_mut().zip(rest) {
            *maximum = E::magnitude(raw).max(*maximum);
        }
    }
}

/// The NaNs and infinities of a run of whole rows, from `first_row` on.
#[cold]
pub fn non_finite(source: Matrix, first_row: usize, bytes: &[u8]) -> NonFiniteCount {
    match source.dtype {
        SourceDtype::Bf16 => non_finite_of::<Bf16>(source, first_row, bytes),
        SourceDtype::F16 => non_finite_of::<F16>(source, first_row, bytes),
        SourceDtype::F32 => non_finite_of::<F32>(source, first_row, bytes),
    }
}

fn non_finite_of<E: Element>(source: Matrix, first_row: usize, bytes: &[u8]) -> NonFiniteCount {
    let magnitudes = || E::elements(bytes).iter().map(|&raw| E::magnitude(raw));
    let all = magnitudes().filter(|&magnitude| magnitude >= E::INFINITE).count() as u64;
    let infinite = magnitudes().filter(|&magnitude| magnitude == E::INFINITE).count() as u64;
    let first = (all > 0).then(|| first_non_finite::<E>(source, first_row, bytes));
    NonFiniteCount { nan: all - infinite, infinite, first }
}

/// The first NaN or infinity of a run of rows whose maximum is not finite.
#[cold]
pub(super) fn first_non_finite<E: Element>(source: Matrix, first_row: usize, bytes: &[u8]) -> NonFinite {
    let elements = E::elements(bytes);
    let index = elements
        .iter()
        .position(|&raw| E::magnitude(raw) >= E::INFINITE)
        .expect("the maximum of these elements was not finite");
    NonFinite {
        row: first_row + index / source.columns,
        column: index % source.columns,
        value: E::value(elements[index]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bf16(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect()
    }

    #[test]
    fn the_sign_is_ignored() {
        let source = Matrix { dtype: SourceDtype::Bf16, rows: 2, columns: 3 };
        for simd in Simd::available() {
            assert_eq!(amax(source, 0, &bf16(&[1.0, -0.0, -3.5, 2.0, 0.0, 3.0]), simd), Ok(3.5));
            assert_eq!(amax(source, 0, &[], simd), Ok(0.0));
        }
    }

    #[test]
    fn every_element_counts() {
        let source = Matrix { dtype: SourceDtype::F32, rows: 1, columns: 133 };
        for simd in Simd::available() {
            // Miri, which interprets, looks at one place of each vector.
            for place in (0..133).step_by(if cfg!(miri) { 15 } else { 1 }) {
                let mut values = [1f32; 133];
                values[place] = -2.0;
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                assert_eq!(amax(source, 0, &bytes, simd), Ok(2.0), "{place} {simd}");
            }
        }
    }

    #[test]
    fn the_first_non_finite_element_is_reported() {
        let source = Matrix { dtype: SourceDtype::Bf16, rows: 9, columns: 3 };
        let bytes = bf16(&[1.0, 2.0, 3.0, 4.0, f32::NEG_INFINITY, f32::NAN]);
        for simd in Simd::available() {
            let error = NonFinite { row: 8, column: 1, value: f32::NEG_INFINITY };
            assert_eq!(amax(source, 7, &bytes, simd), Err(error));
        }
    }
}
