//! Layers that servers fuse, as the file of a family lists them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name_pattern::NamePattern;

/// A layer that servers fuse of others (vLLM: packed modules): its parts have one scheme. One of a single part says that
/// this part stands alone, though another file has it in a fused layer.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownFused {
    /// The name of the fused layer, which some lists use for all of its parts: `qkv_proj`.
    #[schemars(length(min = 1))]
    pub layer: String,
    /// The names of its parts beside one another, in the order in which they lie in it: `[q_proj, k_proj, v_proj]`. One that lies
    /// in a module beside the others has that module's name before its own: `indexer.index_qk_proj`.
    #[schemars(length(min = 1))]
    pub parts: Vec<String>,
    /// The parts of which a server needs all where one is there; any other may be absent.
    #[serde(default)]
    pub needed_together: Vec<String>,
    /// Names under which checkpoints hold the layer fused already: `qkv`.
    #[serde(default)]
    pub on_disk_as: Vec<String>,
    /// The modules that hold the parts: `**.linear_attn`; without any, all.
    #[serde(default)]
    pub within: Vec<NamePattern>,
}

impl KnownFused {
    /// Reports whether a module of this name in `parent` is a part of the layer.
    pub fn has_part(&self, parent: &str, name: &str) -> bool {
        self.parts.iter().any(|part| part == name) && self.is_within(parent)
    }

    /// Reports whether the parts of the layer lie in this module.
    pub fn is_within(&self, parent: &str) -> bool {
        self.within.is_empty() || self.within.iter().any(|pattern| pattern.matches(parent))
    }
}
