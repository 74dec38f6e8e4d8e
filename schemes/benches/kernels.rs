//! How long a cast takes over a plain narrowing copy of the same bytes, data in memory, one thread.
//!
//! `cargo bench -p qwen-fp8-schemes` first prints that ratio for every registered scheme and instruction set, and then
//! runs criterion over the same work. `-- --ratios` stops after the ratios, `-- --simd NAME` leaves the other instruction
//! sets out, `-- --only TEXT` the schemes whose name and options do not contain it. Without `--simd` the portable path is
//! left out where there is another. `-- --threads` prints how much faster two threads are than one instead, for FP8 by
//! blocks and by channels, for the copy, and for the passes of blocks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use qwen_fp8_schemes::conformance::fewest_options;
use qwen_fp8_schemes::{
    AmaxScope, Band, Format, Make, Matrix, Scheme, Simd, SourceDtype, TensorSpec, amax, find, registered,
};
use serde_json::{Value, json};

/// 256 MiB of BF16: far more than a cache holds.
const SOURCE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 32768, columns: 4096 };

/// So many rows at a time, as a worker of the engine has them.
const BAND: usize = 256;

/// An odd number, for the median.
const ROUNDS: usize = 11;

fn main() {
    let bytes = weights();
    if std::env::args().any(|argument| argument == "--threads") {
        return scaling(&bytes, argument("--simd").as_deref());
    }
    let mut contenders = contenders(argument("--simd").as_deref(), argument("--only").as_deref());
    let mut outputs = outputs(&contenders);
    ratios(&mut contenders, &bytes, &mut outputs);
    if std::env::args().any(|argument| argument == "--ratios") {
        return;
    }
    let mut criterion = Criterion::default().sample_size(10);
    let mut group = criterion.benchmark_group("kernels");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for contender in &mut contenders {
        group.bench_function(&contender.name, |bencher| {
            bencher.iter(|| (contender.work)(&bytes, &mut outputs));
        });
    }
    group.finish();
    criterion.final_summary();
}

/// What follows `flag` on the command line.
fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
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
    /// The bytes of each tensor it writes.
    sizes: Vec<usize>,
    work: Work,
    /// The copy it is held against.
    copy: fn(&[u8], &mut [u8]),
}

/// From weights to codes, and to scales and what else there is.
type Work = Box<dyn FnMut(&[u8], &mut [Vec<u8>])>;

/// Options of a scheme, which are no constants.
type Options = fn() -> Value;

/// What runs besides the registered schemes under their default options.
const VARIANTS: [(&str, Options); 12] = [
    ("FP8_BLOCK", || json!({ "scale_dtype": "f32" })),
    ("FP8_BLOCK", || json!({ "quotient_dtype": "source" })),
    ("FP8_DYNAMIC", || json!({ "quotient_dtype": "source" })),
    ("W8A8", || json!({ "symmetric": false })),
    ("W8A8", || json!({ "quotient_dtype": "source" })),
    ("W4A16", || json!({ "quotient_dtype": "source" })),
    ("W4A16", || json!({ "scale_search": "mse" })),
    ("W4A16", || json!({ "scale_search": "mse", "symmetric": false })),
    ("W8A8", || json!({ "scale_search": "mse" })),
    ("MXFP4", || json!({ "scale_search": "mse" })),
    ("FP8_BLOCK", || json!({ "scale_search": "mse" })),
    ("NVFP4A16", || json!({ "scale_search": "mse" })),
];

/// The instruction sets to measure.
fn chosen(simd: Option<&str>) -> impl Iterator<Item = Simd> {
    Simd::available().into_iter().filter(move |candidate| match simd {
        Some(name) => candidate.name() == name,
        None => *candidate != Simd::PORTABLE || Simd::detect() == Simd::PORTABLE,
    })
}

