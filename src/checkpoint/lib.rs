//! A checkpoint: a directory of safetensors shards, its `config.json`, and the files beside them.
//!
//! Every byte of the directory is untrusted. Reading takes memory in proportion to the headers, opens one file at a
//! time, and refuses what different readers would understand differently.

#![forbid(unsafe_code)]

pub mod adapter;
mod checkpoint;
pub mod checksum;
pub mod config;
mod error;
pub mod experts;
pub mod header;
mod headers_file;
pub mod hf_quant_config;
pub mod hub;
pub mod index;
pub mod layout;
pub mod manifest;
pub mod model_card;
pub mod model_id;
pub mod model_meant;
pub mod models;
pub mod nearest_path;
mod open;
pub mod pattern;
mod place;
pub mod progress;
mod quantized;
pub mod remote;
mod shard;
mod shard_headers;
pub mod side_files;
pub mod smoke;
pub mod source;
pub mod store;
mod summary;
mod tensor;
pub mod text;

pub use checkpoint::Checkpoint;
pub use error::CheckpointError;
pub use headers_file::{HeadersFile, ShardHeader, SideFileSize, TensorHeader, is_headers_file};
pub use place::CheckpointPlace;
pub use shard::{Shard, ShardFile};
pub use summary::KindSummary;
pub use tensor::Tensor;
