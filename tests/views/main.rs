//! Checkpoints that a recipe sees otherwise than they are stored, held against the same ones stored as they are seen.

mod experts;
mod float8;
mod scene;
