//! Proves the casts of BF16 to E4M3: both roundings of the quotient, every instruction set of this machine, against a
//! division and the `float8` crate's rounding.
//!
//! Under BF16 scales these are all pairs that can occur: finite weights, and scales that a finite maximum leads to. F32
//! scales have 2^23 significands, and each weight has one of 128: these are all their pairs, in one octave.
//!
//! On two cores it takes a minute or two.
//!
//! `cargo run --release -p qwen-fp8-schemes --example exhaustive [-- --simd avx2]`

#[path = "../tests/division_free_cast/all.rs"]
mod all;

use std::num::NonZero;
use std::thread;
use std::time::Instant;

use all::{Cast, Quotient, ScaleDtype, Weights, maxima, maxima_of_an_octave};
use qwen_fp8_schemes::Simd;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let paths: Vec<Simd> = match &arguments[..] {
        [] => Simd::available(),
        [flag, name] if flag == "--simd" => Simd::available().into_iter().filter(|simd| simd.name() == name).collect(),
        _ => {
            eprintln!("usage: exhaustive [--simd NAME]");
            std::process::exit(2);
        }
    };
    if paths.is_empty() {
        let available: Vec<&str> = Simd::available().into_iter().map(Simd::name).collect();
        eprintln!("this machine has {}", available.join(", "));
        std::process::exit(2);
    }
    let maxima: Vec<f32> = maxima().collect();
    let of_an_octave: Vec<f32> = maxima_of_an_octave().collect();
    for quotient in [Quotient::F32, Quotient::Source] {
        prove(&Cast::new(quotient, ScaleDtype::Bf16), &maxima, Weights::all, &paths);
        prove(&Cast::new(quotient, ScaleDtype::F32), &of_an_octave, Weights::significands, &paths);
    }
}

/// Checks every path at once under each of these absolute maxima, and says how many pairs there were.
///
/// The division that the paths are compared with takes longer than they do, so that it is made once for all of them.
fn prove(cast: &Cast, maxima: &[f32], weights: fn() -> Weights, paths: &[Simd]) {
    let start = Instant::now();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let pairs: u64 = thread::scope(|scope| {
        let parts: Vec<_> = maxima
            .chunks(maxima.len().div_ceil(threads))
            .map(|part| {
                scope.spawn(move || {
                    let mut weights = weights();
                    part.iter().map(|&amax| weights.check(cast, amax, paths)).sum::<u64>()
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().expect("every pair is equal")).sum()
    });
    let names: Vec<&str> = paths.iter().map(|simd| simd.name()).collect();
    println!("{cast}, {}: {pairs} pairs equal, {:.1} s", names.join(" and "), start.elapsed().as_secs_f64());
}
