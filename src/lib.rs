//! `qwen-fp8` turns a BF16 Hugging Face checkpoint into an FP8 one that vLLM serves.
//!
//! A *recipe* and a *checkpoint* make a *plan*; a *run* carries the plan out; *checks* prove the result.
//! `docs/architecture.md` says what each part may know of the others.

#![forbid(unsafe_code)]

mod cli;
pub mod doctor;
pub mod fit;
pub mod init;
pub mod plan;
pub mod recipe;
pub mod report;
pub mod run;

pub use cli::main;
pub use qwen_fp8_check as check;
pub use qwen_fp8_checkpoint as checkpoint;
pub use qwen_fp8_delta as delta;
pub use qwen_fp8_schemes as schemes;
