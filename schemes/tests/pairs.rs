//! A slice of all pairs of a BF16 weight and a BF16 scale; `cargo run --release -p qwen-fp8-schemes --example exhaustive`
//! does them all.

#[path = "pairs/mod.rs"]
mod all;

use all::{Quotient, Weights, scales, scheme};
use qwen_fp8_schemes::Simd;

#[test]
fn every_97th_scale_and_those_at_the_ends() {
    let paths = Simd::available();
    let mut weights = Weights::new();
    let count = scales().count();
    for quotient in [Quotient::F32, Quotient::Source] {
        let scheme = scheme(quotient);
        // 97 has no factor in common with the 128 significands: all of them come.
        for (index, scale) in scales().enumerate() {
            if index % 97 == 0 || index < 10 || index + 10 > count {
                weights.check(&*scheme, quotient, scale, &paths);
            }
        }
    }
}
