//! A run writes what its plan says, or nothing.

mod adapters;
mod apply;
mod cache_scales;
mod carried_scales;
mod cut_rows;
mod deal;
mod experts;
mod failures;
mod float8;
mod fused;
mod lossless;
mod lossless_nvfp4;
mod manifest;
mod measure;
mod mxfp4_stacks;
mod nonfinite;
mod output;
mod parts;
mod proof;
mod quantized_sources;
mod resume;
mod source_changes;
mod stacks;
mod transposed;
