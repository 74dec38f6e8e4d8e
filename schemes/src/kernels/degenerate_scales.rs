//! Degenerate scales: those of groups of zeros, of groups too small for a scale, and subnormal ones.

use safetensors::Dtype;

use super::element::{Bf16, Element, F16, F32};
use crate::{Band, DegenerateScales, SourceDtype, Strategy, TensorSpec};

/// Counts the degenerate ones among the scales that a band has stored under `spec`, one for each group of `strategy`.
///
/// Almost every band is done with a look at its scales, which are few; only groups under a remarkable one are read.
pub fn degenerate_scales(strategy: Strategy, spec: &TensorSpec, stored: &[u8], band: &Band<'_>) -> DegenerateScales {
    let (rows, columns) = (band.rows, band.source.columns);
    let [height, width] = match strategy {
        Strategy::Tensor => [rows, columns],
        Strategy::Channel => [1, columns],
        Strategy::Group(width) | Strategy::TensorGroup(width) => [1, width],
        Strategy::Block(shape) => shape,
        Strategy::Token => return DegenerateScales::default(),
    };
    let sides = [height.max(1), width.max(1)];
    // A scale of the whole tensor is stored by its first band alone.
    let groups = rows.div_ceil(sides[0]) * columns.div_ceil(sides[1]);
    if stored.len() * 8 != groups * spec.dtype.bitsize() || !any_is_degenerate(spec.dtype, stored) {
        return DegenerateScales::default();
    }
    match band.source.dtype {
        SourceDtype::Bf16 => count::<Bf16>(strategy, sides, spec.dtype, stored, band),
        SourceDtype::F16 => count::<F16>(strategy, sides, spec.dtype, stored, band),
        SourceDtype::F32 => count::<F32>(strategy, sides, spec.dtype, stored, band),
    }
}

/// Returns whether a scale is subnormal, or one that stands in for a scale of zero.
fn any_is_degenerate(dtype: Dtype, stored: &[u8]) -> bool {
    // Folds without an exit: LLVM vectorizes them, and almost no band has a degenerate scale to stop at.
    match dtype {
        Dtype::BF16 => {
            stored.as_chunks().0.iter().fold(false, |any, &raw| any | is_degenerate_bf16(u16::from_le_bytes(raw)))
        }
        Dtype::F16 => {
            stored.as_chunks().0.iter().fold(false, |any, &raw| any | is_degenerate_f16(u16::from_le_bytes(raw)))
        }
        Dtype::F32 => {
            stored.as_chunks().0.iter().fold(false, |any, &raw| any | is_degenerate_f32(u32::from_le_bytes(raw)))
        }
        // An exponent: 0 is the smallest one, and 127 what F16 has for what is smaller.
        Dtype::U8 => stored.iter().fold(false, |any, &raw| any | (raw == 0) | (raw == 127)),
        Dtype::F8_E4M3 => stored.iter().fold(false, |any, &raw| any | (raw == E4M3_EIGHTH)),
        _ => false,
    }
}

fn is_degenerate_bf16(bits: u16) -> bool {
    (bits & 0x7F80 == 0) | (bits == half::bf16::EPSILON.to_bits())
}

fn is_degenerate_f16(bits: u16) -> bool {
    (bits & 0x7C00 == 0) | (bits == half::f16::EPSILON.to_bits())
}

fn is_degenerate_f32(bits: u32) -> bool {
    (bits & 0x7F80_0000 == 0) | (bits == f32::EPSILON.to_bits())
}

/// The E4M3 scale that NVFP4 stores in place of zero: 0.125.
const E4M3_EIGHTH: u8 = 0x20;

#[cold]
fn count<E: Element>(
    strategy: Strategy,
    [height, width]: [usize; 2],
    dtype: Dtype,
    stored: &[u8],
    band: &Band<'_>,
) -> DegenerateScales {
    let (elements, columns) = (E::elements(band.bytes), band.source.columns);
    let across = columns.div_ceil(width);
    let size = dtype.bitsize() / 8;
    let mut found = DegenerateScales::default();
    for (group, raw) in stored.chunks_exact(size).enumerate().filter(|(_, raw)| any_is_degenerate(dtype, raw)) {
        let (row, column) = (group / across * height, group % across * width);
        let amax = match (strategy, band.amax) {
            (Strategy::Tensor, Some(amax)) => amax,
            _ => {
                let rows = row..band.rows.min(row.saturating_add(height));
                let parts = rows.map(|row| row * columns + column..row * columns + columns.min(column + width));
                parts.flat_map(|part| &elements[part]).map(|&raw| E::value(raw).abs()).fold(0.0, f32::max)
            }
        };
        let number = if amax == 0.0 {
            &mut found.zero
        } else if value(dtype, raw).is_some_and(|scale| scale > amax) {
            // A scale that follows from the largest weight is smaller than it.
            &mut found.underflowed
        } else if value(dtype, raw).is_some_and(|scale| scale < smallest_normal(dtype)) {
            &mut found.subnormal
        } else {
            continue;
        };
        *number += 1;
        found.first.get_or_insert([band.first_row + row, column]);
    }
    found
}

/// The value of a scale; `None` where another scale stands above it.
fn value(dtype: Dtype, raw: &[u8]) -> Option<f32> {
    match (dtype, raw) {
        (Dtype::BF16, &[a, b]) => Some(half::bf16::from_le_bytes([a, b]).to_f32()),
        (Dtype::F16, &[a, b]) => Some(half::f16::from_le_bytes([a, b]).to_f32()),
        (Dtype::F32, &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
        (Dtype::U8, &[exponent]) => Some(2f32.powi(i32::from(exponent) - 127)),
        _ => None,
    }
}

fn smallest_normal(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::F16 => half::f16::MIN_POSITIVE.to_f32(),
        _ => f32::MIN_POSITIVE,
    }
}
