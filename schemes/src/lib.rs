//! Quantization schemes of `qwen-fp8`: bytes in, bytes out.
//!
//! A scheme states from dtype and shape alone which tensors it writes ([`Scheme::outputs`]), and fills them band by
//! band ([`Scheme::quantize`]). This crate opens no file, starts no thread (but in [`conformance`]), prints nothing and
//! reads no environment; the instruction set is handed in ([`Simd`]).

#![warn(missing_docs)]

mod arguments;
mod band;
pub mod conformance;
mod dequantize;
mod float8;
mod fp8;
mod fp8_block;
mod fp8_dynamic;
mod integer;
mod kernels;
mod microscaling;
mod noise;
mod nvfp4;
mod output;
mod passthrough;
mod quantize_any;
mod registry;
mod scheme;
mod simd;

pub use arguments::{Dynamic, NumberKind, QuantizationArgs, Strategy};
pub use band::{Band, Matrix, SourceDtype};
#[doc(hidden)]
pub use inventory;
pub use kernels::{
    CodeFormat, GlobalFactor, LowRank, StoredCodes, WordOrder, WordStrip, amax, cast_e4m3, convert, decode,
    degenerate_scales, lossy_granules, low_rank_scratch, merge_low_rank, non_finite, packed_down, packed_rows,
    scale_values, unpack_codes, unpack_zeros,
};
pub use noise::{Noise, NoiseMeter};
pub use output::{Extent, MAX_OUTPUTS, TensorRole, TensorSpec};
pub use passthrough::{CarriedGranularity, CarriedScaleDtype, PassthroughOptions};
pub use registry::{BuildError, Make, Registration, ServerSupport, find, find_by_arguments, read_options, registered};
pub use safetensors::Dtype;
pub use scheme::{
    AmaxScope, DegenerateScales, Format, LossyGranule, LossyGranules, MissingKernel, NonFinite, NonFiniteCount,
    OnLossy, Scheme, ShapeError,
};
pub use simd::Simd;