fn contenders(simd: Option<&str>, only: Option<&str>) -> Vec<Contender> {
    let mut all = Vec::new();
    for simd in chosen(simd) {
        let work: Work = Box::new(move |bytes, _| {
            black_box(amax(SOURCE, 0, bytes, simd)).expect("the weights are finite");
        });
        all.push(Contender { name: format!("absolute maximum, {simd}"), sizes: vec![0], work, copy: narrow::<8> });
        let work: Work = Box::new(move |bytes, out| two_passes(bytes, &mut out[0], simd));
        let sizes = vec![SOURCE.rows * SOURCE.columns];
        all.push(Contender { name: format!("two passes over 128 rows, {simd}"), sizes, work, copy: narrow::<8> });
        for registration in registered() {
            let Make::Quantize(make) = registration.make else { continue };
            let variants = VARIANTS.iter().filter(|(name, _)| *name == registration.name).map(|(_, options)| options());
            for options in
                std::iter::once(fewest_options(registration).expect("each option has an example")).chain(variants)
            {
                let name = format!("{} {options}", registration.name).replace(" {}", "");
                if only.is_some_and(|only| !name.contains(only)) {
                    continue;
                }
                let scheme = make(options, Format::CompressedTensors).expect("the options are right");
                all.push(contender(format!("{name}, {simd}"), scheme, simd));
            }
        }
    }
    all
}

fn contender(name: String, scheme: Box<dyn Scheme>, simd: Simd) -> Contender {
    let specs = scheme.outputs(SOURCE).expect("the shape fits");
    let copy = match specs[0].bytes() * 8 / (SOURCE.rows * SOURCE.columns) {
        2 => narrow::<2>,
        3 => narrow::<3>,
        4 => narrow::<4>,
        5 => narrow::<5>,
        6 => narrow::<6>,
        7 => narrow::<7>,
        8 => narrow::<8>,
        bits => panic!("there is no copy to {bits} bits"),
    };
    let sizes = specs.iter().map(TensorSpec::bytes).collect();
    let work = Box::new(move |bytes: &[u8], out: &mut [Vec<u8>]| {
        quantize(&*scheme, SOURCE, &specs, bytes, out, simd);
    });
    Contender { name, sizes, work, copy }
}

/// Room for what any of them writes. It is not zero, so that the pages are there.
fn outputs(contenders: &[Contender]) -> Vec<Vec<u8>> {
    let mut outputs = vec![vec![1; SOURCE.rows * SOURCE.columns]];
    for sizes in contenders.iter().map(|contender| &contender.sizes) {
        outputs.resize(outputs.len().max(sizes.len()), Vec::new());
        for (output, &size) in outputs.iter_mut().zip(sizes) {
            output.resize(output.len().max(size), 1);
        }
    }
    outputs
}

/// Reads two bytes and writes so many bits for each element, and nothing else: eight stretches of elements become as
/// many stretches of bytes, for which there are no faster instructions.
#[inline(never)]
fn narrow<const BITS: usize>(bytes: &[u8], out: &mut [u8]) {
    const STRETCH: usize = 64;
    let stretches = bytes.as_chunks::<{ 2 * STRETCH }>().0.as_chunks::<8>().0;
    let narrowed = out.as_chunks_mut::<STRETCH>().0.as_chunks_mut::<BITS>().0;
    for (stretches, narrowed) in stretches.iter().zip(narrowed) {
        for (first, out) in narrowed.iter_mut().enumerate() {
            let mut sum = [0; STRETCH];
            for stretch in stretches.iter().skip(first).step_by(BITS) {
                for (sum, raw) in sum.iter_mut().zip(stretch.as_chunks::<2>().0) {
                    *sum ^= (u16::from_le_bytes(*raw) >> 8) as u8;
                }
            }
            *out = sum;
        }
    }
}

/// The least that a cast in blocks does: the maximum of some rows, and then a copy of them for a cast.
fn two_passes(bytes: &[u8], out: &mut [u8], simd: Simd) {
    const BLOCK: Matrix = Matrix { rows: 128, ..SOURCE };
    let blocks = bytes.chunks_exact(BLOCK.rows * BLOCK.row_bytes());
    for (bytes, out) in blocks.zip(out.chunks_exact_mut(BLOCK.rows * BLOCK.columns)) {
        black_box(amax(BLOCK, 0, bytes, simd)).expect("the weights are finite");
        narrow::<8>(bytes, out);
    }
}

