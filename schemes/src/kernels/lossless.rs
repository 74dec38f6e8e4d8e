//! Powers of two as scales of E4M3, under which a granule may be held exactly, and granules that are not.
//!
//! A number is an odd integer times a power of two, `m × 2^q`. E4M3 holds it under the scale `2^s` where `m` has four bits
//! at most, `q ≥ s − 9`, the step of its subnormal numbers, and `m × 2^q ≤ 448 × 2^s`. Every number of a granule asks for
//! `s ≤ q + 9`, and the largest one for an `s` that is no smaller than the exponent chosen here. So where any power of two
//! holds all of them, this one does: the least that the largest number allows.

use half::{bf16, f16};
use safetensors::Dtype;

use super::decode::signed_e4m3;
use super::element::{Bf16, Element, F16, F32};
use super::scale::epsilon;
use crate::{Band, LossyGranule, LossyGranules, SourceDtype, Strategy, TensorSpec};

/// Returns the least power of two under which `amax` is no larger than the largest E4M3 number; the machine epsilon of
/// `dtype` for zero.
pub(super) fn power_of_two(amax: f32, dtype: SourceDtype) -> f32 {
    if amax == 0.0 {
        return epsilon(dtype);
    }
    // The mantissa of 448 is 1.75. In F64 every F32 number is normal.
    let bits = f64::from(amax).to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let is_above = bits & ((1 << 52) - 1) > 3 << 50;
    let least = match dtype {
        SourceDtype::F16 => -24,
        // Subnormal scales are left alone: kernels may flush them.
        SourceDtype::Bf16 | SourceDtype::F32 => -126,
    };
    2f32.powi((exponent - 8 + i32::from(is_above)).max(least))
}

/// Finds the granules of a band of which a code is not exactly the weight, given the codes and the scales that were
/// stored under `spec`.
pub fn lossy_granules(
    strategy: Strategy,
    spec: &TensorSpec,
    scales: &[u8],
    codes: &[u8],
    band: &Band<'_>,
) -> LossyGranules {
    let (rows, columns) = (band.rows, band.source.columns);
    let sides = match strategy {
        Strategy::Block(shape) => shape,
        Strategy::Group(width) | Strategy::TensorGroup(width) => [1, width.max(1)],
        Strategy::Channel => [1, columns.max(1)],
        Strategy::Tensor | Strategy::Token => [rows.max(1), columns.max(1)],
    };
    let factors: Vec<f32> = match spec.dtype {
        Dtype::F16 => scales.as_chunks().0.iter().map(|&raw| f16::from_le_bytes(raw).to_f32()).collect(),
        Dtype::BF16 => scales.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect(),
        _ => scales.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
    };
    match band.source.dtype {
        SourceDtype::Bf16 => count::<Bf16>(sides, &factors, codes, band),
        SourceDtype::F16 => count::<F16>(sides, &factors, codes, band),
        SourceDtype::F32 => count::<F32>(sides, &factors, codes, band),
    }
}

fn count<E: Element>([height, width]: [usize; 2], factors: &[f32], codes: &[u8], band: &Band<'_>) -> LossyGranules {
    let (elements, columns) = (E::elements(band.bytes), band.source.columns);
    let across = columns.div_ceil(width);
    let mut found = LossyGranules::default();
    for (granule, &factor) in factors.iter().enumerate() {
        let (row, column) = (granule / across * height, granule % across * width);
        let rows = row..band.rows.min(row.saturating_add(height));
        let runs = || {
            let of_row = |row: usize| row * columns + column..row * columns + columns.min(column + width);
            rows.clone().map(of_row)
        };
        let is_equal = |run: std::ops::Range<usize>| {
            // A fold without an exit: LLVM vectorizes it, and almost no run has a number to stop at.
            let pairs = elements[run.clone()].iter().zip(&codes[run]);
            pairs.fold(true, |all, (&raw, &code)| all & (signed_e4m3(code) * factor == E::value(raw)))
        };
        if runs().all(is_equal) {
            continue;
        }
        found.number += 1;
        if found.first.is_none() {
            let numbers = runs().flat_map(|run| &elements[run]).map(|&raw| E::value(raw).abs());
            let exponents = numbers.filter(|number| *number > 0.0).map(exponents);
            let spanned = exponents.fold(None, |all: Option<[i32; 2]>, [low, high]| {
                Some(all.map_or([low, high], |[least, largest]| [least.min(low), largest.max(high)]))
            });
            found.first = spanned.map(|exponents| LossyGranule { place: [band.first_row + row, column], exponents });
        }
    }
    found
}

