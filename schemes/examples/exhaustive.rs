//! Proves the casts of BF16 by BF16 scales: all weights, all scales, both roundings of the quotient, every instruction
//! set of this machine, against a division and the `float8` crate's rounding.
//!
//! Of the 2^32 pairs of bit patterns these are the ones that can occur: finite weights, and scales that a finite maximum
//! leads to. Each instruction set and rounding takes about 20 seconds.
//!
//! `cargo run --release -p qwen-fp8-schemes --example exhaustive [-- --simd avx2]`

#[path = "../tests/pairs/mod.rs"]
mod all;

use std::time::Instant;

use all::{Quotient, Weights, scales, scheme};
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
            let (start, scheme) = (Instant::now(), scheme(quotient));
            let mut weights = Weights::new();
            let pairs: u64 = scales().map(|scale| weights.check(&*scheme, quotient, scale, &[simd])).sum();
            println!("{simd}, quotient {quotient:?}: {pairs} pairs equal, {:.1} s", start.elapsed().as_secs_f64());
        }
    }
}
