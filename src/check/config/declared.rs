//! The quantization that a config declares, module by module.

use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, WeightForm};
use qwen_fp8_checkpoint::models::{LayerKind, Model, Part};
use qwen_fp8_checkpoint::pattern::Pattern;

/// The quantization that a server reads from `quantization_config`.
#[derive(Debug)]
pub(crate) struct DeclaredConfig {
    pub(crate) method: QuantMethod,
    pub(crate) ignored: IgnoreList,
    pub(super) model: Model,
    pub(super) groups: Vec<ConfigGroup>,
}

/// Modules that are stored alike.
#[derive(Debug)]
pub(super) struct ConfigGroup {
    pub(super) targets: Vec<GroupTarget>,
    pub(super) form: DeclaredForm,
}

/// The declared storage of a module: its weight's form, and what is stored of its activations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct DeclaredForm {
    pub(crate) weight: WeightForm,
    pub(crate) activations: StoredActivations,
}

/// The tensor that a module stores for its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredActivations {
    /// None: activations are not quantized, or as they come.
    Nothing,
    /// `input_scale`, of static activations.
    Scale,
    /// `input_global_scale`, of activations whose group scales are computed as they come.
    GlobalScale,
}

/// A target of a group.
#[derive(Debug)]
pub(super) enum GroupTarget {
    /// Every linear layer, and not the head: vLLM's class of a head is not `Linear`.
    Linear,
    /// A name as vLLM spells it.
    Name(String),
    Regex(Pattern),
}

impl DeclaredConfig {
    /// Returns the form in which a server builds the module; `None` for one that it builds unquantized.
    pub(crate) fn form(&self, module: &str, kind: LayerKind) -> Option<DeclaredForm> {
        if self.ignored.lists(module) { None } else { self.targeted(module, kind) }
    }

    /// Returns the form that the groups declare of the module, whether it is in the ignore list or not.
    pub(crate) fn targeted(&self, module: &str, kind: LayerKind) -> Option<DeclaredForm> {
        // vLLM passes a quantization to linear classes alone. A head is one of them only for compressed-tensors, and
        // only under a target that names it: `fp8` never builds a quantized head.
        let is_linear = matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts);
        let is_head = kind == LayerKind::LmHead && self.method == QuantMethod::CompressedTensors;
        let is_never_asked = self.model.part(module) == Some(Part::Unquantized);
        if !is_linear && !is_head || is_never_asked {
            return None;
        }
        let served = self.model.served_name(module);
        let first = |hits: &dyn Fn(&GroupTarget) -> bool| {
            let hits_group = |group: &&ConfigGroup| group.targets.iter().any(hits);
            self.groups.iter().find(hits_group)
        };
        // In vLLM a name wins over a class, whatever the order of the groups.
        let by_name = first(&|target| match target {
            GroupTarget::Linear => false,
            GroupTarget::Name(name) => *name == served,
            // A regex that gives up was reported when it was read.
            GroupTarget::Regex(regex) => regex.matches(&served, LayerKind::Other).unwrap_or(false),
        });
        let by_class = || first(&|target| is_linear && matches!(target, GroupTarget::Linear));
        by_name.or_else(by_class).map(|group| group.form)
    }
}

impl DeclaredForm {
    /// Returns the parameter name of the scale.
    pub(crate) fn scale_suffix(&self, method: QuantMethod) -> &'static str {
        match (method, self.weight.granularity) {
            // DeepSeek's name, which vLLM wants for blocks of the `fp8` method; with the other it knows no such
            // parameter.
            (QuantMethod::Fp8, Granularity::Block(_)) => "weight_scale_inv",
            _ => self.weight.storage.scale_suffix(),
        }
    }
}
