//! `quant_method: compressed-tensors`: llm-compressor's checkpoints.

use qwen_fp8_schemes::{CodeFormat, Dtype, Dynamic, NumberKind, QuantizationArgs, Strategy};
use serde_json::Value;

use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::shown;
use crate::plan::served_form::ServedForm;

use super::fp8::{ACTIVATIONS, mxfp4, mxfp6, mxfp8_layout};
use super::group::{SourceGroup, sides};
use super::layout::{ExtraRole, ExtraTensor, FLOAT_SCALES, ServedLayout, SourceLayout};

/// Reads the groups in their order.
pub(super) fn read(value: &Value) -> Result<Vec<SourceGroup>, String> {
    let groups = value.get("config_groups").and_then(Value::as_object).ok_or("`config_groups` is missing")?;
    let read = |(name, group): (&String, &Value)| {
        let of_group = |what: String| format!("{what} of {}", shown(name));
        let format = group.get("format").and_then(Value::as_str).or_else(|| value.get("format")?.as_str());
        let format = format.ok_or_else(|| of_group("neither the config nor the group says the format".to_owned()))?;
        let weights = arguments(group.get("weights"))
            .ok_or_else(|| of_group("the arguments of the weights cannot be read: those".to_owned()))?;
        let inputs = match group.get("input_activations").filter(|inputs| !inputs.is_null()) {
            None => None,
            inputs => Some(
                arguments(inputs)
                    .ok_or_else(|| of_group("the arguments of the activations cannot be read: those".to_owned()))?,
            ),
        };
        let reordered = group.get("weights").and_then(|weights| weights.get("actorder")?.as_str());
        if reordered == Some("group") {
            return Err(of_group("`actorder: group`, which reorders columns, cannot be undone: that".to_owned()));
        }
        let layout = layout(format, weights, inputs).map_err(of_group)?;
        let targets = group.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let targets = targets.map(Pattern::parse_upstream).collect::<Result<_, _>>();
        let targets = targets.map_err(|error| format!("a target of {}: {error}", shown(name)))?;
        Ok(SourceGroup { targets: Some(targets), layout })
    };
    groups.iter().map(read).collect()
}

/// Returns the layout that a format has for these arguments.
fn layout(format: &str, weights: QuantizationArgs, inputs: Option<QuantizationArgs>) -> Result<SourceLayout, String> {
    let bits = u32::from(weights.num_bits);
    let is_float = weights.kind == NumberKind::Float && weights.symmetric;
    let is_integer = weights.kind == NumberKind::Int && (2..=8).contains(&bits);
    let activations = inputs.as_ref().is_some_and(|inputs| inputs.dynamic == Dynamic::Static);
    let strategy = weights.strategy;
    let layout = match (format, bits) {
        ("float-quantized" | "naive-quantized", 8) if is_float && weights.scale_dtype.is_none() => {
            let mut layout = plain("FP8", "weight", Dtype::F8_E4M3, CodeFormat::E4m3);
            if activations {
                layout.extras.push(ACTIVATIONS[1]);
            }
            layout
        }
        ("mxfp8-quantized", 8) if is_float && strategy == Strategy::Group(32) => mxfp8_layout(false),
        ("mxfp6-pack-quantized", 6) if is_float && strategy == Strategy::Group(32) => mxfp6(),
        ("mxfp4-pack-quantized", 4) if is_float && strategy == Strategy::Group(32) => mxfp4("weight_packed"),
        ("nvfp4-pack-quantized", 4) if is_float && strategy == Strategy::TensorGroup(16) => nvfp4(),
        ("int-quantized" | "naive-quantized", _) if is_integer => {
            let mut layout = plain("INT8", "weight", Dtype::I8, CodeFormat::Integer);
            if !weights.symmetric {
                layout.extras.push(zero_points(ExtraRole::ZeroPoints, &[Dtype::I8]));
            }
            layout
        }
        ("pack-quantized", _) if is_integer => {
            let mut layout = plain("packed INT", "weight_packed", Dtype::I32, CodeFormat::PackedInteger(bits));
            let (stored, role) = ("weight_shape", ExtraRole::Shape);
            layout.extras.push(ExtraTensor { stored, served: stored, role, dtypes: &[Dtype::I64], required: true });
            match strategy {
                _ if weights.symmetric => {}
                // The reference stores the zero point of a whole tensor in a byte also beside packed codes.
                Strategy::Tensor => layout.extras.push(zero_points(ExtraRole::ZeroPoints, &[Dtype::I8])),
                _ => layout.extras.push(zero_points(ExtraRole::PackedZeroPoints(bits), &[Dtype::I32])),
            }
            layout
        }
        _ => {
            let number = if weights.kind == NumberKind::Float { "floats" } else { "integers" };
            return Err(format!("{bits}-bit {number} in the format {} cannot be read: those", shown(format)));
        }
    };
    let storage_format = FORMATS.into_iter().find(|known| *known == format).unwrap_or("float-quantized");
    let served = ServedLayout {
        form: ServedForm { weights, inputs, storage_format, powers_of_two: false, exponents: false },
        codes: (layout.codes, layout.codes_dtype),
        scales: None,
        at_home: None,
        needs: if activations && format != "nvfp4-pack-quantized" { &["input_scale"] } else { &[] },
    };
    Ok(SourceLayout { strategy, served: Ok(served), ..layout })
}

