//! Merging of a low-rank adapter into rows of a weight, as PEFT computes it on a CPU.

use super::element::{Bf16, Element, F16, F32};
use super::number::Number;
use crate::simd::Vectorized;
use crate::{Simd, SourceDtype};

/// What an adapter adds to rows of a weight: scaling × B × A, and DoRA's magnitudes. All numbers are little-endian F32.
#[derive(Clone, Copy, Debug)]
pub struct LowRank<'a> {
    /// A, row after row: as many as the rank, each as long as a row of the weight.
    pub a: &'a [u8],
    /// The rows of B that belong to the rows of the weight.
    pub b: &'a [u8],
    /// Columns of B and rows of A.
    pub rank: usize,
    /// The factor of the product.
    pub scaling: f32,
    /// Rounds the scaled product to the dtype of the weight before it is added: PEFT does so with embeddings alone.
    pub rounded_first: bool,
    /// DoRA's magnitude of each row: the merged row is scaled to this length.
    pub magnitudes: Option<&'a [u8]>,
}

/// Adds `change` to whole rows of `columns` numbers of `dtype`, which it replaces.
///
/// The product is summed in F32, one fused multiply-add after the other in the order of the rank, scaled, added to the
/// weight in F32 and rounded once, ties to even. `sums` is scratch memory; it holds [`low_rank_scratch`] numbers.
///
/// # Panics
/// A, B or the magnitudes are not as long as rank, rows and columns make them.
pub fn merge_low_rank(
    dtype: SourceDtype,
    columns: usize,
    weights: &mut [u8],
    change: LowRank<'_>,
    simd: Simd,
    sums: &mut Vec<f32>,
) {
    let rows = weights.len().checked_div(columns * dtype.bytes()).unwrap_or(0);
    assert_eq!(change.a.len(), change.rank * columns * 4, "A has a row for each of the rank");
    assert_eq!(change.b.len(), rows * change.rank * 4, "B has a row for each of the weight");
    assert!(change.magnitudes.is_none_or(|all| all.len() == rows * 4), "each row has a magnitude");
    sums.clear();
    sums.resize(low_rank_scratch(columns), 0.0);
    let a = change.a.as_chunks().0;
    match dtype {
        SourceDtype::Bf16 => simd.run(Merging::<Bf16> { columns, weights: Bf16::row(weights), a, change, sums }),
        SourceDtype::F16 => simd.run(Merging::<F16> { columns, weights: F16::row(weights), a, change, sums }),
        SourceDtype::F32 => simd.run(Merging::<F32> { columns, weights: F32::row(weights), a, change, sums }),
    }
}

/// Returns the F32 numbers that merging rows of so many columns needs as scratch memory.
pub fn low_rank_scratch(columns: usize) -> usize {
    columns * ROWS
}

/// Rounds numbers of one dtype to another one, ties to even; each is as it is where the dtypes are equal.
///
/// # Panics
/// `out` has not the place of as many numbers.
pub fn convert(from: SourceDtype, bytes: &[u8], to: SourceDtype, out: &mut [u8]) {
    assert_eq!(bytes.len() / from.bytes(), out.len() / to.bytes(), "every number has its place");
    match from {
        _ if from == to => out.copy_from_slice(bytes),
        SourceDtype::Bf16 => convert_from::<Bf16>(bytes, to, out),
        SourceDtype::F16 => convert_from::<F16>(bytes, to, out),
        SourceDtype::F32 => convert_from::<F32>(bytes, to, out),
    }
}

fn convert_from<E: Number>(bytes: &[u8], to: SourceDtype, out: &mut [u8]) {
    match to {
        SourceDtype::Bf16 => convert_between::<E, Bf16>(bytes, out),
        SourceDtype::F16 => convert_between::<E, F16>(bytes, out),
        SourceDtype::F32 => convert_between::<E, F32>(bytes, out),
    }
}

fn convert_between<E: Number, T: Number>(bytes: &[u8], out: &mut [u8]) {
    for (out, &raw) in T::row(out).iter_mut().zip(E::elements(bytes)) {
        *out = T::rounded(E::value(raw));
    }
}

/// Rows that are summed at a time, so that a number of A is loaded once for all of them.
const ROWS: usize = 2;

/// Columns that are summed at a time: with the rows, as many sums as registers hold on every instruction set.
const TILE: usize = 32;

