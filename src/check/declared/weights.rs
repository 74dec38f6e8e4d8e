//! The arguments of a compressed-tensors group, and the form of weights that they declare.

use serde_json::{Map, Value};

use super::compressed_tensors::Reader;
use super::{Form, Inputs, block, check_block};
use crate::grid::Grid;
use crate::storage::{Element, Float8, Integers, Kind, MX_GROUP, Microscaled, NVFP4_GROUP, Nvfp4};
use qwen_fp8_checkpoint::text::shown;

/// Arguments of weights or activations.
pub(super) type Arguments = Map<String, Value>;

impl Reader<'_> {
    /// The form of a group, which `format` names.
    pub(super) fn form(&mut self, group: &Value, format: &str) -> Option<Form> {
        let Some(weights) = group.get("weights").and_then(Value::as_object) else {
            self.bad("`weights` is missing: the group quantizes nothing", "/weights");
            return None;
        };
        let inputs = group.get("input_activations").and_then(Value::as_object);
        let kind = self.kind(weights, format)?;
        self.flags(weights, kind);
        let grid = self.grid(weights, kind)?;
        if let Some(inputs) = inputs {
            self.activations(inputs, kind, grid);
        }
        let inputs = match inputs.and_then(|inputs| inputs.get("dynamic")) {
            Some(Value::Bool(false)) => Inputs::Static,
            Some(Value::String(local)) if local == "local" => Inputs::Local,
            _ => Inputs::Nothing,
        };
        Some(Form { kind, grid, inputs })
    }

    /// What the format says that numbers are, which must be what the arguments say.
    fn kind(&mut self, weights: &Arguments, format: &str) -> Option<Kind> {
        let bits = weights.get("num_bits").and_then(Value::as_u64).and_then(|bits| u32::try_from(bits).ok());
        let (bits, number) = (bits.unwrap_or_default(), text(weights, "type"));
        let integers = |packed| {
            let zero_points = weights.get("symmetric") == Some(&Value::Bool(false));
            Kind::Integers(Integers { bits, packed, zero_points })
        };
        let (kind, is_declared) = match format {
            "float-quantized" | "naive-quantized" => (Kind::Float8(Float8), (bits, number) == (8, "float")),
            "int-quantized" => (integers(false), (2..=8).contains(&bits) && number == "int"),
            "pack-quantized" => (integers(true), (2..=8).contains(&bits) && number == "int"),
            "mxfp8-quantized" => {
                (Kind::Microscaled(Microscaled { element: Element::E4M3 }), (bits, number) == (8, "float"))
            }
            "mxfp4-pack-quantized" => {
                (Kind::Microscaled(Microscaled { element: Element::E2M1 }), (bits, number) == (4, "float"))
            }
            "nvfp4-pack-quantized" => (Kind::Nvfp4(Nvfp4), (bits, number) == (4, "float")),
            other => {
                self.unknown(&format!("tensors in the format {} are not checked", shown(other)), "/format");
                return None;
            }
        };
        if !is_declared {
            let message = format!("weights of {bits} bits and type {} in the format {}", shown(number), shown(format));
            self.unknown(&format!("{message} are not checked"), "/weights");
            return None;
        }
        // What scales are where they are not floats of the usual kinds.
        let scales: &[&str] = match kind {
            Kind::Float8(_) | Kind::Integers(_) => &[""],
            Kind::Microscaled(_) => &["torch.uint8"],
            Kind::Nvfp4(_) => &["torch.float8_e4m3fn", ""],
        };
        let declared = text(weights, "scale_dtype");
        if !scales.contains(&declared) {
            let message = match scales[0] {
                "" => format!("scales in {} are not checked for weights of this kind", shown(declared)),
                scale => format!("`scale_dtype` of the weights must be `{scale}`"),
            };
            self.unknown(&message, "/weights/scale_dtype");
            return None;
        }
        if text(weights, "actorder") == "group" {
            self.unknown("weights whose columns were put in another order are not checked", "/weights/actorder");
            return None;
        }
        Some(kind)
    }

    fn flags(&mut self, weights: &Arguments, kind: Kind) {
        let flag = |key: &str| weights.get(key).and_then(Value::as_bool);
        match (kind, flag("symmetric")) {
            (Kind::Integers(_), Some(_)) | (_, Some(true)) => {}
            (Kind::Integers(_), None) => self.bad("`symmetric` of the weights is missing", "/weights/symmetric"),
            _ => self.bad("`symmetric` of the weights must be true", "/weights/symmetric"),
        }
        if flag("dynamic") != Some(false) {
            self.bad("`dynamic` of the weights must be false", "/weights/dynamic");
        }
    }

    fn grid(&mut self, weights: &Arguments, kind: Kind) -> Option<Grid> {
        let strategy = text(weights, "strategy");
        let width = group_size(weights);
        let fixed = match kind {
            Kind::Microscaled(_) => Some(("group", MX_GROUP)),
            Kind::Nvfp4(_) => Some(("tensor_group", NVFP4_GROUP)),
            Kind::Float8(_) | Kind::Integers(_) => None,
        };
        if let Some((expected, size)) = fixed {
            if (strategy, width) != (expected, Some(size)) {
                let message = format!("{} has the strategy `{expected}` and groups of {size}", kind.storage().name());
                self.bad(&message, "/weights/strategy");
                return None;
            }
            return Some(Grid::Columns(size));
        }
        let has_zero_points = matches!(kind, Kind::Integers(Integers { zero_points: true, .. }));
        match (kind, strategy) {
            (_, "tensor") if !has_zero_points => Some(Grid::Tensor),
            (_, "channel") => Some(Grid::Channel),
            (Kind::Integers(_), "group") => match width {
                Some(width) => Some(Grid::Columns(width)),
                None => {
                    self.bad("`group_size` is not a number of columns", "/weights/group_size");
                    None
                }
            },
            (Kind::Float8(_), "block") => match weights.get("block_structure").and_then(block) {
                Some(sides) => {
                    check_block(sides, &format!("{}/weights/block_structure", self.pointer), self.findings);
                    Some(Grid::Block(sides))
                }
                None => {
                    let message = "`block_structure` is not two numbers that make a block of 128 weights or more";
                    self.bad(message, "/weights/block_structure");
                    None
                }
            },
            (_, other) => {
                let message = format!("the strategy {} of the weights is not checked", shown(other));
                self.unknown(&message, "/weights/strategy");
                None
            }
        }
    }

    /// Weights alone may be quantized; activations that are go with the weights.
    fn activations(&mut self, inputs: &Arguments, kind: Kind, grid: Grid) {
        let (bits, number) = (inputs.get("num_bits").and_then(Value::as_u64), text(inputs, "type"));
        let (strategy, width) = (text(inputs, "strategy"), group_size(inputs));
        let goes = match kind {
            Kind::Float8(_) => (bits, number) == (Some(8), "float"),
            Kind::Microscaled(Microscaled { element: Element::E4M3 }) => (bits, number) == (Some(8), "float"),
            Kind::Microscaled(_) => matches!((bits, number), (Some(4 | 8), "float")),
            Kind::Nvfp4(_) => (bits, number) == (Some(4), "float"),
            Kind::Integers(_) => matches!((bits, number), (Some(4 | 8), "int") | (Some(8), "float")),
        };
        if !goes {
            let message = match kind {
                Kind::Float8(_) => "the activations of FP8 weights are 8-bit floats".to_owned(),
                _ => format!("no server computes with these activations and weights in {}", kind.storage().name()),
            };
            self.bad(&message, "/input_activations");
        }
        let symmetric = inputs.get("symmetric").and_then(Value::as_bool);
        if symmetric != Some(true) && (number != "int" || symmetric.is_none()) {
            self.bad("`symmetric` of the activations must be true", "/input_activations/symmetric");
        }
        let fits = match (kind, grid) {
            (Kind::Microscaled(_), _) => strategy == "group" && width == Some(MX_GROUP),
            (Kind::Nvfp4(_), _) => strategy == "tensor_group" && width == Some(NVFP4_GROUP),
            (_, Grid::Block([_, columns])) => strategy == "group" && width == Some(columns),
            _ => matches!(strategy, "token" | "tensor"),
        };
        if !fits {
            let message = format!("the activations' strategy {} does not go with {}", shown(strategy), grid.describe());
            self.bad(&message, "/input_activations/strategy");
        }
    }
}

/// A text among arguments; empty where there is none.
fn text<'a>(arguments: &'a Arguments, key: &str) -> &'a str {
    arguments.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The columns of a group; `None` for none and for the -1 of a whole row.
fn group_size(arguments: &Arguments) -> Option<usize> {
    let size = arguments.get("group_size")?.as_u64()?;
    usize::try_from(size).ok().filter(|&size| size > 0)
}
