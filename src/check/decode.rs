//! Decoding: the bytes of a quantized weight's tensors, and the values they stand for.
//!
//! This is a second decoder, written without the kernels that quantize and from other sources: the OCP formats by
//! their definitions, tables instead of arithmetic. Were it shared, an error of the kernels would decode to what was
//! meant and no proof could find it.

mod block_stack;
mod codebook;
mod element;
mod granularity;
mod meter;
mod modules;
mod packing;
mod quantized_weight;
mod shards;
mod small_reads;
mod storage;
mod transposed;

pub(crate) use block_stack::{BLOCK_STACK, BlockBuffers, bad_scales, decode_row};
pub(crate) use codebook::Codebook;
pub(crate) use element::{SCALE_FLOATS, narrow, round, round_to_bf16, widen, widen_into, width};
pub(crate) use granularity::Granularity;
pub(crate) use meter::Meter;
pub(crate) use modules::{Module, WeightState, modules};

pub(crate) use quantized_weight::{QparamsRange, QuantizedWeight, Scratch, WeightForm};
pub(crate) use shards::{Piece, Shards, pieces, ranges};
pub(crate) use storage::{
    AuxRole, AuxTensor, Extremes, OfficialForm, Qparams, SearchedError, Storage, Strategies, Symmetry,
    TransposedStorage, TransposedWords, in_format, is_packed_codes, official,
};
