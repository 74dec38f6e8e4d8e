//! The tensors of a checkpoint by the module that they make up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use super::storage::{is_auxiliary, is_codes, is_packed_codes};
use qwen_fp8_checkpoint::models::{self, LayerKind, Model};
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// A weight and the quantization tensors beside it.
#[derive(Debug)]
pub(crate) struct Module<'a> {
    /// The name that lists and servers use.
    pub(crate) name: &'a str,
    pub(crate) kind: LayerKind,
    /// The tensor called `weight`; `None` where packed codes have another name or quantization tensors stand alone.
    pub(crate) weight: Option<&'a Tensor>,
    /// The quantization tensors, in order of name; codes under another name than `weight` are among them.
    pub(crate) auxiliary: Vec<&'a Tensor>,
}

/// The state of a stored weight, as far as its name and dtype tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WeightState {
    /// Floats of 16 bits or more.
    Unquantized,
    /// Codes of some storage form.
    Quantized,
    /// Something else.
    Unknown,
}

impl<'a> Module<'a> {
    /// Returns the tensor that holds the weight, whether as floats or as codes.
    pub(crate) fn stored(&self) -> Option<&'a Tensor> {
        self.weight.or_else(|| self.auxiliary.iter().copied().find(|tensor| is_packed_codes(tensor.parameter())))
    }

    /// Returns the quantization tensor with this parameter name.
    pub(crate) fn auxiliary(&self, parameter: &str) -> Option<&'a Tensor> {
        self.auxiliary.iter().copied().find(|tensor| tensor.parameter() == parameter)
    }

    /// Reports whether the module has a weight that is stored so.
    pub(crate) fn is(&self, state: WeightState) -> bool {
        self.stored().is_some_and(|weight| WeightState::of(weight) == state)
    }
}

/// Collects every module that has a weight or a quantization tensor, in order of name.
pub(crate) fn modules(checkpoint: &Checkpoint) -> Vec<Module<'_>> {
    let mut modules: BTreeMap<&str, Module<'_>> = BTreeMap::new();
    let with_codes: BTreeSet<&str> = checkpoint
        .tensors
        .iter()
        .filter(|tensor| WeightState::of(tensor) == WeightState::Quantized)
        .map(Tensor::module)
        .collect();
    for tensor in &checkpoint.tensors {
        // DeepSeek-V4, AWQ and GPTQ call scales so, and others the factor of a norm.
        let is_scale = matches!(tensor.parameter(), "scale" | "scales") && with_codes.contains(tensor.module());
        let owner = if is_scale { Some((tensor.module(), false)) } else { owner(tensor, &checkpoint.model) };
        let Some((owner, is_weight)) = owner else { continue };
        // All stacks of a layer's experts are one module to a server and to lists, whether their layout is known or not.
        let is_stack = tensor.kind() == LayerKind::Experts || checkpoint.model.stack(owner).is_some();
        let experts = is_stack.then(|| checkpoint.model.experts_of_stack(owner));
        let name = if let Some(Cow::Borrowed(experts)) = experts { experts } else { owner };
        let empty = Module { name, kind: LayerKind::Other, weight: None, auxiliary: Vec::new() };
        let module = modules.entry(owner).or_insert(empty);
        if is_weight {
            module.kind = tensor.kind();
            module.weight = Some(tensor);
        } else {
            module.auxiliary.push(tensor);
        }
    }
    let mut modules: Vec<_> = modules.into_values().collect();
    for module in &mut modules {
        module.auxiliary.sort_by(|a, b| a.name.cmp(&b.name));
        if module.weight.is_none() && module.stored().is_some() {
            // The kind follows from the name that the weight would have unpacked.
            module.kind = checkpoint.model.layer(&format!("{}.weight", module.name), 2).kind;
        }
    }
    modules
}

/// Returns the module that a tensor belongs to, and whether it is its weight.
fn owner<'t>(tensor: &'t Tensor, model: &Model) -> Option<(&'t str, bool)> {
    let (module, parameter) = (tensor.module(), tensor.parameter());
    if parameter == "weight" {
        return Some((module, true));
    }
    // The second question knows names that no storage form here has, of AWQ, GPTQ and ModelOpt: without them, such
    // tensors would be taken for ordinary ones and Q307 would say nothing.
    if is_auxiliary(parameter) || models::is_beside_codes(parameter) {
        return Some((module, false));
    }
    if tensor.kind() == LayerKind::Experts {
        return Some((&tensor.name, true));
    }
    // A stack has no `.weight`, so that its scale is the stack's name with a suffix.
    let base = ["_scale_inv", "_scale"].iter().find_map(|suffix| tensor.name.strip_suffix(suffix));
    base.filter(|base| model.stack(base).is_some()).map(|base| (base, false))
}

impl WeightState {
    /// Returns the state of the weight that a tensor holds.
    pub(crate) fn of(weight: &Tensor) -> Self {
        if is_codes(weight.parameter(), weight.dtype) {
            return Self::Quantized;
        }
        match weight.dtype {
            Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64 => Self::Unquantized,
            _ => Self::Unknown,
        }
    }
}
