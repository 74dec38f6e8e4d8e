//! Powers of two as scales of E4M3, under which a granule may be held exactly, and granules that are not.
//!
//! A number is an odd integer times a power of two, `m × 2^q`. E4M3 holds it under the scale `2^s` where `m` has four bits
//! at most, `q ≥ s − 9`, the step of its subnormal numbers, and `m × 2^q ≤ 448 × 2^s`. Every number of a granule asks for
//! `s ≤ q + 9`, and the largest one for an `s` that is no smaller than the exponent chosen here. So where any power of two
//! holds all of them, this one does: the least that the largest number allows.
//!
//! The same goes for E2M1, where `m` has two bits, `q ≥ s − 1` and `m × 2^q ≤ 6 × 2^s`. Its scales are E4M3 under a global
//! scale, and E4M3 has the powers from 2^-9 to 2^8: that of the largest group of all is put at the top, so that the others
//! may lie as far below it as any global scale lets them.

use half::{bf16, f16};
use safetensors::Dtype;

use super::decode::signed_e4m3;
use super::e2m1;
use super::e4m3;
use super::element::{Bf16, Element, F16, F32};
use super::scale::epsilon;
use crate::{Band, LossyGranule, LossyGranules, SourceDtype, Strategy, TensorSpec};

/// Returns the least power of two under which `amax` is no larger than the largest E4M3 number; the machine epsilon of
/// `dtype` for zero.
pub(super) fn power_of_two(amax: f32, dtype: SourceDtype) -> f32 {
    if amax == 0.0 {
        return epsilon(dtype);
    }
    let least = match dtype {
        SourceDtype::F16 => -24,
        // Subnormal scales are left alone: kernels may flush them.
        SourceDtype::Bf16 | SourceDtype::F32 => -126,
    };
    2f32.powi(least_exponent(amax, e4m3::MAX).max(least))
}

/// Returns the exponent of the least power of two under which `amax`, a positive number, is no larger than `largest`.
fn least_exponent(amax: f32, largest: f32) -> i32 {
    // In F64 every F32 number is normal.
    let [amax, largest] = [amax, largest].map(|number| f64::from(number).to_bits());
    let mantissa = |bits: u64| bits & ((1 << 52) - 1);
    (amax >> 52) as i32 - (largest >> 52) as i32 + i32::from(mantissa(amax) > mantissa(largest))
}

/// Exponents of the powers of two that E4M3 has.
const E4M3_POWERS: [i32; 2] = [-9, 8];

/// The exponent of the global scale under which the scale of the largest group is the largest power of two of E4M3: a
/// global scale divides. That of zeros is 0.
fn global_exponent(amax: f32) -> i32 {
    if amax == 0.0 {
        return 0;
    }
    // Servers store the reciprocal, which is to be a normal number too.
    (E4M3_POWERS[1] - least_exponent(amax, e2m1::MAX)).min(126)
}

/// Returns the global scale of NVFP4 for weights up to `amax`, a power of two.
pub(super) fn global_power_of_two(amax: f32) -> f32 {
    2f32.powi(global_exponent(amax))
}

/// Returns the E4M3 code of the least power of two under which no weight of a group up to `group` is clamped, under the
/// global scale of `amax`; `None` for a group of zeros.
pub(super) fn group_power_of_two(group: f32, amax: f32) -> Option<u8> {
    if group == 0.0 {
        return None;
    }
    let [least, largest] = E4M3_POWERS;
    let power = (least_exponent(group, e2m1::MAX) + global_exponent(amax)).clamp(least, largest);
    // From 2^-6 on a power is normal, and its mantissa has no bit.
    Some(if power >= -6 { ((power + 7) << 3) as u8 } else { 1 << (power - least) })
}

/// How the codes of a scheme that is lossless are stored.
#[derive(Clone, Copy)]
enum LosslessCodes {
    /// E4M3 in bytes.
    Bytes,
    /// E2M1, two in a byte.
    Nibbles,
}

impl LosslessCodes {
    /// The number that the code at this place stands for.
    #[inline(always)]
    fn number(self, codes: &[u8], at: usize) -> f32 {
        match self {
            Self::Bytes => signed_e4m3(codes[at]),
            Self::Nibbles => e2m1::decode(codes[at / 2] >> (at % 2 * 4) & 0xF),
        }
    }
}

/// Finds the granules of a band of which a code is not exactly the weight, given the codes and the scales that were
/// stored under `spec`. Scales that are floats belong to E4M3 codes; those that are E4M3 belong to pairs of E2M1 codes, and
/// stand under the global scale that follows from the band's `amax`.
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
        Dtype::F8_E4M3 => {
            let global = global_power_of_two(band.amax.unwrap_or_default());
            scales.iter().map(|&code| signed_e4m3(code) / global).collect()
        }
        Dtype::BF16 => scales.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f32()).collect(),
        _ => scales.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
    };
    let form = if spec.dtype == Dtype::F8_E4M3 { LosslessCodes::Nibbles } else { LosslessCodes::Bytes };
    match band.source.dtype {
        SourceDtype::Bf16 => count::<Bf16>(sides, &factors, form, codes, band),
        SourceDtype::F16 => count::<F16>(sides, &factors, form, codes, band),
        SourceDtype::F32 => count::<F32>(sides, &factors, form, codes, band),
    }
}

fn count<E: Element>(
    [height, width]: [usize; 2],
    factors: &[f32],
    form: LosslessCodes,
    codes: &[u8],
    band: &Band<'_>,
) -> LossyGranules {
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
            run.fold(true, |all, at| all & (form.number(codes, at) * factor == E::value(elements[at])))
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
    fn scales_of_fp4_are_the_least_powers_of_two_that_do_not_clamp() {
        // Every BF16 number as the maximum of a group, under maxima from that of the group itself to far above it.
        for bits in 1..0x7F80u16 {
            let group = bf16::from_bits(bits).to_f32();
            for above in [0, 1, 16, 17, 18, 60] {
                let amax = group * 2f32.powi(above);
                if !amax.is_finite() {
                    continue;
                }
                let global = f64::from(global_power_of_two(amax));
                assert!(global == 2f64.powi(126) || (768.0..=1536.0).contains(&(f64::from(amax) * global)), "{amax:e}");
                let stored = f64::from(e4m3::decode(group_power_of_two(group, amax).unwrap()));
                let scale = stored / global;
                let is_least = stored == 2f64.powi(-9);
                assert!(stored.log2().fract() == 0.0 && f64::from(group) <= 6.0 * scale, "{group:e} {amax:e}");
                assert!(is_least || f64::from(group) > 3.0 * scale, "{group:e} {amax:e}");
                assert!(above < 18 || is_least, "{group:e} {amax:e}");
            }
        }
        assert_eq!((group_power_of_two(0.0, 1.0), global_power_of_two(0.0)), (None, 1.0));
        assert_eq!([6.0, 6.0f32.next_up(), 3.0].map(global_power_of_two), [256.0, 128.0, 512.0]);
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
