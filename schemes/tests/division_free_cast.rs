//! A slice of all pairs of a BF16 weight and a scale; `cargo run --release -p qwen-fp8-schemes --example exhaustive` does
//! them all.

mod all;

use all::{Cast, Quotient, ScaleDtype, Weights, maxima, maxima_of_an_octave};
use qwen_fp8_schemes::Simd;

#[test]
fn codes_equal_those_of_a_division_under_bf16_scales() {
    let paths = Simd::available();
    let mut weights = Weights::all();
    let count = maxima().count();
    for quotient in [Quotient::F32, Quotient::Source] {
        let cast = Cast::new(quotient, ScaleDtype::Bf16);
        // 97 has no factor in common with the 128 significands: all of them come.
        for (index, amax) in maxima().enumerate() {
            if index % 97 == 0 || index < 10 || index + 10 > count {
                weights.check(&cast, amax, &paths);
            }
        }
    }
}

#[test]
fn codes_equal_those_of_a_division_under_f32_scales_of_all_sizes() {
    let paths = Simd::available();
    let mut weights = Weights::all();
    for quotient in [Quotient::F32, Quotient::Source] {
        let cast = Cast::new(quotient, ScaleDtype::F32);
        // The first of these leads to a subnormal scale.
        for bits in (1000..f32::MAX.to_bits()).step_by(10_000_019) {
            weights.check(&cast, f32::from_bits(bits), &paths);
        }
    }
}

#[test]
fn codes_equal_those_of_a_division_under_f32_scales_of_many_significands() {
    let paths = Simd::available();
    let mut weights = Weights::significands();
    for quotient in [Quotient::F32, Quotient::Source] {
        let cast = Cast::new(quotient, ScaleDtype::F32);
        for amax in maxima_of_an_octave().step_by(97) {
            weights.check(&cast, amax, &paths);
        }
    }
}

/// What lets [`Weights::check`] divide positive weights only.
#[test]
fn the_rounding_of_the_other_crate_keeps_the_sign() {
    use float8::F8E4M3;
    use half::bf16;
    for value in (0..0x7f80).map(|bits| bf16::from_bits(bits).to_f32().min(448.0)) {
        assert_eq!(F8E4M3::from_f32(-value).to_bits(), F8E4M3::from_f32(value).to_bits() | 0x80, "{value}");
    }
}
