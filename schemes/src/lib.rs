//! Quantization schemes of `qwen-fp8`: bytes in, bytes out.
//!
//! A scheme states from dtype and shape alone which tensors it writes ([`Scheme::outputs`]), and fills them band by
//! band ([`Scheme::quantize`]). This crate opens no file, starts no thread (but in [`conformance`]), prints nothing and
//! reads no environment; the instruction set is handed in ([`Simd`]).

mod arguments;
pub mod conformance;
mod dequantize;
mod float8;
mod fp8;
mod fp8_block;
mod fp8_dynamic;
mod integer;
mod kernels;
mod microscaling;
mod mxfp4;
mod mxfp8;
mod nvfp4a16;
mod passthrough;
mod registry;
mod scheme;
mod simd;
mod w4a16_asym;
mod w4afp8;
mod w8a8;
mod wna16;
mod wna4;
mod wna8;

pub use arguments::{Dynamic, NumberKind, QuantizationArgs, Strategy};
#[doc(hidden)]
pub use inventory;
pub use kernels::{Fp8Codes, absmax, cast_e4m3, decode, non_finite, odd_scales};
pub use registry::{BuildError, Make, Registration, ServerSupport, find, find_by_arguments, read_options, registered};
pub use safetensors::Dtype;
pub use scheme::{
    AmaxScope, Band, Extent, Format, MAX_OUTPUTS, Matrix, NonFinite, NonFiniteCount, OddScales, Role, Scheme,
    ShapeError, SourceDtype, TensorSpec,
};
pub use simd::Simd;
