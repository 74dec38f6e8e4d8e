//! A checkpoint as the rules see it, and what several families ask of it.

use safetensors::Dtype;

use crate::config::DeclaredConfig;
use crate::decode::{Module, Shards};
use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// A checkpoint as the structural rules see it.
pub(crate) struct Subject<'s, 'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) shards: &'s Shards,
    pub(crate) declared: &'s DeclaredConfig,
    pub(crate) modules: &'s [Module<'a>],
}

/// Reports whether servers build a layer of this kind quantized where config.json declares a quantization.
pub(super) fn is_quantizable(kind: LayerKind) -> bool {
    matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts | LayerKind::LmHead)
}

/// Returns the word for codes in messages, before it is known which form they have.
pub(super) fn word(codes: &Tensor) -> &'static str {
    if codes.dtype == Dtype::F8_E4M3 { "FP8" } else { "quantized" }
}
