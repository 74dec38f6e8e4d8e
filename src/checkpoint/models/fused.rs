//! Layers that servers fuse into one matrix or one kernel call (vLLM: packed modules), and which have one scheme.

use super::kind::split_name;

/// The parts of each fused layer, in the order in which they lie in it.
pub const FUSED: &[&[&str]] = &[
    &["q_proj", "k_proj", "v_proj"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
    &["in_proj_qkv", "in_proj_z"],
    &["in_proj_b", "in_proj_a"],
];

/// The name of a fused layer that some lists use, and the parts it stands for.
pub const FUSED_NAMES: &[(&str, &[&str])] =
    &[("qkv_proj", &["q_proj", "k_proj", "v_proj", "qkv"]), ("gate_up_proj", &["gate_proj", "up_proj"])];

/// Pairs of parts of which a server needs both.
pub const FUSED_PAIRS: [[&str; 2]; 2] = [["k_proj", "v_proj"], ["gate_proj", "up_proj"]];

/// The fused layer that a module is a part of: all experts of a layer, or a fused layer of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FusedLayer<'a> {
    /// The layer's name up to `.experts.`.
    Experts(&'a str),
    /// The parent's name, and which entry of [`FUSED`].
    Parts { parent: &'a str, set: usize },
}

/// Returns the fused layer that the module is a part of, if any.
pub fn fused_layer(module: &str) -> Option<FusedLayer<'_>> {
    if let Some((layer, _)) = module.split_once(".experts.") {
        return Some(FusedLayer::Experts(layer));
    }
    let (parent, last) = split_name(module);
    let set = FUSED.iter().position(|set| set.contains(&last))?;
    Some(FusedLayer::Parts { parent, set })
}

/// Returns how many parts the fused layer of this name has; 1 for a layer that is not fused.
pub fn parts_of_fused(name: &str) -> usize {
    FUSED_NAMES.iter().find(|(fused, _)| *fused == name).map_or(1, |(_, parts)| parts.len())
}
