//! Properties of the FP8 schemes, and of lossless FP4, on weights that proptest invents.

use half::{bf16, f16};
use proptest::prelude::*;
use qwen_fp8_schemes::Strategy as QuantizationStrategy;
use qwen_fp8_schemes::conformance::{quantize_whole, quantize_whole_keeping};
use qwen_fp8_schemes::{
    Band, Dtype, Format, Make, Matrix, Scheme, Simd, SourceDtype, TensorSpec, find, lossy_granules,
};
use serde_json::{Value, json};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// All instruction sets and all ways to cut a weight into bands give the same bytes.
    #[test]
    fn bytes_depend_on_the_weight_alone(weight in weight(), (name, options) in scheme(), bands in 1..9usize) {
        let scheme = make(name, options);
        let whole = quantize_whole(&*scheme, weight.source, &weight.bytes, usize::MAX, Simd::PORTABLE, 0).unwrap();
        for simd in Simd::available() {
            let made = quantize_whole(&*scheme, weight.source, &weight.bytes, bands, simd, 0xFF).unwrap();
            prop_assert!(made == whole, "{simd}, {bands} bands");
        }
    }

    /// The same holds where NaN and infinity are kept; and a weight without them gets the bytes it gets anyway.
    #[test]
    fn bytes_of_non_finite_weights_depend_on_the_weight_alone(
        weight in weight(),
        poison in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize), 0..4),
        (name, options) in scheme(),
        bands in 1..9usize,
    ) {
        let scheme = make(name, options);
        prop_assume!(scheme.keeps_non_finite());
        let mut bytes = weight.bytes.clone();
        let size = weight.source.dtype.bytes();
        for (place, value) in &poison {
            if let Some(element) = bytes.chunks_exact_mut(size).nth(place.index(weight.values.len().max(1))) {
                let value = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY][*value];
                match weight.source.dtype {
                    SourceDtype::Bf16 => element.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                    SourceDtype::F16 => element.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                    SourceDtype::F32 => element.copy_from_slice(&value.to_le_bytes()),
                }
            }
        }
        let whole = quantize_whole_keeping(&*scheme, weight.source, &bytes, usize::MAX, Simd::PORTABLE, 0).unwrap();
        for simd in Simd::available() {
            let made = quantize_whole_keeping(&*scheme, weight.source, &bytes, bands, simd, 0xFF).unwrap();
            prop_assert!(made == whole, "{simd}, {bands} bands");
        }
        if bytes == weight.bytes {
            let strict = quantize_whole(&*scheme, weight.source, &bytes, 1, Simd::detect(), 0).unwrap();
            prop_assert!(strict == whole);
        }
    }

    /// What a server computes is within half a step of the weight, for all weights that a step can be told of.
    #[test]
    fn dequantized_is_within_half_a_step(weight in weight(), (name, options) in scheme()) {
        let double_rounding = options["quotient_dtype"] == "source";
        let scheme = make(name, options);
        let specs = scheme.outputs(weight.source).unwrap();
        let made = quantize_whole(&*scheme, weight.source, &weight.bytes, 1, Simd::detect(), 0).unwrap();
        let columns = weight.source.columns;
        for (index, &value) in weight.values.iter().enumerate() {
            let scale = scale(scheme.weights().strategy, &specs[1], &made[1], index / columns, index % columns);
            let code = float8::F8E4M3::from_bits(made[0][index]).to_f64();
            prop_assert_eq!(code.is_sign_negative(), value.is_sign_negative());
            // Beyond 448 there is no nearer code; a scale that was rounded down leads there.
            let quotient = (f64::from(value) / scale).clamp(-448.0, 448.0);
            let step = 2f64.powi((quotient.abs().log2().floor().max(-6.0) as i32) - 3);
            // The rounding to the source dtype comes on top: half a step of BF16 is a 32nd of one of E4M3.
            let slack = if double_rounding { 1.0 / 32.0 } else { 1e-6 };
            prop_assert!((code - quotient).abs() <= step * (0.5 + slack), "{value:e} / {scale:e} is {quotient}, not {code}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A search leaves no more squared error in any row or tile than the scale of its absolute maximum.
    #[test]
    fn a_search_makes_no_group_worse(weight in weight(), (name, options) in scheme()) {
        prop_assume!(name != "FP8");
        let with = |search| {
            let mut options = options.clone();
            options["scale_search"] = json!(search);
            group_errors(&weight, &*make(name, options))
        };
        for (found, absmax) in with("mse").into_iter().zip(with("absmax")) {
            // The sums are not rounded alike.
            prop_assert!(found <= absmax * (1.0 + 1e-9), "{found:e} after a search, {absmax:e} without");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// MXFP4 is held exactly by NVFP4 under powers of two where its exponents lie within 18; beyond, groups that are not are
    /// counted.
    #[test]
    fn lossless_fp4_is_exact_within_the_span_and_counted_beyond(
        groups in prop::collection::vec((0..26i32, prop::array::uniform32(0..16u8)), 1..20),
        lowest in -100..70i32,
        dtype in prop_oneof![Just(SourceDtype::Bf16), Just(SourceDtype::F32)],
        bands in 1..9usize,
    ) {
        let e2m1 = |code: u8| {
            let size = [0.0f32, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][usize::from(code & 7)];
            if code < 8 { size } else { -size }
        };
        let value = |(exponent, codes): &(i32, [u8; 32])| codes.map(|code| e2m1(code) * 2f32.powi(lowest + exponent));
        let values = groups.iter().map(value).collect::<Vec<_>>().concat();
        let bytes: Vec<u8> = match dtype {
            SourceDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        };
        let source = Matrix { dtype, rows: groups.len(), columns: 32 };
        let scheme = make("NVFP4A16", json!({ "scale_search": "lossless" }));
        let made = quantize_whole(&*scheme, source, &bytes, usize::MAX, Simd::PORTABLE, 0).unwrap();
        for simd in Simd::available() {
            prop_assert!(quantize_whole(&*scheme, source, &bytes, bands, simd, 0xFF).unwrap() == made, "{simd}");
        }
        let global = f32::from_le_bytes(*made[2].first_chunk().unwrap());
        let decoded = |at: usize| {
            let scale = float8::F8E4M3::from_bits(made[1][at / 16]).to_f32() / global;
            e2m1(made[0][at / 2] >> (at % 2 * 4) & 0xF) * scale
        };
        let is_lossy = |group: &usize| (group * 16..group * 16 + 16).any(|at| decoded(at) != values[at]);
        let lossy: Vec<usize> = (0..values.len() / 16).filter(is_lossy).collect();
        let amax = values.iter().fold(0f32, |amax, value| amax.max(value.abs()));
        let band = Band { source, first_row: 0, rows: groups.len(), bytes: &bytes, amax: Some(amax), simd: Simd::detect() };
        let specs = scheme.outputs(source).unwrap();
        let found = lossy_granules(scheme.weights().strategy, &specs[1], &made[1], &made[0], &band);
        prop_assert_eq!(found.number, lossy.len() as u64);
        prop_assert_eq!(found.first.map(|first| first.place), lossy.first().map(|at| [at / 2, at % 2 * 16]));
        let exponents = groups.iter().map(|(exponent, _)| *exponent);
        if exponents.clone().max().unwrap() - exponents.min().unwrap() <= 17 {
            prop_assert!(lossy.is_empty(), "{lossy:?}");
        }
    }
}

/// Large granules are judged by their magnitudes, small ones element by element; here both are tried by hand, every scale on
/// every element, sums in the order that decides where two are nearly equal.
#[test]
fn a_search_finds_the_scale_that_trying_each_on_every_element_finds() {
    // Normal, heavy tails, few magnitudes, as good as equal under several scales, mostly zero, near the smallest,
    // all just below a power of two, but for a few above it, any bits.
    let mut kinds: [Box<dyn FnMut() -> f32>; 8] = [0u64, 1, 2, 3, 4, 5, 6, 7].map(|kind| {
        let mut state: u64 = kind;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32
        };
        let mut normal = move || (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
        Box::new(move || {
            let normal = normal();
            match kind {
                0 => 0.02 * normal,
                1 => normal.powi(7),
                2 => normal.round(),
                3 => 2f32.powi(normal.round() as i32),
                4 => {
                    if normal > 2.0 {
                        normal
                    } else {
                        0.0
                    }
                }
                5 => normal * 1e-38,
                6 => 0.95 + normal / 60.0,
                _ => f32::from_bits((normal * 1e9) as i64 as u32 & 0xBF7F_FFFF),
            }
        }) as Box<dyn FnMut() -> f32>
    });
    for dtype in [SourceDtype::Bf16, SourceDtype::F16, SourceDtype::F32] {
        for (kind, draw) in kinds.iter_mut().enumerate() {
            for (rows, columns, block) in [(3, 3000, None), (130, 260, Some(128)), (5, 1279, None), (5, 1280, None)] {
                let source = Matrix { dtype, rows, columns };
                let mut weight = Weight { source, bytes: Vec::new(), values: Vec::new() };
                for _ in 0..rows * columns {
                    let value = draw();
                    match dtype {
                        SourceDtype::Bf16 => {
                            weight.bytes.extend(bf16::from_f32(value).to_le_bytes());
                            weight.values.push(bf16::from_f32(value).to_f32());
                        }
                        SourceDtype::F16 => {
                            let value = f16::from_f32(value.clamp(-6e4, 6e4));
                            weight.bytes.extend(value.to_le_bytes());
                            weight.values.push(value.to_f32());
                        }
                        SourceDtype::F32 => {
                            weight.bytes.extend(value.to_le_bytes());
                            weight.values.push(value);
                        }
                    }
                }
                let mut options = json!({ "scale_search": "mse", "scale_dtype": "f32" });
                if let Some(block) = block {
                    options["block_size"] = json!(block);
                }
                let scheme = make(if block.is_some() { "FP8_BLOCK" } else { "FP8_DYNAMIC" }, options);
                let expected = searched_by_hand(&weight, block.map_or([1, columns], |block| [block, block]));
                for simd in Simd::available() {
                    let made = quantize_whole(&*scheme, source, &weight.bytes, usize::MAX, simd, 0).unwrap();
                    let found: Vec<f32> = made[1].as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
                    assert_eq!(found, expected, "{dtype:?} kind {kind} {rows} x {columns} {simd}");
                }
            }
        }
    }
}

/// The scale of each granule of a weight, F32, of the candidates that `docs/recipes.md` tells.
fn searched_by_hand(weight: &Weight, [height, width]: [usize; 2]) -> Vec<f32> {
    let Matrix { rows, columns, .. } = weight.source;
    let mut scales = Vec::new();
    for first_row in (0..rows).step_by(height) {
        for first_column in (0..columns).step_by(width) {
            let parts: Vec<&[f32]> = (first_row..rows.min(first_row + height))
                .map(|row| {
                    &weight.values[row * columns + first_column..row * columns + columns.min(first_column + width)]
                })
                .collect();
            let amax = parts.iter().flat_map(|part| part.iter()).fold(0f32, |amax, value| amax.max(value.abs()));
            let error = |scale: f32| {
                let mut sums = [0f64; 16];
                for part in &parts {
                    for (column, &value) in part.iter().enumerate() {
                        let code = float8::F8E4M3::from_f32((value / scale).clamp(-448.0, 448.0));
                        sums[column % 16] += (f64::from(value) - code.to_f64() * f64::from(scale)).powi(2);
                    }
                }
                sums.iter().sum::<f64>()
            };
            let (mut least, mut best) = (f64::INFINITY, (1.0, 0.0));
            for (offsets, unit) in [(-4..=12i8, 1.0 / 16.0), (-3..=3, 1.0 / 64.0)] {
                let (middle, _) = best;
                for offset in offsets {
                    let factor = middle + f32::from(offset) * unit;
                    let scale = if amax * factor / 448.0 == 0.0 { f32::EPSILON } else { amax * factor / 448.0 };
                    let error = if scale.is_finite() { error(scale) } else { f64::INFINITY };
                    if error < least {
                        (least, best) = (error, (factor, scale));
                    }
                }
            }
            scales.push(best.1);
        }
    }
    scales
}

/// Normal weights gain: a search that always stayed with the absolute maximum would be no worse either.
#[test]
fn a_search_makes_normal_weights_better() {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let source = Matrix { dtype: SourceDtype::Bf16, rows: 64, columns: 256 };
    let normal = (0..64 * 256).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    let values: Vec<bf16> = normal.map(|value| bf16::from_f32(value * 0.02)).collect();
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let weight = Weight { source, bytes, values: values.into_iter().map(f32::from).collect() };
    for (name, block) in [("FP8_DYNAMIC", None), ("FP8_BLOCK", Some(32))] {
        let total = |search: &str| {
            let mut options = json!({ "scale_search": search });
            options.as_object_mut().unwrap().extend(block.map(|block: u32| ("block_size".to_owned(), block.into())));
            group_errors(&weight, &*make(name, options)).iter().sum::<f64>()
        };
        assert!(total("mse") < 0.95 * total("absmax"), "{name}: {} of {}", total("mse"), total("absmax"));
    }
}

/// The squared error in each row or tile of a weight.
fn group_errors(weight: &Weight, scheme: &dyn Scheme) -> Vec<f64> {
    let specs = scheme.outputs(weight.source).unwrap();
    let made = quantize_whole(scheme, weight.source, &weight.bytes, 1, Simd::detect(), 0).unwrap();
    let strategy = scheme.weights().strategy;
    let mut errors = vec![0.0; specs[1].shape.iter().product()];
    for (index, &value) in weight.values.iter().enumerate() {
        let (row, column) = (index / weight.source.columns, index % weight.source.columns);
        let scale = scale(strategy, &specs[1], &made[1], row, column);
        let decoded = float8::F8E4M3::from_bits(made[0][index]).to_f64() * scale;
        errors[group(strategy, &specs[1], row, column)] += (f64::from(value) - decoded).powi(2);
    }
    errors
}

#[derive(Clone, Debug)]
struct Weight {
    source: Matrix,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

/// Finite weights of every dtype: ordinary ones, or any bits.
fn weight() -> impl Strategy<Value = Weight> {
    let dtype = prop_oneof![Just(SourceDtype::Bf16), Just(SourceDtype::F16), Just(SourceDtype::F32)];
    (dtype, 0..40usize, 0..200usize, any::<u64>(), any::<bool>()).prop_map(|(dtype, rows, columns, seed, ordinary)| {
        let source = Matrix { dtype, rows, columns };
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut state = seed;
        for _ in 0..rows * columns {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = (state >> 32) as u32;
            let ordinary = ordinary.then_some((bits as i32 as f32 / 2f32.powi(31)).powi(3) * 0.1);
            match dtype {
                SourceDtype::Bf16 => {
                    let value = finite(ordinary.map_or(bf16::from_bits(bits as u16), bf16::from_f32), bf16::is_finite);
                    bytes.extend(value.to_le_bytes());
                    values.push(value.to_f32());
                }
                SourceDtype::F16 => {
                    let value = finite(ordinary.map_or(f16::from_bits(bits as u16), f16::from_f32), f16::is_finite);
                    bytes.extend(value.to_le_bytes());
                    values.push(value.to_f32());
                }
                SourceDtype::F32 => {
                    let value = finite(ordinary.unwrap_or(f32::from_bits(bits)), f32::is_finite);
                    bytes.extend(value.to_le_bytes());
                    values.push(value);
                }
            }
        }
        Weight { source, bytes, values }
    })
}

fn finite<T: Copy + Default>(value: T, is_finite: fn(T) -> bool) -> T {
    if is_finite(value) { value } else { T::default() }
}

fn scheme() -> impl Strategy<Value = (&'static str, Value)> {
    let scale = prop_oneof![Just("bf16"), Just("f32"), Just("source")];
    let quotient = prop_oneof![Just("f32"), Just("source")];
    let search = prop_oneof![Just("absmax"), Just("mse")];
    (0..3u8, 1..70u32, 1..140u32, scale, quotient, search).prop_map(
        |(grouping, height, width, scale, quotient, search)| {
            let mut options = json!({ "scale_dtype": scale, "quotient_dtype": quotient });
            if grouping > 0 {
                options["scale_search"] = json!(search);
            }
            match grouping {
                0 => ("FP8", options),
                1 => ("FP8_DYNAMIC", options),
                _ => {
                    options["block_size"] = json!([height, width]);
                    ("FP8_BLOCK", options)
                }
            }
        },
    )
}

fn make(name: &str, options: Value) -> Box<dyn Scheme> {
    let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name}") };
    make(options, Format::CompressedTensors).unwrap()
}

/// The stored scale of an element.
fn scale(strategy: QuantizationStrategy, spec: &TensorSpec, scales: &[u8], row: usize, column: usize) -> f64 {
    let group = group(strategy, spec, row, column);
    match spec.dtype {
        Dtype::BF16 => bf16::from_le_bytes([scales[2 * group], scales[2 * group + 1]]).to_f64(),
        Dtype::F16 => f16::from_le_bytes([scales[2 * group], scales[2 * group + 1]]).to_f64(),
        _ => f64::from(f32::from_le_bytes(scales[4 * group..][..4].try_into().unwrap())),
    }
}

/// The number of an element's scale.
fn group(strategy: QuantizationStrategy, spec: &TensorSpec, row: usize, column: usize) -> usize {
    match strategy {
        QuantizationStrategy::Tensor => 0,
        QuantizationStrategy::Channel => row,
        QuantizationStrategy::Block([height, width]) => row / height * spec.shape[1] + column / width,
        other => panic!("no FP8 scheme has {other:?}"),
    }
}
