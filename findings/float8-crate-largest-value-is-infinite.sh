#!/usr/bin/env bash
# Version:   float8 0.7.0 (crates.io), the 8 bit floats of several Rust programs for inference. Needs `cargo`.
# Input:     448 as E4M3, 57344 as E5M2, and the byte 0x7C as E5M2. By the OCP specification of 8 bit floating point (OFP8),
#            448 and 57344 are the largest finite numbers of the two formats, E4M3 has no infinity, and 0x7C is the infinity
#            of E5M2.
# Behaviour: the crate takes the largest finite number for the infinity. `MAX` is the number below it (416 and 49152), so that
#            `clamp(MIN, MAX)` makes 448 smaller; `is_infinite` is true for 448 and for 57344; and the one real infinity
#            counts as finite. The conversions from and to float32 are right, so a round trip shows nothing of this; but a row
#            that is quantized with a scale of amax / 448 holds a 448, and a check for infinite weights reports it.
# Seen:      2026-11-28
seen="E4M3: MAX 416, 448 is byte 0x7e, infinite true, above MAX true, clamped 416; "
seen+="E5M2: MAX 49152, 57344 infinite true; byte 0x7C is inf, infinite false, finite true"
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
float8 = "=0.7.0"
TOML
cat >"$scratch/src/main.rs" <<'RUST'
use float8::{F8E4M3, F8E5M2};

fn main() {
    let largest = F8E4M3::from_f32(448.0);
    print!(
        "E4M3: MAX {}, {} is byte {:#x}, infinite {}, above MAX {}, clamped {}; ",
        F8E4M3::MAX.to_f32(),
        largest.to_f32(),
        largest.to_bits(),
        largest.is_infinite(),
        largest > F8E4M3::MAX,
        largest.clamp(F8E4M3::MIN, F8E4M3::MAX).to_f32(),
    );
    let largest = F8E5M2::from_f32(57344.0);
    let infinity = F8E5M2::from_bits(0x7C);
    println!(
        "E5M2: MAX {}, {} infinite {}; byte 0x7C is {}, infinite {}, finite {}",
        F8E5M2::MAX.to_f32(),
        largest.to_f32(),
        largest.is_infinite(),
        infinity.to_f32(),
        infinity.is_infinite(),
        infinity.is_finite(),
    );
}
RUST
found=$(CARGO_TARGET_DIR="$scratch/target" cargo run --quiet --manifest-path "$scratch/Cargo.toml")
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "the crate float8 no longer takes the largest finite numbers for infinities as this script says" >&2
    exit 1
fi
