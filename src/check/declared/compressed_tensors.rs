//! `quant_method: compressed-tensors`, llm-compressor's layout.

use serde_json::{Map, Value};

use super::{Declared, Grid, Group, IgnoreList, Method, Target, block, check_block};
use crate::check::finding::Finding;
use crate::check::names::served_name;
use crate::check::rules;
use crate::layer::LayerKind;
use crate::recipe::pattern::Pattern;
use crate::shown::shown;

/// Formats that hold FP8 weights as they are.
const FORMATS: [&str; 2] = ["float-quantized", "naive-quantized"];

pub(super) fn read(value: &Value, findings: &mut Vec<Finding>) -> Option<Declared> {
    let status = value.get("quantization_status").and_then(Value::as_str);
    if status != Some("compressed") {
        let message = match status {
            Some(other) => format!("`quantization_status` is {}, not `compressed`", shown(other)),
            None => "`quantization_status: compressed` is missing".to_owned(),
        };
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/quantization_status"));
    }
    let sparse = value.get("sparsity_config").and_then(|sparsity| sparsity.get("targets"));
    if sparse.and_then(Value::as_array).is_some_and(|targets| !targets.is_empty()) {
        let message = "`sparsity_config` has targets: servers dropped sparsity and refuse it";
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/sparsity_config/targets"));
    }
    let Some(declared) = value.get("config_groups").and_then(Value::as_object).filter(|groups| !groups.is_empty())
    else {
        let message = "`config_groups` is missing or empty: no layer is declared as quantized";
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/config_groups"));
        return None;
    };
    let mut groups = Vec::new();
    let mut static_activations = false;
    for (name, group) in declared {
        let mut reader = Reader { pointer: format!("/config_groups/{}", escape(name)), findings };
        static_activations |= reader.has_static_activations(group);
        groups.push(reader.group(group, value)?);
    }
    let list = value.get("ignore").filter(|list| !list.is_null()).map(|list| ("ignore", list));
    let list = IgnoreList::read(Method::CompressedTensors, list, findings);
    Some(Declared { method: Method::CompressedTensors, list, groups, static_activations })
}

/// Reads one group.
struct Reader<'a> {
    pointer: String,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn group(&mut self, group: &Value, config: &Value) -> Option<Group> {
        let format = group.get("format").filter(|format| !format.is_null()).or_else(|| config.get("format"));
        match format.and_then(Value::as_str) {
            Some(format) if FORMATS.contains(&format) => {}
            Some(format) => {
                self.unknown(&format!("tensors in the format {} are not checked", shown(format)), "/format");
                return None;
            }
            None => self.bad("neither the config nor the group has a `format`", "/format"),
        }
        let Some(weights) = group.get("weights").and_then(Value::as_object) else {
            self.bad("`weights` is missing: the group quantizes nothing", "/weights");
            return None;
        };
        let grid = self.weights(weights)?;
        self.activations(group, grid);
        Some(Group { targets: self.targets(group), grid })
    }

    fn weights(&mut self, weights: &Map<String, Value>) -> Option<Grid> {
        let text = |key: &str| weights.get(key).and_then(Value::as_str).unwrap_or_default();
        let is_fp8 = weights.get("num_bits").and_then(Value::as_u64) == Some(8) && text("type") == "float";
        let has_plain_scales = weights.get("scale_dtype").is_none_or(Value::is_null);
        if !is_fp8 || !has_plain_scales {
            self.unknown("weights other than 8-bit floats with float scales are not checked", "/weights");
            return None;
        }
        for (key, expected) in [("symmetric", true), ("dynamic", false)] {
            if weights.get(key).and_then(Value::as_bool) != Some(expected) {
                self.bad(&format!("`{key}` of the weights must be {expected}"), &format!("/weights/{key}"));
            }
        }
        match text("strategy") {
            "tensor" => Some(Grid::Tensor),
            "channel" => Some(Grid::Channel),
            "block" => match weights.get("block_structure").and_then(block) {
                Some(sides) => {
                    check_block(sides, &format!("{}/weights/block_structure", self.pointer), self.findings);
                    Some(Grid::Block(sides))
                }
                None => {
                    self.bad(
                        "`block_structure` is not two numbers that make a block of 128 weights or more",
                        "/weights/block_structure",
                    );
                    None
                }
            },
            other => {
                self.unknown(
                    &format!("the strategy {} of the weights is not checked", shown(other)),
                    "/weights/strategy",
                );
                None
            }
        }
    }

    /// Weights alone may be quantized; activations that are go with the weights.
    fn activations(&mut self, group: &Value, grid: Grid) {
        let Some(inputs) = group.get("input_activations").and_then(Value::as_object) else { return };
        let text = |key: &str| inputs.get(key).and_then(Value::as_str).unwrap_or_default();
        if inputs.get("num_bits").and_then(Value::as_u64) != Some(8) || text("type") != "float" {
            self.bad("the activations of FP8 weights are 8-bit floats", "/input_activations");
        }
        if inputs.get("symmetric").and_then(Value::as_bool) != Some(true) {
            self.bad("`symmetric` of the activations must be true", "/input_activations/symmetric");
        }
        let fits = match grid {
            Grid::Block([_, width]) => {
                text("strategy") == "group" && inputs.get("group_size").and_then(Value::as_u64) == Some(width as u64)
            }
            Grid::Channel | Grid::Tensor => matches!(text("strategy"), "token" | "tensor"),
        };
        if !fits {
            let message =
                format!("the activations' strategy {} does not go with {}", shown(text("strategy")), grid.describe());
            self.bad(&message, "/input_activations/strategy");
        }
    }

    fn has_static_activations(&self, group: &Value) -> bool {
        let inputs = group.get("input_activations").filter(|inputs| inputs.is_object());
        inputs.is_some_and(|inputs| inputs.get("dynamic") == Some(&Value::Bool(false)))
    }

    fn targets(&mut self, group: &Value) -> Vec<Target> {
        let Some(listed) = group.get("targets").and_then(Value::as_array).filter(|targets| !targets.is_empty()) else {
            self.bad("`targets` is missing or empty: the group quantizes nothing", "/targets");
            return Vec::new();
        };
        let mut targets = Vec::new();
        for (index, target) in listed.iter().enumerate() {
            match target.as_str() {
                Some("Linear") => targets.push(Target::Linear),
                Some(text) if text.starts_with("re:") => match regex(text) {
                    Ok(regex) => targets.push(Target::Regex(regex)),
                    Err(reason) => self.bad(&format!("{}: {reason}", shown(text)), &format!("/targets/{index}")),
                },
                Some(name) => targets.push(Target::Name(served_name(name).into_owned())),
                None => self.bad("a target is not text", &format!("/targets/{index}")),
            }
        }
        targets
    }

    fn bad(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.findings.push(Finding::new(&rules::BAD_CONFIG, message).config(&pointer));
    }

    fn unknown(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).config(&pointer));
    }
}

/// A regex that parses and ends.
pub(super) fn regex(text: &str) -> Result<Pattern, String> {
    let regex = Pattern::parse_upstream(text).map_err(|error| error.to_string())?;
    // One that gives up on a name gives up on a long and regular one.
    let probe = "model.language_model.layers.0.mlp.experts.000000000000000000000000000.gate_proj";
    regex.matches(probe, LayerKind::Other).map_err(|error| error.to_string())?;
    Ok(regex)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
