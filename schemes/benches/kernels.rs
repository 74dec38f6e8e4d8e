//! How long a cast takes over a plain narrowing copy of the same bytes, data in memory, one thread.
//!
//! `cargo bench -p qwen-fp8-schemes` first prints that ratio for each instruction set, as the median of rounds in which
//! all contenders take turns, and then runs criterion over the same work. `-- --ratios` stops after the ratios.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use qwen_fp8_schemes::{AmaxScope, Band, Format, Make, Matrix, Scheme, Simd, SourceDtype, absmax, find};
use serde_json::{Value, json};

/// 256 MiB of BF16: far more than a cache holds.
const SOURCE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 32768, columns: 4096 };

/// So many rows at a time, as a worker of the engine has them.
const BAND: usize = 512;

fn main() {
    let bytes = weights();
    let mut out = vec![1; SOURCE.rows * SOURCE.columns];
    let mut rest = vec![vec![1; SOURCE.rows * 256]; 3];
    let mut contenders = contenders();
    ratios(&mut contenders, &bytes, &mut out, &mut rest);
    if std::env::args().any(|argument| argument == "--ratios") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for contender in &mut contenders {
        group.bench_function(&contender.name, |bencher| {
            bencher.iter(|| (contender.work)(&bytes, &mut out, &mut rest));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// Normally distributed weights, as in a real layer: some fall below the normal range of E4M3.
fn weights() -> Vec<u8> {
    let mut state = 1u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    // A table is drawn from, since 128 million logarithms would take longer than the measurement.
    let table: Vec<[u8; 2]> = (0..1 << 20)
        .map(|_| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            half::bf16::from_f32(0.02 * radius * (std::f32::consts::TAU * uniform()).cos()).to_le_bytes()
        })
        .collect();
    (0..SOURCE.rows * SOURCE.columns).flat_map(|_| table[(uniform() * table.len() as f32) as usize]).collect()
}

struct Contender {
    name: String,
    work: Work,
}

/// From weights to codes, and to scales and what else there is.
type Work = Box<dyn FnMut(&[u8], &mut [u8], &mut [Vec<u8>])>;

fn contenders() -> Vec<Contender> {
    let mut all = Vec::new();
    let mut add = |name: String, work: Work| all.push(Contender { name, work });
    add("narrowing copy".to_owned(), Box::new(|bytes, out, _| narrow(bytes, out)));
    add("narrowing copy to half bytes".to_owned(), Box::new(|bytes, out, _| narrow_to_half_bytes(bytes, out)));
    add("memcpy of as many bytes out".to_owned(), Box::new(|bytes, out, _| out.copy_from_slice(&bytes[..out.len()])));
    for simd in Simd::available() {
        add(
            format!("absolute maximum, {simd}"),
            Box::new(move |bytes, _, _| {
                black_box(absmax(SOURCE, 0, bytes, simd)).expect("the weights are finite");
            }),
        );
        for (name, options, what) in [
            ("FP8_DYNAMIC", json!({ "block_size": 128 }), "block 128"),
            ("FP8_DYNAMIC", json!({}), "channel"),
            ("FP8_DYNAMIC", json!({ "block_size": 128, "scale_dtype": "f32" }), "block 128, f32 scales"),
            ("FP8_DYNAMIC", json!({ "block_size": 128, "quotient_dtype": "source" }), "block 128, source quotient"),
            ("W8A8", json!({}), "W8A8"),
            ("W8A8", json!({ "quotient_dtype": "source" }), "W8A8, source quotient"),
            ("W8A16", json!({}), "W8A16"),
            ("W4A16", json!({}), "W4A16"),
            ("W4A16_ASYM", json!({}), "W4A16_ASYM"),
            ("W3A16", json!({}), "W3A16"),
            ("W4A8", json!({}), "W4A8"),
            ("MXFP8", json!({}), "MXFP8"),
            ("MXFP4", json!({}), "MXFP4"),
            ("NVFP4A16", json!({}), "NVFP4A16"),
        ] {
            let scheme = scheme(name, options);
            add(
                format!("{what}, {simd}"),
                Box::new(move |bytes, out, rest| quantize(&*scheme, bytes, out, rest, simd)),
            );
        }
    }
    all
}

/// Two bytes in, one byte out, and nothing else.
#[inline(never)]
fn narrow(bytes: &[u8], out: &mut [u8]) {
    for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *out = (u16::from_le_bytes(*raw) >> 8) as u8;
    }
}

/// As [`narrow`], but to four bits.
#[inline(never)]
fn narrow_to_half_bytes(bytes: &[u8], out: &mut [u8]) {
    for (out, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        let pair = u32::from_le_bytes(*raw);
        *out = (pair >> 12 & 0xF | pair >> 24 & 0xF0) as u8;
    }
}

fn scheme(name: &str, options: Value) -> Box<dyn Scheme> {
    let Some(Make::Quantize(make)) = find(name).map(|registration| &registration.make) else {
        panic!("the scheme is registered")
    };
    make(options, Format::CompressedTensors).expect("the options are right")
}

fn quantize(scheme: &dyn Scheme, bytes: &[u8], out: &mut [u8], rest: &mut [Vec<u8>], simd: Simd) {
    let specs = scheme.outputs(SOURCE).expect("the shape fits");
    let amax = (scheme.amax_scope() != AmaxScope::Band).then_some(0.1);
    for first_row in (0..SOURCE.rows).step_by(BAND) {
        let bytes = &bytes[first_row * SOURCE.row_bytes()..][..BAND * SOURCE.row_bytes()];
        let band = Band { source: SOURCE, first_row, rows: BAND, bytes, amax, simd };
        let buffers = std::iter::once(&mut *out).chain(rest.iter_mut().map(Vec::as_mut_slice));
        let mut outputs: Vec<&mut [u8]> =
            specs.iter().zip(buffers).map(|(spec, buffer)| &mut buffer[spec.band_range(first_row, BAND)]).collect();
        scheme.quantize(&band, &mut outputs).expect("the weights are finite");
    }
}

fn ratios(contenders: &mut [Contender], bytes: &[u8], out: &mut [u8], rest: &mut [Vec<u8>]) {
    const ROUNDS: usize = 11;
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (contender.work)(bytes, out, rest);
            times.push(start.elapsed());
        }
    }
    let median = |times: &[Duration]| {
        let mut sorted = times.to_vec();
        sorted.sort();
        sorted[ROUNDS / 2].as_secs_f64()
    };
    let copy = median(&times[0]);
    println!("{:40} {:>10} {:>16}", "median of 11", "GB/s in", "time over copy");
    for (contender, times) in contenders.iter().zip(&times) {
        let time = median(times);
        println!("{:40} {:10.2} {:16.2}", contender.name, bytes.len() as f64 / time / 1e9, time / copy);
    }
}
