//! `scale_search` of integers, MXFP4 and NVFP4 against a search that is written out: every candidate on every element.

use half::{bf16, f16};
use qwen_fp8_schemes::conformance::quantize_whole;
use qwen_fp8_schemes::{Format, Make, Matrix, Simd, SourceDtype, find};
use serde_json::{Value, json};

const DTYPES: [SourceDtype; 3] = [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32];
const COLUMNS: usize = 192;
const ROWS: usize = 24;

fn round(number: f64, dtype: SourceDtype) -> f64 {
    match dtype {
        SourceDtype::Bf16 => bf16::from_f32(number as f32).to_f64(),
        SourceDtype::F16 => f16::from_f32(number as f32).to_f64(),
        SourceDtype::F32 => f64::from(number as f32),
    }
}

/// Weights of normal numbers, their cubes, outliers, one sign and zeros, by row; as numbers and as bytes.
fn weights(dtype: SourceDtype) -> (Vec<f64>, Vec<u8>) {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 24)
    };
    let values = (0..ROWS * COLUMNS).map(|at| {
        let normal = (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let shaped = match at / COLUMNS % 6 {
            0 | 1 => normal,
            2 => normal.powi(3),
            3 => normal * if at % 37 == 0 { 10.0 } else { 1.0 },
            4 => normal.abs() + 0.5,
            _ => 0.0,
        };
        round(0.05 * shaped, dtype)
    });
    let values: Vec<f64> = values.collect();
    let bytes = values.iter().flat_map(|&value| match dtype {
        SourceDtype::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        SourceDtype::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        SourceDtype::F32 => (value as f32).to_le_bytes().to_vec(),
    });
    let bytes = bytes.collect();
    (values, bytes)
}

/// The outputs under all instruction sets, which are the same.
fn made(name: &str, options: &Value, dtype: SourceDtype, bytes: &[u8]) -> Vec<Vec<u8>> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name} quantizes") };
    let scheme = make(options.clone(), Format::CompressedTensors).unwrap();
    let source = Matrix { dtype, rows: ROWS, columns: COLUMNS };
    let mut all =
        Simd::available().into_iter().map(|simd| quantize_whole(&*scheme, source, bytes, 3, simd, 0).unwrap());
    let first = all.next().unwrap();
    assert!(all.all(|other| other == first), "{name} {options}");
    first
}

fn floats(dtype: SourceDtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        SourceDtype::Bf16 => bytes.as_chunks().0.iter().map(|&raw| bf16::from_le_bytes(raw).to_f64()).collect(),
        SourceDtype::F16 => bytes.as_chunks().0.iter().map(|&raw| f16::from_le_bytes(raw).to_f64()).collect(),
        SourceDtype::F32 => bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw).into()).collect(),
    }
}

/// The error of llm-compressor's observer: of decoded numbers, each step in the dtype of the weight.
fn observed(group: &[f64], decoded: impl Fn(f64) -> f64, dtype: SourceDtype) -> f64 {
    let power = |&weight: &f64| {
        let difference = round(round(decoded(weight), dtype) - weight, dtype).abs();
        let power = difference.powf(round(f64::from(2.4f32), dtype));
        if dtype == SourceDtype::F32 { power } else { round(power, dtype) }
    };
    let sum = group.iter().map(power).sum();
    if dtype == SourceDtype::F32 { sum } else { round(sum, dtype) }
}

