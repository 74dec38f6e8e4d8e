//! Layers that servers fuse into one matrix or one kernel call (vLLM: packed modules), and which have one scheme.

use super::catalogue::KnownFused;
use super::kind::split_name;
use super::model::Model;

/// The fused layer that a module is a part of: all experts of a layer, or a fused layer of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FusedLayer<'a> {
    /// The layer's name up to `.experts.`.
    Experts(&'a str),
    /// The parent's name, and the name of the fused layer in it.
    Parts { parent: &'a str, layer: &'a str },
}

impl Model {
    /// Returns the fused layer that the module is a part of, if any; an expert's are parts of all experts.
    pub fn fused_layer<'a>(&'a self, module: &'a str) -> Option<FusedLayer<'a>> {
        // What has no number behind `experts` belongs to no expert, such as a norm of all.
        if let Some((layer, expert)) = module.split_once(".experts.")
            && expert.starts_with(|c: char| c.is_ascii_digit())
        {
            return Some(FusedLayer::Experts(layer));
        }
        let (fused, parent) = self.part_of(module)?;
        Some(FusedLayer::Parts { parent, layer: &fused.layer })
    }

    /// Returns what is known of the fused layer that the module is a part of.
    pub fn fused(&self, module: &str) -> Option<&KnownFused> {
        self.part_of(module).map(|(fused, _)| fused)
    }

    /// Returns the fused layer that the module is a part of, and the module that holds all parts.
    fn part_of<'m, 'n>(&'m self, module: &'n str) -> Option<(&'m KnownFused, &'n str)> {
        let places = places(module);
        self.known_fused().find_map(|fused| {
            let (parent, _) = places.iter().find(|(parent, name)| fused.has_part(parent, name))?;
            Some((fused, *parent))
        })
    }

    /// Returns the fused layer that the module is, with its parts beside it or as a whole.
    pub fn fused_as(&self, module: &str) -> Option<&KnownFused> {
        let (parent, name) = split_name(module);
        self.known_fused().find(|fused| fused.layer == name && fused.is_within(parent))
    }

    /// Returns the names of fused layers that a list may have in place of the module's.
    pub fn fused_names<'a>(&'a self, module: &'a str) -> impl Iterator<Item = &'a str> {
        let (parent, name) = split_name(module);
        let stands_for = move |fused: &&KnownFused| {
            fused.has_part(parent, name) || fused.is_within(parent) && fused.on_disk_as.iter().any(|disk| disk == name)
        };
        self.known_fused().filter(stands_for).map(|fused| fused.layer.as_str())
    }

    /// Returns how many parts the projection of this name has; 1 for one that is not fused.
    pub fn parts_of_fused(&self, projection: &str) -> usize {
        self.known_fused().find(|fused| fused.layer == projection).map_or(1, |fused| fused.parts.len())
    }

    /// Reports whether another part of the same fused layer lies behind this one.
    pub fn has_parts_behind(&self, module: &str, is_there: impl Fn(&str) -> bool) -> bool {
        let Some((fused, parent)) = self.part_of(module) else { return false };
        let name = module[parent.len()..].trim_start_matches('.');
        fused.parts.iter().skip_while(|part| *part != name).skip(1).any(|part| is_there(&format!("{parent}.{part}")))
    }
}

/// The modules that may hold the one of this name as a part of a fused layer, and its name there: a part may be named by its last
/// two parts, such as `indexer.index_qk_proj`.
fn places(module: &str) -> [(&str, &str); 2] {
    let (parent, name) = split_name(module);
    let (above, _) = split_name(parent);
    let below = if above.is_empty() { module } else { &module[above.len() + 1..] };
    [(parent, name), (above, below)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::catalogue::parse;

    #[test]
    fn a_layer_of_one_part_stands_alone() {
        let text = "name: x\nfused:\n- {layer: q_a_proj, parts: [q_a_proj]}";
        let model = Model::of_families(vec![parse("x.yaml", text).unwrap()]);
        let layer = |module: &str| model.fused(module).map(|fused| fused.parts.len());
        assert_eq!((layer("a.self_attn.q_a_proj"), layer("a.self_attn.kv_a_proj_with_mqa")), (Some(1), Some(2)));
        // The gate of attention, in every model.
        assert_eq!((layer("a.self_attn.gate_proj"), layer("a.mlp.gate_proj")), (Some(1), Some(2)));
    }

    #[test]
    fn a_part_may_lie_in_a_module_below() {
        let text = "name: x\nfused:\n- {layer: qkv_proj, parts: [q_proj, k_proj, v_proj, indexer.qk_proj]}";
        let model = Model::of_families(vec![parse("x.yaml", text).unwrap()]);
        let parts = FusedLayer::Parts { parent: "a.self_attn", layer: "qkv_proj" };
        assert_eq!(model.fused_layer("a.self_attn.indexer.qk_proj"), Some(parts));
        assert_eq!(model.fused_layer("a.self_attn.q_proj"), Some(parts));
        assert_eq!(model.fused_layer("a.indexer.qk_norm"), None);
        assert!(model.has_parts_behind("a.self_attn.v_proj", |name| name == "a.self_attn.indexer.qk_proj"));
        assert!(!model.has_parts_behind("a.self_attn.indexer.qk_proj", |_| true));
    }

    #[test]
    fn the_nearest_file_says_what_is_fused() {
        let text = "name: x\nfused:\n- {layer: qkvg_proj, parts: [q_proj, k_proj, v_proj, g_proj], within: ['**.linear_attn']}";
        let model = Model::of_families(vec![parse("x.yaml", text).unwrap()]);
        let of = |module: &str| model.fused(module).map(|fused| fused.layer.as_str());
        assert_eq!(of("model.layers.0.linear_attn.k_proj"), Some("qkvg_proj"));
        assert_eq!(of("model.layers.0.self_attn.k_proj"), Some("qkv_proj"));
        assert_eq!(of("model.layers.0.self_attn.g_proj"), None);
        let parts = FusedLayer::Parts { parent: "a.linear_attn", layer: "qkvg_proj" };
        assert_eq!(model.fused_layer("a.linear_attn.q_proj"), Some(parts));
        assert_eq!(model.fused_layer("a.experts.3.up_proj"), Some(FusedLayer::Experts("a")));
        assert_eq!(model.fused_layer("a.experts.post_expert_norm"), None);
        assert!(model.has_parts_behind("a.linear_attn.v_proj", |name| name == "a.linear_attn.g_proj"));
        assert!(!model.has_parts_behind("a.self_attn.v_proj", |_| true));
        assert_eq!(model.fused_names("a.attn.qkv").collect::<Vec<_>>(), ["qkv_proj"]);
        assert_eq!((model.parts_of_fused("gate_up_proj"), model.parts_of_fused("down_proj")), (2, 1));
    }
}
