//! The quantization that a config declares, module by module.

use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, Storage, WeightForm};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::{LayerKind, Model, Part};
use qwen_fp8_checkpoint::pattern::Pattern;

/// The quantization that a server reads from `quantization_config`.
#[derive(Debug)]
pub(crate) struct DeclaredConfig {
    pub(crate) method: QuantMethod,
    pub(crate) ignored: IgnoreList,
    pub(super) model: Model,
    pub(super) groups: Vec<ConfigGroup>,
    /// Other forms that the method has beside that of its groups; the codes of a module tell.
    pub(super) others: Vec<DeclaredForm>,
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
    /// Parameter names of the scale; the first is the one to recommend.
    pub(crate) scales: &'static [&'static str],
}

/// The tensor that a module stores for its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoredActivations {
    /// None: activations are not quantized, or as they come.
    Nothing,
    /// `input_scale`, of static activations.
    Scale,
    /// `input_scale` or none: ModelOpt tells static activations by it.
    MayScale,
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
        // only under a target that names it, and for ModelOpt; `fp8` never builds a quantized head.
        let is_linear = matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts);
        let by_name = matches!(self.method, QuantMethod::CompressedTensors | QuantMethod::ModelOpt | QuantMethod::Gptq);
        let is_head = kind == LayerKind::LmHead && by_name;
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
        let is_class = is_linear || self.method == QuantMethod::ModelOpt;
        let by_class = || first(&|target| is_class && matches!(target, GroupTarget::Linear));
        by_name.or_else(by_class).map(|group| group.form)
    }
}

impl DeclaredConfig {
    /// Returns the form of a module whose codes these are, where its group declares this one: it, or another of the
    /// method that has such codes.
    pub(crate) fn of_codes(&self, declared: DeclaredForm, codes: &Tensor) -> DeclaredForm {
        let has = |form: &DeclaredForm| {
            let expected = form.weight.storage.codes();
            (expected.suffix, expected.dtype) == (codes.parameter(), codes.dtype)
        };
        let other = self.others.iter().find(|form| has(form)).filter(|_| !has(&declared));
        other.copied().unwrap_or(declared)
    }
}

impl DeclaredForm {
    /// Returns the form of weights whose scales have the names that their storage gives them.
    pub(super) fn new(storage: &'static dyn Storage, granularity: Granularity, activations: StoredActivations) -> Self {
        Self { weight: WeightForm { storage, granularity }, activations, scales: storage.scale_suffixes() }
    }
}
