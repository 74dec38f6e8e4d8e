//! The tensors of a checkpoint by the module that they make up.

use std::collections::BTreeMap;

use safetensors::Dtype;

use qwen_fp8_checkpoint::models::{self, LayerKind};
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// A weight and the quantization tensors beside it.
#[derive(Debug)]
pub(super) struct Module<'a> {
    /// As lists and servers name it.
    pub(super) name: &'a str,
    pub(super) kind: LayerKind,
    /// Missing where a quantization tensor stands alone, and beside codes that are packed.
    pub(super) weight: Option<&'a Tensor>,
    /// In order of name.
    pub(super) companions: Vec<&'a Tensor>,
}

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// As floats of 16 bits or more.
    Plain,
    /// In few bits, which scales belong to.
    Coded,
    /// As something else.
    Other,
}

impl<'a> Module<'a> {
    /// The tensor that holds the weight, whatever it is stored as.
    pub(super) fn stored(&self) -> Option<&'a Tensor> {
        self.weight.or_else(|| self.companion("weight_packed"))
    }

    pub(super) fn companion(&self, parameter: &str) -> Option<&'a Tensor> {
        self.companions.iter().copied().find(|tensor| tensor.parameter() == parameter)
    }

    pub(super) fn is(&self, stored: Stored) -> bool {
        self.stored().is_some_and(|weight| Stored::of(weight) == stored)
    }
}

/// Every module with a weight or a quantization tensor, in order of name.
pub(super) fn modules(checkpoint: &Checkpoint) -> Vec<Module<'_>> {
    let mut modules: BTreeMap<&str, Module<'_>> = BTreeMap::new();
    for tensor in &checkpoint.tensors {
        let Some((owner, is_weight)) = owner(tensor) else { continue };
        let name = if models::is_expert_stack(owner) { models::split_name(owner).0 } else { owner };
        let empty = Module { name, kind: LayerKind::Other, weight: None, companions: Vec::new() };
        let module = modules.entry(owner).or_insert(empty);
        if is_weight {
            module.kind = tensor.kind();
            module.weight = Some(tensor);
        } else {
            module.companions.push(tensor);
        }
    }
    let mut modules: Vec<_> = modules.into_values().collect();
    for module in &mut modules {
        module.companions.sort_by(|a, b| a.name.cmp(&b.name));
        if module.weight.is_none() && module.stored().is_some() {
            module.kind = LayerKind::of(&format!("{}.weight", module.name), 2);
        }
    }
    modules
}

/// What a tensor belongs to, and whether it is the weight of it.
fn owner(tensor: &Tensor) -> Option<(&str, bool)> {
    let (module, parameter) = (tensor.module(), tensor.parameter());
    if parameter == "weight" {
        return Some((module, true));
    }
    if models::BESIDE_CODES.contains(&parameter) {
        return Some((module, false));
    }
    if tensor.kind() == LayerKind::Experts && models::is_expert_stack(&tensor.name) {
        return Some((&tensor.name, true));
    }
    let base = ["_scale_inv", "_scale"].iter().find_map(|suffix| tensor.name.strip_suffix(suffix));
    base.filter(|base| models::is_expert_stack(base)).map(|base| (base, false))
}

impl Stored {
    pub(super) fn of(weight: &Tensor) -> Self {
        match (weight.parameter(), weight.dtype) {
            ("weight_packed", _) | (_, Dtype::F8_E4M3 | Dtype::I8) => Self::Coded,
            (_, Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64) => Self::Plain,
            _ => Self::Other,
        }
    }
}