fn quantize(scheme: &dyn Scheme, source: Matrix, specs: &[TensorSpec], bytes: &[u8], out: &mut [Vec<u8>], simd: Simd) {
    // What a first pass finds is handed in: that pass is the row of the absolute maximum.
    let amax = (scheme.amax_scope() != AmaxScope::Band).then_some(0.1);
    for first_row in (0..source.rows).step_by(BAND) {
        let bytes = &bytes[first_row * source.row_bytes()..][..BAND * source.row_bytes()];
        let band = Band { source, first_row, rows: BAND, bytes, amax, simd };
        let mut outputs: Vec<&mut [u8]> =
            specs.iter().zip(&mut *out).map(|(spec, buffer)| &mut buffer[spec.band_range(first_row, BAND)]).collect();
        scheme.quantize(&band, &mut outputs).expect("the weights are finite");
    }
}

/// Each contender takes its turn right after its copy: what else the machine does meanwhile slows both.
fn ratios(contenders: &mut [Contender], bytes: &[u8], outputs: &mut [Vec<u8>]) {
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, (copies, works)) in contenders.iter_mut().zip(&mut times) {
            copies.push(timed(|| (contender.copy)(bytes, &mut outputs[0])));
            works.push(timed(|| (contender.work)(bytes, outputs)));
        }
    }
    let title = format!("over {ROUNDS} rounds");
    println!("{title:52} {:>10} {:>10} {:>14} {:>14}", "GB/s in", "its copy", "time over copy", "of the fastest");
    for (contender, (copies, works)) in contenders.iter().zip(&times) {
        let speed = |times: &[f64]| bytes.len() as f64 / median(times) / 1e9;
        let ratios: Vec<f64> = works.iter().zip(copies).map(|(work, copy)| work / copy).collect();
        let fastest = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{:52} {:10.2} {:10.2} {:14.2} {:14.2}",
            contender.name,
            speed(works),
            speed(copies),
            median(&ratios),
            fastest(works) / fastest(copies)
        );
    }
}

/// What a thread does with half of the weights.
type Half<'a> = &'a (dyn Fn(&[u8], &mut [Vec<u8>]) + Sync);

/// How much faster two threads cast the halves of the weights than one casts both, and the same for the copy.
fn scaling(bytes: &[u8], simd: Option<&str>) {
    const HALF: Matrix = Matrix { rows: SOURCE.rows / 2, ..SOURCE };
    println!("{:52} {:>10}", format!("over {ROUNDS} rounds"), "two to one");
    report(bytes, "the copy", &[HALF.rows * HALF.columns], &|bytes, out| narrow::<8>(bytes, &mut out[0]));
    for simd in chosen(simd) {
        let name = format!("two passes over 128 rows, {simd}");
        report(bytes, &name, &[HALF.rows * HALF.columns], &|bytes, out| two_passes(bytes, &mut out[0], simd));
        for name in ["FP8_BLOCK", "FP8_DYNAMIC"] {
            let registration = find(name).expect("it is registered");
            let Make::Quantize(make) = registration.make else { continue };
            let options = fewest_options(registration).expect("each option has an example");
            let scheme = make(options, Format::CompressedTensors).expect("the options are right");
            let specs = scheme.outputs(HALF).expect("the shape fits");
            let sizes: Vec<usize> = specs.iter().map(TensorSpec::bytes).collect();
            let name = format!("{name}, {simd}");
            report(bytes, &name, &sizes, &|bytes, out| quantize(&*scheme, HALF, &specs, bytes, out, simd));
        }
    }
}

fn report(bytes: &[u8], name: &str, sizes: &[usize], work: Half<'_>) {
    let (former, latter) = bytes.split_at(bytes.len() / 2);
    let mut outputs = [(); 2].map(|()| sizes.iter().map(|&size| vec![1; size]).collect::<Vec<_>>());
    let [out, other] = &mut outputs;
    let ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let one = timed(|| {
                work(former, out);
                work(latter, other);
            });
            let two = timed(|| {
                std::thread::scope(|scope| {
                    scope.spawn(|| work(former, out));
                    work(latter, other);
                });
            });
            one / two
        })
        .collect();
    println!("{name:52} {:10.2}", median(&ratios));
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    Duration::as_secs_f64(&start.elapsed())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
