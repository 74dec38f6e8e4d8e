//! The numerics: pure functions from the bytes of a weight to the bytes of narrow numbers and their scales.
//!
//! The loops are scalar code that LLVM vectorizes, compiled once per instruction set, but for the cast that real
//! checkpoints need ([`table`]), which is written out. All instruction sets give identical bytes.

mod amax;
mod band;
mod cast;
mod decode;
mod degenerate_scales;
mod division;
mod e2m1;
mod e2m3;
mod e4m3;
mod element;
mod group;
mod integer;
mod keep;
mod lossless;
mod low_rank;
mod microscaling;
mod number;
mod nvfp4;
mod pack;
mod quotient;
mod rows;
mod scale;
mod search;
mod shrunken;
mod signed;
mod squares;
mod stored_scales;
mod table;
mod tally;
mod thresholds;
mod transposed;
mod walk;

pub use amax::{amax, non_finite};
pub(crate) use band::{Cast, Fp8Granularity, quantize};
pub use cast::cast_e4m3;
pub use decode::{CodeFormat, StoredCodes, decode};
pub use degenerate_scales::degenerate_scales;
pub(crate) use integer::{IntegerCast, IntegerOutputs, quantize_integers};
pub(crate) use keep::keep;
pub use lossless::lossy_granules;
pub use low_rank::{LowRank, convert, low_rank_scratch, merge_low_rank};
pub(crate) use microscaling::{MX_GROUP, MxElement, quantize_microscaled};
pub(crate) use nvfp4::{NVFP4_GROUP, Nvfp4Scales, quantize_nvfp4};
pub(crate) use pack::packed_bytes;
pub(crate) use scale::ScaleChoice;
pub(crate) use squares::{squared_differences, squares};
pub use stored_scales::{GlobalFactor, packed_down, packed_rows, scale_values};
pub use transposed::{WordOrder, WordStrip, unpack_codes, unpack_zeros};
