//! What `quantization_config` declares: which modules are quantized, and how their tensors must look.

mod compressed_tensors;
mod fp8;
mod list;

use serde_json::Value;

use super::finding::Finding;
use super::names::served_name;
use super::rules;
use crate::checkpoint::config::Config;
use crate::layer::LayerKind;
use crate::recipe::pattern::Pattern;
use crate::shown::{sentence, shown};

pub(super) use list::{Entry, IgnoreList, Reads};

/// What a server makes of `quantization_config`.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) method: Method,
    pub(super) list: IgnoreList,
    /// The first group that targets a module counts.
    pub(super) groups: Vec<Group>,
    /// Whether activations come with a stored scale, so that `input_scale` tensors belong there.
    pub(super) static_activations: bool,
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
    pub(super) grid: Grid,
}

#[derive(Debug)]
enum Target {
    /// Every linear layer; not the head, whose class is another one.
    Linear,
    /// A name as vLLM spells it.
    Name(String),
    Regex(Pattern),
}

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    Tensor,
    Channel,
    Block([usize; 2]),
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

    /// The grid that a server gives the module; `None` for one that it builds unquantized.
    pub(super) fn grid(&self, module: &str, kind: LayerKind) -> Option<Grid> {
        if self.list.lists(module) { None } else { self.targeted(module, kind) }
    }

    /// As [`Declared::grid`], as if nothing were listed.
    pub(super) fn targeted(&self, module: &str, kind: LayerKind) -> Option<Grid> {
        // Classes that vLLM passes a quantization to. Its head is one for compressed-tensors and a named target alone.
        let is_linear = matches!(kind, LayerKind::Linear | LayerKind::Router | LayerKind::Experts);
        let is_head = kind == LayerKind::LmHead && self.method == Method::CompressedTensors;
        if !is_linear && !is_head {
            return None;
        }
        let served = served_name(module);
        let group = self.groups.iter().find(|group| {
            group.targets.iter().any(|target| match target {
                Target::Linear => is_linear,
                Target::Name(name) => *name == served,
                // A regex that gives up is reported where it is read.
                Target::Regex(regex) => regex.matches(&served, LayerKind::Other).unwrap_or(false),
            })
        });
        group.map(|group| group.grid)
    }
}

impl Grid {
    /// Rows and columns that share a scale, of a matrix with this shape.
    pub(super) fn sides(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Tensor => [rows.max(1), columns.max(1)],
            Self::Channel => [1, columns.max(1)],
            Self::Block(sides) => sides,
        }
    }

    /// Whether a scale of this shape fits a matrix of that one.
    pub(super) fn takes(self, scale: &[usize], [rows, columns]: [usize; 2]) -> bool {
        match self {
            Self::Tensor => scale.is_empty() || scale == [1],
            Self::Channel => scale == [rows, 1],
            Self::Block([height, width]) => scale == [rows.div_ceil(height), columns.div_ceil(width)],
        }
    }

    /// The shape that [`Grid::takes`], in words.
    pub(super) fn expected(self, [rows, columns]: [usize; 2]) -> String {
        match self {
            Self::Tensor => "[1]".to_owned(),
            Self::Channel => format!("{:?}", [rows, 1]),
            Self::Block([height, width]) => format!("{:?}", [rows.div_ceil(height), columns.div_ceil(width)]),
        }
    }

    /// What the scale is called after the module's name.
    pub(super) fn scale_name(self, method: Method) -> &'static str {
        match (method, self) {
            (Method::Fp8, Self::Block(_)) => "weight_scale_inv",
            _ => "weight_scale",
        }
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Tensor => "one scale".to_owned(),
            Self::Channel => "a scale per row".to_owned(),
            Self::Block([height, width]) => format!("blocks of {height} × {width}"),
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
