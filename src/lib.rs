//! `qwen-fp8` turns a BF16 Hugging Face checkpoint into an FP8 one that vLLM serves.
//!
//! A *recipe* and a *checkpoint* make a *plan*; a *run* carries the plan out; *checks* prove the result.
//! `docs/architecture.md` says what each part may know of the others.

#![forbid(unsafe_code)]

pub mod check;
pub mod checkpoint;
pub mod checksum;
mod cli;
pub mod finding;
pub mod init;
pub mod layer;
pub mod plan;
pub mod recipe;
mod remedy;
pub mod report;
pub mod run;
pub mod shown;
pub mod size;

pub use cli::main;
pub use qwen_fp8_schemes as schemes;
