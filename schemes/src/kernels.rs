//! The numerics: pure functions from the bytes of a weight to E4M3 bytes and scales.
//!
//! The loops are scalar code that LLVM vectorizes, compiled once per instruction set, but for the cast that real
//! checkpoints need ([`multiply`]), which is written out. All instruction sets give identical bytes.

mod absmax;
mod band;
mod division;
mod e4m3;
mod element;
#[cfg(target_arch = "x86_64")]
mod multiply;
mod scale;

pub use absmax::absmax;
pub(crate) use band::{Cast, Grouping, quantize};
