//! Recipes, good and bad, in both dialects. `recipe/stranger.rs` is a target of its own.

mod hostile;
mod llmcompressor;
mod mistakes;
mod ready;
mod schema;
mod upstream;
