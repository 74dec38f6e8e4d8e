//! The catalogue of models: its files, and what they say against the facts that were taken from transformers and vLLM.

mod facts;
mod files;
mod next_tokens;
mod own;
mod own_patterns;
mod page;
mod parallel;
mod registry;
mod sglang;
