//! How long a cast takes over a plain narrowing copy of the same bytes, data in memory, one thread.
//!
//! `cargo bench -p qwen-fp8-schemes` first prints that ratio for each instruction set, as the median of rounds in which
//! all contenders take turns, and then runs criterion over the same work. `-- --ratios` stops after the ratios.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use qwen_fp8_schemes::{Band, Format, Make, Matrix, Scheme, Simd, SourceDtype, absmax, find};
use serde_json::{Value, json};

/// 256 MiB of BF16: far more than a cache holds.
const SOURCE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 32768, columns: 4096 };

/// So many rows at a time, as a worker of the engine has them.
const BAND: usize = 512;

fn main() {
    let bytes = weights();
    let mut out = vec![1; SOURCE.rows * SOURCE.columns];
    let mut scales = vec![1; SOURCE.rows * 4];
    let mut contenders = contenders();
    ratios(&mut contenders, &bytes, &mut out, &mut scales);
    if std::env::args().any(|argument| argument == "--ratios") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(10);
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for contender in &mut contenders {
        group.bench_function(&contender.name, |bencher| {
            bencher.iter(|| (contender.work)(&bytes, &mut out, &mut scales));
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

/// From weights to codes and scales.
type Work = Box<dyn FnMut(&[u8], &mut [u8], &mut [u8])>;

fn contenders() -> Vec<Contender> {
    let mut all = Vec::new();
    let mut add = |name: String, work: Work| all.push(Contender { name, work });
    add("narrowing copy".to_owned(), Box::new(|bytes, out, _| narrow(bytes, out)));
    add("memcpy of as many bytes out".to_owned(), Box::new(|bytes, out, _| out.copy_from_slice(&bytes[..out.len()])));
    for simd in Simd::available() {
        add(
            format!("absolute maximum, {simd}"),
            Box::new(move |bytes, _, _| {
                black_box(absmax(SOURCE, 0, bytes, simd)).expect("the weights are finite");
            }),
        );
        for (name, options) in [
            ("block 128", json!({ "block_size": 128 })),
            ("channel", json!({})),
            ("block 128, f32 scales", json!({ "block_size": 128, "scale_dtype": "f32" })),
            ("block 128, source quotient", json!({ "block_size": 128, "quotient_dtype": "source" })),
        ] {
            let scheme = scheme(options);
            add(
                format!("{name}, {simd}"),
                Box::new(move |bytes, out, scales| quantize(&*scheme, bytes, out, scales, simd)),
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

fn scheme(options: Value) -> Box<dyn Scheme> {
    let Some(Make::Quantize(make)) = find("FP8_DYNAMIC").map(|registration| &registration.make) else {
        panic!("the scheme is registered")
    };
    make(options, Format::Fp8).expect("the options are right")
}

fn quantize(scheme: &dyn Scheme, bytes: &[u8], out: &mut [u8], scales: &mut [u8], simd: Simd) {
    let [weight, scale] = &*scheme.outputs(SOURCE).expect("the shape fits") else { panic!("there are two outputs") };
    for first_row in (0..SOURCE.rows).step_by(BAND) {
        let bytes = &bytes[first_row * SOURCE.row_bytes()..][..BAND * SOURCE.row_bytes()];
        let band = Band { source: SOURCE, first_row, rows: BAND, bytes, amax: None, simd };
        let outputs =
            &mut [&mut out[weight.band_range(first_row, BAND)], &mut scales[scale.band_range(first_row, BAND)]];
        scheme.quantize(&band, outputs).expect("the weights are finite");
    }
}

fn ratios(contenders: &mut [Contender], bytes: &[u8], out: &mut [u8], scales: &mut [u8]) {
    const ROUNDS: usize = 11;
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let start = Instant::now();
            (contender.work)(bytes, out, scales);
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