/// Returns the exponents of the lowest and the highest bit of a positive number.
fn exponents(number: f32) -> [i32; 2] {
    let bits = f64::from(number).to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    [exponent - 52 + mantissa.trailing_zeros() as i32, exponent]
}

#[cfg(test)]
mod tests {
    use super::super::e4m3;
    use super::*;
    use crate::{Matrix, Simd, TensorRole};

    /// Every positive E4M3 number.
    fn numbers() -> Vec<f64> {
        (1..0x7F).map(|code| f64::from(e4m3::decode(code))).collect()
    }

    #[test]
    fn the_scale_is_the_least_power_of_two_that_does_not_clamp() {
        for dtype in [SourceDtype::Bf16, SourceDtype::F32] {
            // Every BF16 number.
            for bits in 1..0x7F80u16 {
                let amax = bf16::from_bits(bits).to_f32();
                let scale = f64::from(power_of_two(amax, dtype));
                assert!(f64::from(amax) <= 448.0 * scale, "{amax:e}");
                assert!(scale == 2f64.powi(-126) || f64::from(amax) > 224.0 * scale, "{amax:e}");
            }
            assert_eq!(power_of_two(448.0f32.next_up(), dtype), 2.0);
            assert_eq!((power_of_two(448.0, dtype), power_of_two(224.0, dtype)), (1.0, 0.5));
            assert_eq!(power_of_two(0.0, dtype), epsilon(dtype));
        }
        for bits in 1..0x7C00u16 {
            let amax = f16::from_bits(bits).to_f32();
            let scale = power_of_two(amax, SourceDtype::F16);
            assert!(amax <= 448.0 * scale && f16::from_f32(scale).to_f32() == scale);
        }
    }

    /// Two values of MXFP4 whose groups' exponents lie so far apart: held exactly by this scale wherever any power of two
    /// holds both.
    #[test]
    fn no_other_power_of_two_holds_what_this_one_does_not() {
        let held = numbers();
        let holds = |value: f64, exponent: i32| held.contains(&(value / 2f64.powi(exponent)));
        let e2m1 = [0.5f32, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        let mut exact = [0u32; 25];
        for apart in 0..25 {
            for low in e2m1 {
                for high in e2m1 {
                    let [a, b] = [low * 2f32.powi(-40), high * 2f32.powi(apart - 40)];
                    let scale = power_of_two(a.max(b), SourceDtype::F32);
                    let chosen = scale.log2() as i32;
                    let [a, b] = [f64::from(a), f64::from(b)];
                    let is_exact = holds(a, chosen) && holds(b, chosen);
                    let any = (-80..20).any(|exponent| holds(a, exponent) && holds(b, exponent));
                    assert_eq!(is_exact, any, "{low} {high} {apart}");
                    exact[apart as usize] += u32::from(is_exact);
                }
            }
        }
        // Fourteen apart, all codes are held; with 0.5 or 1.5 on the one side and 6 on the other, no further. Beyond
        // twenty, none are.
        assert!(exact[..15].iter().all(|&count| count == 49), "{exact:?}");
        assert!(exact[15] < 49 && exact[21..].iter().all(|&count| count == 0), "{exact:?}");
    }

    #[test]
    fn lossy_granules_are_counted_and_the_first_is_placed() {
        // Rows of 4 columns in blocks of 1 x 2: exact, too far apart, too many bits, zero.
        let rows = [[1.0, -1.5, 1.0, 2f32.powi(-20)], [1.0 + 1.0 / 16.0, 0.0, 0.0, -0.0]];
        let bytes: Vec<u8> = rows.as_flattened().iter().flat_map(|value| value.to_le_bytes()).collect();
        let source = Matrix { dtype: SourceDtype::F32, rows: 9, columns: 4 };
        let band = Band { source, first_row: 7, rows: 2, bytes: &bytes, amax: None, simd: Simd::PORTABLE };
        let spec = TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::F32, [9, 2]);
        let scales = [2f32.powi(-8), 2f32.powi(-8), 2f32.powi(-8), 1.0];
        let scales: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        let codes = [0x78, 0xFC, 0x78, 0, 0x78, 0, 0, 0x80];
        let found = lossy_granules(Strategy::Block([1, 2]), &spec, &scales, &codes, &band);
        assert_eq!(found.number, 2);
        assert_eq!(found.first, Some(LossyGranule { place: [7, 2], exponents: [-20, 0] }));
        // 0.75 has the bits 2^-1 and 2^-2.
        assert_eq!((exponents(0.75), exponents(2f32.powi(-149))), ([-2, -1], [-149, -149]));
    }
}
