//! Proves the casts of BF16 to E4M3: both roundings of the quotient, every instruction set of this machine, against a
//! division and the `float8` crate's rounding.
//!
//! Under BF16 scales these are all pairs that can occur: finite weights, and scales that a finite maximum leads to. F32
//! scales have 2^23 significands, and each weight has one of 128: these are all their pairs, in one octave.
//!
//! Each instruction set and rounding takes about half a minute.
//!
//! `cargo run --release -p qwen-fp8-schemes --example exhaustive [-- --simd avx2]`

#[path = "../tests/division_free_cast/all.rs"]
mod all;

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
    for quotient in [Quotient::F32, Quotient::Source] {
        for &simd in &paths {
            let (start, cast) = (Instant::now(), Cast::new(quotient, ScaleDtype::Bf16));
            let mut weights = Weights::all();
            let pairs: u64 = maxima().map(|amax| weights.check(&cast, amax, &[simd])).sum();
            let under_bf16 = start.elapsed().as_secs_f64();
            println!("{simd}, quotient {quotient:?}, BF16 scales: {pairs} pairs equal, {under_bf16:.1} s");
            let (start, cast) = (Instant::now(), Cast::new(quotient, ScaleDtype::F32));
            let mut weights = Weights::significands();
            let pairs: u64 = maxima_of_an_octave().map(|amax| weights.check(&cast, amax, &[simd])).sum();
            let under_f32 = start.elapsed().as_secs_f64();
            println!("{simd}, quotient {quotient:?}, F32 scales: {pairs} pairs equal, {under_f32:.1} s");
        }
    }
}