struct Merging<'a, E: Element> {
    columns: usize,
    weights: &'a mut [E::Raw],
    a: &'a [[u8; 4]],
    change: LowRank<'a>,
    sums: &'a mut [f32],
}

impl<E: Number> Vectorized for Merging<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: Simd) {
        let Self { columns, weights, a, change, sums } = self;
        if columns == 0 {
            return;
        }
        let b = change.b.as_chunks().0;
        let (weights_at_once, b_at_once) = (columns * ROWS, (change.rank * ROWS).max(1));
        let mut first = 0;
        for (index, weights) in weights.chunks_mut(weights_at_once).enumerate() {
            let rows = weights.len() / columns;
            let b = b.get(index * b_at_once..).unwrap_or_default();
            let sums = &mut sums[..rows * columns];
            match rows {
                ROWS => multiply::<ROWS>(a, b, change.rank, columns, sums),
                _ => multiply::<1>(a, b, change.rank, columns, sums),
            }
            for (row, (weights, sums)) in
                weights.chunks_exact_mut(columns).zip(sums.chunks_exact_mut(columns)).enumerate()
            {
                add::<E>(weights, sums, change.scaling, change.rounded_first);
                if let Some(magnitudes) = change.magnitudes {
                    let magnitude = F32::value(magnitudes.as_chunks().0[first + row]);
                    scale(sums, magnitude / length(sums));
                }
                for (weight, &sum) in weights.iter_mut().zip(&*sums) {
                    *weight = E::rounded(sum);
                }
            }
            first += rows;
        }
    }
}

/// Multiplies `R` rows of B by A.
#[inline(always)]
fn multiply<const R: usize>(a: &[[u8; 4]], b: &[[u8; 4]], rank: usize, columns: usize, sums: &mut [f32]) {
    let mut column = 0;
    while column + TILE <= columns {
        let mut tile = [[0f32; TILE]; R];
        for k in 0..rank {
            let from = k * columns + column;
            let Some((a, _)) = a[from..].split_first_chunk::<TILE>() else { return };
            for row in 0..R {
                let factor = f32::from_le_bytes(b[row * rank + k]);
                // Fused, as the reference has it: a product that is rounded before it is added gives other sums. Where the machine
                // has no such instruction, `mul_add` computes the same, slowly.
                for lane in 0..TILE {
                    tile[row][lane] = factor.mul_add(f32::from_le_bytes(a[lane]), tile[row][lane]);
                }
            }
        }
        for row in 0..R {
            sums[row * columns + column..][..TILE].copy_from_slice(&tile[row]);
        }
        column += TILE;
    }
    for row in 0..R {
        for column in column..columns {
            let mut sum = 0f32;
            for k in 0..rank {
                let factor = f32::from_le_bytes(b[row * rank + k]);
                sum = factor.mul_add(f32::from_le_bytes(a[k * columns + column]), sum);
            }
            sums[row * columns + column] = sum;
        }
    }
}

/// Makes weights plus scaled products of the products.
#[inline(always)]
fn add<E: Number>(weights: &[E::Raw], sums: &mut [f32], scaling: f32, rounded_first: bool) {
    if rounded_first {
        for (sum, &weight) in sums.iter_mut().zip(weights) {
            *sum = E::value(weight) + E::value(E::rounded(*sum * scaling));
        }
    } else {
        for (sum, &weight) in sums.iter_mut().zip(weights) {
            *sum = E::value(weight) + *sum * scaling;
        }
    }
}

#[inline(always)]
fn scale(row: &mut [f32], factor: f32) {
    for number in row {
        *number *= factor;
    }
}

/// The squares that torch 2.14 sums side by side, whatever the machine.
const LANES: usize = 8;