/// The first candidate of least error, of those that the observer makes of the extremes of a group.
fn first_least<Q: Copy>(
    group: &[f64],
    dtype: SourceDtype,
    qparams: impl Fn(f64, f64) -> Q,
    decoded: impl Fn(Q, f64) -> f64,
) -> Q {
    let extreme = |pick: fn(f64, f64) -> f64| group.iter().copied().fold(0.0, pick);
    let tried = (0..20).map(|hundredths| {
        let part = f64::from((1.0 - f64::from(hundredths) / 100.0) as f32);
        let shrunken = |pick| round(extreme(pick) * part, dtype);
        qparams(shrunken(f64::min), shrunken(f64::max))
    });
    let mut errors = tried.map(|qparams| (qparams, observed(group, |weight| decoded(qparams, weight), dtype)));
    let first = errors.next().unwrap();
    // The observer's best error is the largest number of the dtype at first.
    let largest = match dtype {
        SourceDtype::Bf16 => bf16::MAX.to_f64(),
        SourceDtype::F16 => f16::MAX.to_f64(),
        SourceDtype::F32 => f32::MAX.into(),
    };
    errors.fold((first.0, first.1.min(largest)), |best, next| if next.1 < best.1 { next } else { best }).0
}

fn nearest_e2m1(number: f64) -> f64 {
    let values = [0.0, 1.0, 2.0, 4.0, 0.5, 1.5, 3.0, 6.0];
    // Even codes come first: they win ties.
    let distance = |value: &f64| (number.abs() - value).abs();
    let nearest = values.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap();
    nearest.copysign(number)
}

#[test]
fn integers_have_the_first_scale_of_least_error() {
    for dtype in DTYPES {
        let (values, bytes) = weights(dtype);
        for (name, bits, width) in [("W4A8", 4, 32), ("W2A8", 2, 64), ("W8A8", 8, COLUMNS), ("W5A8", 5, 3)] {
            let (half, range) = (f64::from(1 << (bits - 1)), f64::from((1 << bits) - 1));
            let epsilon = 2f64.powi(match dtype {
                SourceDtype::Bf16 => -7,
                SourceDtype::F16 => -10,
                SourceDtype::F32 => -23,
            });
            for (symmetric, quotient) in [(true, "f32"), (true, "source"), (false, "f32"), (false, "source")] {
                let options = json!({
                    "group_size": width, "symmetric": symmetric, "quotient_dtype": quotient, "scale_search": "mse",
                });
                let quantized = made(name, &options, dtype, &bytes);
                let scales = floats(dtype, &quantized[1]);
                let in_quotient = |number: f64| match quotient {
                    "source" => round(number, dtype),
                    _ => f64::from(number as f32),
                };
                let qparams = |least: f64, greatest: f64| {
                    let scale = match symmetric {
                        true => round(greatest.max(-least) / (range / 2.0), dtype),
                        false => round(round(greatest - least, dtype) / range, dtype),
                    };
                    let zero = if symmetric || least == 0.0 && scale == 0.0 {
                        0.0
                    } else {
                        round(-half - round(least / scale, dtype), dtype).clamp(-half, half - 1.0).round_ties_even()
                    };
                    (if scale == 0.0 { epsilon } else { scale }, zero)
                };
                let code = |(scale, zero): (f64, f64), weight: f64| {
                    let shifted = in_quotient(in_quotient(weight / scale) + zero);
                    shifted.clamp(-half, half - 1.0).round_ties_even()
                };
                for (index, group) in values.chunks(width).enumerate() {
                    let decoded = |qparams: (f64, f64), weight: f64| (code(qparams, weight) - qparams.1) * qparams.0;
                    let best = first_least(group, dtype, qparams, decoded);
                    let zero = if symmetric { 0.0 } else { f64::from(quantized[2][index] as i8) };
                    assert_eq!((scales[index], zero), best, "{name} {options} {dtype:?}, group {index}");
                    let codes = quantized[0][index * width..][..width].iter().map(|&code| f64::from(code as i8));
                    assert!(codes.eq(group.iter().map(|&weight| code(best, weight))), "{name} {options} {dtype:?}");
                }
            }
        }
    }
}

