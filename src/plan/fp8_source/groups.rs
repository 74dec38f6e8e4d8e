//! What `quantization_config` of an FP8 checkpoint says of its layers, as the schemes that store such layers.

use qwen_fp8_schemes::{Dynamic, Format, NumberKind, QuantizationArgs, Scheme, Strategy, find_by_arguments};
use serde_json::Value;

use crate::checkpoint::Tensor;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::LayerKind;
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::shown;

/// Formats of compressed-tensors that hold FP8 weights as they are.
const FORMATS: [&str; 2] = ["float-quantized", "naive-quantized"];

/// The groups of layers that a checkpoint declares, in the order in which they are asked.
pub(super) struct SourceGroups {
    groups: Vec<SourceGroup>,
    /// The name of a weight's scales.
    scale_parameter: &'static str,
}

/// Layers that are stored alike.
struct SourceGroup {
    /// `None` takes every layer.
    targets: Option<Vec<Pattern>>,
    weights: QuantizationArgs,
    inputs: Option<QuantizationArgs>,
}

impl SourceGroups {
    pub(super) fn read(config: &Config) -> Result<Self, String> {
        let text = config.quantization_config().ok_or("`config.json` does not say how at its top level")?;
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.get("quant_method").and_then(Value::as_str) {
            Some("fp8") => official(&value),
            Some("compressed-tensors") => compressed_tensors(&value),
            _ => Err("of quantized checkpoints, FP8 ones in the formats `fp8` and `compressed-tensors` can be read"
                .to_owned()),
        }
    }

    pub(super) fn scale_parameter(&self) -> &'static str {
        self.scale_parameter
    }

    /// The scheme of a module that holds codes.
    pub(super) fn scheme(&self, codes: &Tensor) -> Result<Box<dyn Scheme>, String> {
        let group = self.groups.iter().find(|group| group.takes(codes));
        let group = group.ok_or_else(|| format!("no config group targets {}, which is FP8", shown(codes.module())))?;
        group.scheme()
    }
}

impl SourceGroup {
    fn takes(&self, codes: &Tensor) -> bool {
        let Some(targets) = &self.targets else { return true };
        let is_linear = |kind| matches!(kind, LayerKind::Linear | LayerKind::Router);
        let kind = if is_linear(codes.kind()) { LayerKind::Linear } else { codes.kind() };
        targets.iter().any(|target| target.matches(codes.module(), kind).unwrap_or(false))
    }

    fn scheme(&self) -> Result<Box<dyn Scheme>, String> {
        let found = find_by_arguments(&self.weights, self.inputs.as_ref())
            .find_map(|(registration, options)| registration.build(options, Format::CompressedTensors).ok().flatten());
        found
            .ok_or_else(|| "no scheme of this build stores FP8 weights and activations as they are declared".to_owned())
    }
}

fn official(value: &Value) -> Result<SourceGroups, String> {
    let activations = value.get("activation_scheme").and_then(Value::as_str);
    if activations != Some("dynamic") {
        return Err("its activation scales are static, which need calibration data to make again".to_owned());
    }
    let (strategy, inputs, scale_parameter) = match value.get("weight_block_size").filter(|size| !size.is_null()) {
        None => (Strategy::Tensor, Strategy::Token, "weight_scale"),
        Some(size) => {
            let block = sides(size).ok_or("`weight_block_size` is not two positive numbers")?;
            (Strategy::Block(block), Strategy::Group(block[1]), "weight_scale_inv")
        }
    };
    let group = SourceGroup {
        targets: None,
        weights: float8(strategy, Dynamic::Static),
        inputs: Some(float8(inputs, Dynamic::Dynamic)),
    };
    Ok(SourceGroups { groups: vec![group], scale_parameter })
}

fn compressed_tensors(value: &Value) -> Result<SourceGroups, String> {
    let groups = value.get("config_groups").and_then(Value::as_object).ok_or("`config_groups` is missing")?;
    let read = |(name, group): (&String, &Value)| {
        let format = group.get("format").and_then(Value::as_str).or_else(|| value.get("format")?.as_str());
        if !format.is_some_and(|format| FORMATS.contains(&format)) {
            let format = shown(format.unwrap_or("none")).to_string();
            return Err(format!("the format of {} is {format}, and FP8 weights are `float-quantized`", shown(name)));
        }
        let weights = arguments(group.get("weights"), Dynamic::Static)
            .ok_or_else(|| format!("the weights of {} are no symmetric 8-bit floats", shown(name)))?;
        let inputs = match group.get("input_activations").filter(|inputs| !inputs.is_null()) {
            None => None,
            inputs => Some(arguments(inputs, Dynamic::Dynamic).ok_or_else(|| {
                format!("the activations of {} are static, or no symmetric 8-bit floats", shown(name))
            })?),
        };
        let targets = group.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let targets = targets.map(Pattern::parse_upstream).collect::<Result<_, _>>();
        let targets = targets.map_err(|error| format!("a target of {}: {error}", shown(name)))?;
        Ok(SourceGroup { targets: Some(targets), weights, inputs })
    };
    let groups = groups.iter().map(read).collect::<Result<_, String>>()?;
    Ok(SourceGroups { groups, scale_parameter: "weight_scale" })
}

/// The arguments of symmetric 8-bit floats.
fn arguments(value: Option<&Value>, dynamic: Dynamic) -> Option<QuantizationArgs> {
    let value = value?;
    let has = |key: &str, expected: &Value| value.get(key) == Some(expected);
    let is_null = |key: &str| value.get(key).is_none_or(Value::is_null);
    let kind = value.get("type").and_then(Value::as_str);
    let is_float8 = has("num_bits", &8.into()) && kind == Some("float") && has("symmetric", &true.into());
    if !is_float8 || !is_null("scale_dtype") || !has("dynamic", &(dynamic == Dynamic::Dynamic).into()) {
        return None;
    }
    let strategy = match value.get("strategy").and_then(Value::as_str)? {
        "tensor" => Strategy::Tensor,
        "channel" => Strategy::Channel,
        "token" => Strategy::Token,
        "group" => Strategy::Group(usize::try_from(value.get("group_size")?.as_u64()?).ok()?),
        "block" => Strategy::Block(sides(value.get("block_structure")?)?),
        _ => return None,
    };
    Some(float8(strategy, dynamic))
}

fn sides(value: &Value) -> Option<[usize; 2]> {
    let sides: Vec<usize> =
        value.as_array()?.iter().map(|side| usize::try_from(side.as_u64()?).ok()).collect::<Option<_>>()?;
    <[usize; 2]>::try_from(sides).ok().filter(|sides| !sides.contains(&0))
}

fn float8(strategy: Strategy, dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs { num_bits: 8, kind: NumberKind::Float, symmetric: true, strategy, dynamic, scale_dtype: None }
}