/// The Euclidean length of a row, its squares summed in the order in which `torch.linalg.norm` sums them on a CPU.
#[inline(always)]
fn length(row: &[f32]) -> f32 {
    let (parts, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0f32; LANES];
    for part in parts {
        for lane in 0..LANES {
            lanes[lane] += part[lane] * part[lane];
        }
    }
    let mut sum = lanes[0];
    for lane in &lanes[1..] {
        sum += lane;
    }
    for number in rest {
        sum += number * number;
    }
    sum.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn drawn(state: &mut u32, count: usize) -> Vec<f32> {
        let mut next = || {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((*state >> 8) as f32 / (1 << 23) as f32 - 1.0) * 0.3
        };
        (0..count).map(|_| next()).collect()
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// The merged rows, one element after the other.
    fn one_by_one(dtype: SourceDtype, columns: usize, weights: &[u8], change: LowRank<'_>) -> Vec<u8> {
        let wide = |from, bytes: &[u8]| -> Vec<f32> {
            let mut out = vec![0; bytes.len() / SourceDtype::bytes(from) * 4];
            convert(from, bytes, SourceDtype::F32, &mut out);
            out.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect()
        };
        let [a, b] = [change.a, change.b].map(|bytes| wide(SourceDtype::F32, bytes));
        let magnitudes = change.magnitudes.map(|bytes| wide(SourceDtype::F32, bytes));
        let mut merged = Vec::new();
        for (row, weights) in wide(dtype, weights).chunks(columns).enumerate() {
            let product = |column: usize| {
                (0..change.rank).fold(0.0, |sum: f32, k| b[row * change.rank + k].mul_add(a[k * columns + column], sum))
            };
            let mut sums: Vec<f32> =
                weights.iter().enumerate().map(|(column, weight)| weight + product(column) * change.scaling).collect();
            if let Some(magnitudes) = &magnitudes {
                let factor = magnitudes[row] / length(&sums);
                sums.iter_mut().for_each(|sum| *sum *= factor);
            }
            merged.extend(sums);
        }
        let mut out = vec![0; weights.len()];
        convert(SourceDtype::F32, &bytes(&merged), dtype, &mut out);
        out
    }

    #[test]
    fn every_instruction_set_merges_as_one_element_after_the_other() {
        let mut state = 5;
        for (rows, columns, rank) in [(1, 1, 1), (3, 33, 2), (4, 64, 5), (5, 100, 16), (2, 31, 3), (2, 40, 0)] {
            if cfg!(miri) && rows * columns > 200 {
                continue;
            }
            let [a, b, magnitudes] = [rank * columns, rows * rank, rows].map(|count| bytes(&drawn(&mut state, count)));
            let wide = bytes(&drawn(&mut state, rows * columns));
            for dtype in [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32] {
                let mut weights = vec![0; rows * columns * dtype.bytes()];
                convert(SourceDtype::F32, &wide, dtype, &mut weights);
                for magnitudes in [None, Some(&magnitudes[..])] {
                    let change = LowRank { a: &a, b: &b, rank, scaling: 1.7, rounded_first: false, magnitudes };
                    let expected = one_by_one(dtype, columns, &weights, change);
                    for simd in Simd::available() {
                        let mut merged = weights.clone();
                        merge_low_rank(dtype, columns, &mut merged, change, simd, &mut Vec::new());
                        assert_eq!(merged, expected, "{rows} {columns} {rank} {dtype:?} {simd}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_embedding_rounds_what_it_adds_first() {
        let weight = half::bf16::from_f32(1.0).to_le_bytes();
        // The product lies just above half a place of the weight; rounded by itself, it is that half, which goes to the even one.
        let added = 2f32.powi(-8) * (1.0 + 2f32.powi(-10));
        let [a, b] = [added, 1.0].map(f32::to_le_bytes);
        for (rounded_first, expected) in [(false, 1.0 + 2f32.powi(-7)), (true, 1.0)] {
            let change = LowRank { a: &a, b: &b, rank: 1, scaling: 1.0, rounded_first, magnitudes: None };
            let mut merged = weight;
            merge_low_rank(SourceDtype::Bf16, 1, &mut merged, change, Simd::detect(), &mut Vec::new());
            assert_eq!(half::bf16::from_le_bytes(merged).to_f32(), expected);
        }
    }

    #[test]
    fn numbers_round_as_half_rounds_them() {
        for bits in (0..=u32::MAX).step_by(if cfg!(miri) { 40_000_001 } else { 65_521 }) {
            let number = f32::from_bits(bits);
            let [bf16, half] = [Bf16::rounded(number), F16::rounded(number)];
            if number.is_nan() {
                assert!(Bf16::value(bf16).is_nan() && F16::value(half).is_nan());
            } else {
                assert_eq!(bf16, half::bf16::from_f32(number).to_le_bytes(), "{number:e}");
                assert_eq!(F16::value(half), f16::from_f32(number).to_f32(), "{number:e}");
            }
        }
    }
}