#[test]
fn mxfp4_has_the_first_power_of_two_of_least_error() {
    for dtype in DTYPES {
        let (values, bytes) = weights(dtype);
        let options = json!({ "scale_search": "mse" });
        let [found, absmax] = [&options, &json!({})].map(|options| made("MXFP4", options, dtype, &bytes).remove(1));
        let mut halved = 0;
        for (index, group) in values.chunks(32).enumerate() {
            if group.iter().all(|&weight| weight == 0.0) {
                assert_eq!(found[index], absmax[index]);
                continue;
            }
            let qparams = |least: f64, greatest: f64| {
                let octave = greatest.max(-least).log2().floor();
                let octave = if greatest.max(-least) >= 1.75 * octave.exp2() { octave + 1.0 } else { octave };
                (octave - 2.0).exp2()
            };
            let best = first_least(group, dtype, qparams, |scale, weight| nearest_e2m1(weight / scale) * scale);
            assert_eq!((f64::from(found[index]) - 127.0).exp2(), best, "{dtype:?}, group {index}");
            halved += usize::from(found[index] != absmax[index]);
        }
        assert!(halved > 0, "no candidate was better");
    }
}

/// Every positive number of E4M3, by its code.
fn e4m3() -> impl Iterator<Item = (u8, f64)> {
    (1..0x7F).map(|code| (code, float8::F8E4M3::from_bits(code).to_f64()))
}

#[test]
fn nvfp4_has_a_scale_of_least_squared_error() {
    for dtype in DTYPES {
        let (values, bytes) = weights(dtype);
        let [plain, searched, four_over_six] = ["absmax", "mse", "four_over_six"]
            .map(|search| made("NVFP4A16", &json!({ "scale_search": search }), dtype, &bytes));
        let global = |made: &[Vec<u8>]| f64::from(f32::from_le_bytes(made[2][..].try_into().unwrap()));
        assert_eq!(plain[2], searched[2]);
        let amax = values.iter().fold(0f64, |amax, weight| amax.max(weight.abs()));
        assert_eq!(global(&four_over_six), round(round(1.0 / amax, dtype) * 1536.0, dtype));
        let mut moved = [0, 0];
        for (index, group) in values.chunks(16).enumerate() {
            let error = |scale: f64, global: f64| -> f64 {
                // The factor is an F32, as servers compute it.
                let factor = f64::from((scale / global) as f32);
                let nearest = |weight: f64| nearest_e2m1(f64::from((weight / factor) as f32)) * factor;
                group.iter().map(|&weight| (weight - nearest(weight)).powi(2)).sum()
            };
            let number = |code: u8| float8::F8E4M3::from_bits(code).to_f64();
            let amax = group.iter().fold(0f64, |amax, weight| amax.max(weight.abs()));
            let of = |made: &[Vec<u8>]| error(number(made[1][index]), global(made));
            let exact = global(&plain) * round(amax / 6.0, dtype);
            let tried = e4m3().filter(|(_, scale)| (0.8 * exact..=1.8 * exact).contains(scale));
            let least = tried.map(|(_, scale)| error(scale, global(&plain))).fold(of(&plain), f64::min);
            assert!(of(&searched) <= least * (1.0 + 1e-12), "{dtype:?}, group {index}");
            moved[0] += usize::from(searched[1][index] != plain[1][index]);
            if amax == 0.0 {
                assert_eq!((searched[1][index], four_over_six[1][index]), (0x20, 0x20));
                continue;
            }
            let stored = |largest: f64| {
                let exact = global(&four_over_six) * round(amax / largest, dtype);
                let distance = |(_, scale): &(u8, f64)| (scale - exact).abs();
                e4m3().min_by(|a, b| distance(a).total_cmp(&distance(b)).then((a.0 % 2).cmp(&(b.0 % 2)))).unwrap()
            };
            let [six, four] =
                [stored(6.0), stored(4.0)].map(|(code, scale)| (code, error(scale, global(&four_over_six))));
            let best = if four.1 < six.1 { four.0 } else { six.0 };
            assert_eq!(four_over_six[1][index], best, "{dtype:?}, group {index}");
            moved[1] += usize::from(best != six.0);
        }
        assert!(moved[0] > 0 && moved[1] > 0, "{moved:?}");
    }
}
