//! Recipes, good and bad, in both dialects. Schemes of strangers are in a target of their own.

mod hostile;
mod llmcompressor;
mod mistakes;
mod ready;
mod schema;
mod upstream;
