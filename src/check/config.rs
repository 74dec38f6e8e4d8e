//! The reading of `quantization_config`: the modules that it declares as quantized, and the tensors they must have.
//!
//! Configs are read as vLLM reads them, since it is the strictest of the servers and the one that fails silently.
//! What is wrong with a config is a [`ConfigFault`]; which rule that breaks is for `rules/q1_config.rs` to say.

mod arguments;
mod compressed_tensors;
mod fault;
mod fp8;
mod ignore_list;

use serde_json::Value;

use crate::decode::{Granularity, WeightForm};
use qwen_fp8_checkpoint::config::Config;
use qwen_fp8_checkpoint::models::{LayerKind, served_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::{sentence, shown};

pub(crate) use fault::{ConfigFault, FaultKind};
pub(crate) use ignore_list::{EntryReading, IgnoreEntry, IgnoreList};

/// The quantization that a server reads from `quantization_config`.
#[derive(Debug)]
pub(crate) struct DeclaredConfig {
    pub(crate) method: QuantMethod,
    pub(crate) ignored: IgnoreList,
    groups: Vec<ConfigGroup>,
}

/// The value of `quant_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuantMethod {
    Fp8,
    CompressedTensors,
}

/// Modules that are stored alike.
#[derive(Debug)]
struct ConfigGroup {
    targets: Vec<GroupTarget>,
    form: DeclaredForm,
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
enum GroupTarget {
    /// Every linear layer, and not the head: vLLM's class of a head is not `Linear`.
    Linear,
    /// A name as vLLM spells it.
    Name(String),
    Regex(Pattern),
}

impl DeclaredConfig {
    /// Reads what a config declares; `None` where it declares nothing, or nothing that can be checked.
    pub(crate) fn read(config: &Config, faults: &mut Vec<ConfigFault>) -> Option<Self> {
        let text = config.quantization_config()?;
        // Read as a value and not into types: every fault is to be found, where a type would end with the first one.
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("`quantization_config` cannot be read: {}", sentence(&error.to_string()));
                faults.push(ConfigFault::invalid(message, ""));
                return None;
            }
        };
        let method = value.get("quant_method").and_then(Value::as_str);
        match method {
            Some("fp8") => fp8::read(&value, faults),
            Some("compressed-tensors") => compressed_tensors::read(&value, faults),
            Some(other) => {
                let message = format!("the quantization method {} is not checked", shown(other));
                faults.push(ConfigFault::unchecked(message, "/quant_method"));
                None
            }
            None => {
                let message = "`quant_method` is missing: no server knows how to read the weights";
                faults.push(ConfigFault::invalid(message, "/quant_method"));
                None
            }
        }
    }

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
        if !is_linear && !is_head {
            return None;
        }
        let served = served_name(module);
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

/// Weights of the smallest block. Fewer under one scale are no block format that anything reads, and the scales of
/// [1, 1] blocks would take more memory than the weights.
const SMALLEST_BLOCK: usize = 128;

/// Reads two positive sides of a block of [`SMALLEST_BLOCK`] weights or more.
fn block(value: &Value) -> Option<[usize; 2]> {
    let [height, width] = value.as_array()?.as_slice() else { return None };
    let side = |value: &Value| {
        let side = usize::try_from(value.as_u64()?).ok()?;
        (side > 0).then_some(side)
    };
    let sides = [side(height)?, side(width)?];
    (sides[0].saturating_mul(sides[1]) >= SMALLEST_BLOCK).then_some(sides)
}

/// Reports a block that servers have no kernels for.
fn check_block(block: [usize; 2], pointer: &str, faults: &mut Vec<ConfigFault>) {
    // DeepGEMM, CUTLASS and the Marlin block path are all tied to 128.
    if block != [128, 128] {
        let message = format!("blocks of {} × {}: servers have kernels for 128 × 128 only", block[0], block[1]);
        faults.push(ConfigFault::unusual(message, pointer));
    }
}

/// Escapes a key for a JSON pointer.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