const FORMATS: [&str; 8] = [
    "float-quantized",
    "naive-quantized",
    "int-quantized",
    "pack-quantized",
    "mxfp8-quantized",
    "mxfp6-pack-quantized",
    "mxfp4-pack-quantized",
    "nvfp4-pack-quantized",
];

/// A layout of codes and float scales.
fn plain(name: &'static str, codes: &'static str, codes_dtype: Dtype, format: CodeFormat) -> SourceLayout {
    SourceLayout {
        name,
        codes,
        codes_dtype,
        format,
        scales: &["weight_scale"],
        scale_dtypes: FLOAT_SCALES,
        strategy: Strategy::Tensor,
        extras: Vec::new(),
        transposed: None,
        served: Err(""),
    }
}

fn nvfp4() -> SourceLayout {
    let (global, activations) = ("weight_global_scale", "input_global_scale");
    let extra = |stored, role, required| ExtraTensor { stored, served: stored, role, dtypes: &[Dtype::F32], required };
    SourceLayout {
        scale_dtypes: &[Dtype::F8_E4M3],
        extras: vec![extra(global, ExtraRole::GlobalDivides, true), extra(activations, ExtraRole::Activations, false)],
        ..plain("NVFP4", "weight_packed", Dtype::U8, CodeFormat::E2m1)
    }
}

fn zero_points(role: ExtraRole, dtypes: &'static [Dtype]) -> ExtraTensor {
    let stored = "weight_zero_point";
    ExtraTensor { stored, served: stored, role, dtypes, required: true }
}

/// Reads the arguments of weights or activations; keys that are left out have their defaults.
fn arguments(value: Option<&Value>) -> Option<QuantizationArgs> {
    let value = value?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let size = || value.get("group_size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let size = || size().filter(|&size| size > 0);
    let strategy = match text("strategy")? {
        "tensor" => Strategy::Tensor,
        "channel" => Strategy::Channel,
        "token" => Strategy::Token,
        "group" => Strategy::Group(size()?),
        "tensor_group" => Strategy::TensorGroup(size()?),
        "block" => Strategy::Block(sides(value.get("block_structure")?)?),
        _ => return None,
    };
    let dynamic = match value.get("dynamic") {
        None | Some(Value::Bool(false)) => Dynamic::Static,
        Some(Value::Bool(true)) => Dynamic::Dynamic,
        Some(Value::String(local)) if local == "local" => Dynamic::Local,
        Some(_) => return None,
    };
    Some(QuantizationArgs {
        num_bits: u8::try_from(value.get("num_bits")?.as_u64()?).ok()?,
        kind: match text("type")? {
            "float" => NumberKind::Float,
            "int" => NumberKind::Int,
            _ => return None,
        },
        symmetric: value.get("symmetric").is_none_or(|symmetric| symmetric == &Value::Bool(true)),
        strategy,
        dynamic,
        scale_dtype: match value.get("scale_dtype").filter(|dtype| !dtype.is_null()) {
            None => None,
            Some(dtype) => Some(*["torch.uint8", "torch.float8_e4m3fn"].iter().find(|known| dtype == **known)?),
        },
    })
}
