//! `qwen-fp8` turns a BF16 Hugging Face checkpoint into an FP8 one that vLLM serves.
//!
//! A *recipe* and a *checkpoint* make a *plan*; a *run* carries the plan out; *checks* prove the result.

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod finding;
pub mod layer;
pub mod plan;
pub mod recipe;
pub mod run;

pub use qwen_fp8_schemes as schemes;
