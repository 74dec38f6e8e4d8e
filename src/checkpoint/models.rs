//! All that is known of model architectures: kinds of layers, fused layers, stacked experts, towers, quantization
//! tensors, families, and how servers name and split layers.
//!
//! The engine and the checks read the same facts here. A fact is data about models and servers, proven against them;
//! the arithmetic that `check` proves independently is no part of it.

mod auxiliary;
pub mod catalogue;
mod experts;
mod fused;
mod heads;
mod kind;
mod layer;
mod lora;
mod model;
mod parallel;
mod part;
mod prediction;
mod projections;
mod served;
mod stored_fused;

pub use auxiliary::{is_beside_codes, is_beside_quantized_weight, is_only_of_quantized_layers, is_scale_of_cache};
pub use experts::{expert_stack, is_down_projection, layers_of_first_expert};
pub use fused::FusedLayer;
pub use heads::AttentionHeads;
pub use kind::{LayerKind, split_name, target_name};
pub use layer::Layer;
pub use lora::{has_lora_of_its_own, is_lora};
pub use model::Model;
pub use parallel::{ParallelSplit, parallel_split};
pub use part::Part;
pub use prediction::mtp_part;
pub use served::is_head;
