//! What `quantization_config` declares: which modules are quantized, and how their tensors must look.

mod compressed_tensors;
mod fp8;
mod list;
mod weights;

use serde_json::Value;

use super::finding::Finding;
use super::grid::Grid;
use super::rules;
use super::storage::{Kind, Storage};
use qwen_fp8_checkpoint::config::Config;
use qwen_fp8_checkpoint::models::{LayerKind, served_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::{sentence, shown};

pub(super) use list::{Entry, IgnoreList, Reads};

/// What a server makes of `quantization_config`.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) method: Method,
    pub(super) list: IgnoreList,
    pub(super) groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Fp8,
    CompressedTensors,
}

/// Modules that are stored alike.
#[derive(Debug)]
pub(super) struct Group {
    targets: Vec<Target>,
    pub(super) form: Form,
}

/// How the weights of a group are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) kind: Kind,
    pub(super) grid: Grid,
    pub(super) inputs: Inputs,
}

/// What of a layer's activations is stored beside its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inputs {
    Nothing,
    /// A scale.
    Static,
    /// The scale of the scales.
    Local,
}

#[derive(Debug)]
enum Target {
    /// Every linear layer; not the head, whose class is another one.
    Linear,
    /// A name as vLLM spells it.
    Name(String),
    Regex(Pattern),
}

impl Declared {
    /// Reads what a config declares; `None` where nothing is declared, or nothing that can be checked.
    pub(super) fn read(config: &Config, findings: &mut Vec<Finding>) -> Option<Self> {
        let text = config.quantization_config()?;
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("`quantization_config` cannot be read: {}", sentence(&error.to_string()));
                findings.push(Finding::new(&rules::BAD_CONFIG, message).config(""));
                return None;
            }
        };
        let method = value.get("quant_method").and_then(Value::as_str);
        match method {
            Some("fp8") => fp8::read(&value, findings),
            Some("compressed-tensors") => compressed_tensors::read(&value, findings),
            Some(other) => {
                let message = format!("the quantization method {} is not checked", shown(other));
                findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).config("/quant_method"));
                None
            }
            None => {
                let message = "`quant_method` is missing, so that no server knows how to read the weights";
                findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/quant_method"));
                None
            }
        }
    }

    /// The form that a server gives the module; `None` for one that it builds unquantized.
    pub(super) fn form(&self, module: &str, kind: LayerKind) -> Option<Form> {
        if self.list.lists(module) { None } else { self.targeted(module, kind) }
    }

    /// As [`Declared::form`], as if nothing were listed.
    pub(super) fn targeted(&self, module: &str, kind: LayerKind) -> Option<Form> {
        // Classes that vLLM passes a quantization to. Its head is one for compressed-tensors and a named target alone.
        let is_linear = matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts);
        let is_head = kind == LayerKind::LmHead && self.method == Method::CompressedTensors;
        if !is_linear && !is_head {
            return None;
        }
        let served = served_name(module);
        let first = |hits: &dyn Fn(&Target) -> bool| self.groups.iter().find(|group| group.targets.iter().any(hits));
        // In vLLM the name decides before the class, whatever the order of the groups.
        let by_name = first(&|target| match target {
            Target::Linear => false,
            Target::Name(name) => *name == served,
            // A regex that gives up is reported where it is read.
            Target::Regex(regex) => regex.matches(&served, LayerKind::Other).unwrap_or(false),
        });
        let by_class = || first(&|target| is_linear && matches!(target, Target::Linear));
        by_name.or_else(by_class).map(|group| group.form)
    }
}

impl Form {
    pub(super) fn storage(&self) -> &dyn Storage {
        self.kind.storage()
    }

    /// What the scale is called after the module's name.
    pub(super) fn scale_name(&self, method: Method) -> &'static str {
        match (method, self.grid) {
            (Method::Fp8, Grid::Block(_)) => "weight_scale_inv",
            _ => "weight_scale",
        }
    }

    /// What numbers there are, such as `F8_E4M3` or `packed INT4`, before what their scales are.
    pub(super) fn numbers(&self) -> String {
        match self.kind {
            Kind::Float8(_) => self.storage().codes().dtype.to_string(),
            _ => self.storage().name(),
        }
    }
}

/// The fewest weights under one scale: fewer are no storage form of this kind, and their scales would fill the memory.
const SMALLEST_BLOCK: usize = 128;

/// Two positive numbers, not too small together.
fn block(value: &Value) -> Option<[usize; 2]> {
    let [height, width] = value.as_array()?.as_slice() else { return None };
    let side = |value: &Value| value.as_u64().and_then(|side| usize::try_from(side).ok()).filter(|&side| side > 0);
    let sides = [side(height)?, side(width)?];
    (sides[0].saturating_mul(sides[1]) >= SMALLEST_BLOCK).then_some(sides)
}

/// What servers have kernels for.
fn check_block(block: [usize; 2], pointer: &str, findings: &mut Vec<Finding>) {
    if block != [128, 128] {
        let message = format!("blocks of {} × {}: servers have kernels for 128 × 128", block[0], block[1]);
        findings.push(Finding::new(&rules::ODD_CONFIG, message).config(pointer));
    }
}
