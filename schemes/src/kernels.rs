//! The numerics: pure functions from the bytes of a weight to E4M3 bytes and scales.
//!
//! Every loop here is scalar code that LLVM vectorizes; [`Simd::run`](crate::Simd) compiles it once per instruction
//! set. All instruction sets give identical bytes, since no step depends on the width of a vector.

mod absmax;
mod band;
mod division;
mod e4m3;
mod element;
mod multiply;
mod scale;

pub use absmax::absmax;
pub(crate) use band::{Cast, Grouping, quantize};
