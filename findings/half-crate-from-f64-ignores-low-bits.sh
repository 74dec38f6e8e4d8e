#!/usr/bin/env bash
# Version:   half 2.7.1 (crates.io), the bfloat16 of most Rust programs that read checkpoints. Needs `cargo`.
# Input:     float64 numbers at and just above the middle between two bfloat16 numbers, 1 and 1.0078125, to
#            `bf16::from_f64`. By the rule of rounding to nearest, whatever lies above the middle goes up, by however little.
# Behaviour: the function looks at the upper 32 bits of the number alone. What lies above the middle by 2^-20 goes up; by 2^-21
#            or less it counts as the middle and goes to the even neighbour, 1, the farther one. It is no rounding by way of
#            float32 either: `from_f32(x as f32)` goes up for all that float32 can tell from the middle, down to 2^-23.
#            `f16::from_f64` of the same crate has the same fault. Go by way of float32, and know that this rounds twice.
# Seen:      2026-11-28
seen="above the middle by 2^-20: from_f64 1.0078125, by way of f32 1.0078125; 2^-21: 1, 1.0078125; 2^-23: 1, 1.0078125; "
seen+="2^-25: 1, 1; the middle 1, 1; f16 above its middle by 2^-20: 1.0009766; 2^-21: 1"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/src"
cat >"$scratch/Cargo.toml" <<'TOML'
[package]
name = "shows"
version = "0.0.0"
edition = "2021"

[dependencies]
half = { version = "=2.7.1", default-features = false }
TOML
cat >"$scratch/src/main.rs" <<'RUST'
use half::{bf16, f16};

fn main() {
    let middle = 1.0 + 2f64.powi(-8);
    let both = |number: f64| (bf16::from_f64(number), bf16::from_f32(number as f32));
    let (direct, narrowed) = both(middle + 2f64.powi(-20));
    print!("above the middle by 2^-20: from_f64 {direct}, by way of f32 {narrowed}; ");
    for exponent in [21, 23, 25] {
        let (direct, narrowed) = both(middle + 2f64.powi(-exponent));
        print!("2^-{exponent}: {direct}, {narrowed}; ");
    }
    let (direct, narrowed) = both(middle);
    print!("the middle {direct}, {narrowed}; ");
    // The constant function is the portable one: the other may use an instruction of the processor.
    let middle = 1.0 + 2f64.powi(-11);
    let above = |exponent: i32| f16::from_f64_const(middle + 2f64.powi(-exponent));
    println!("f16 above its middle by 2^-20: {}; 2^-21: {}", above(20), above(21));
}
RUST
found=$(CARGO_TARGET_DIR="$scratch/target" cargo run --quiet --manifest-path "$scratch/Cargo.toml")
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "the crate half no longer rounds float64 as this script says" >&2
    exit 1
fi
