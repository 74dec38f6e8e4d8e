//! All that is known of model architectures: kinds of layers, fused layers, stacked experts, towers, families.

mod kind;

pub use kind::*;
