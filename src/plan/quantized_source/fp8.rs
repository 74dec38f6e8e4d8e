//! `quant_method: fp8` and `mxfp8`: the layouts of Qwen's, DeepSeek's, Mistral's and MiniMax's checkpoints.

use qwen_fp8_schemes::{CodeFormat, Dtype, Dynamic, Format, Strategy};
use serde_json::Value;

use crate::checkpoint::text::shown;
use crate::plan::served_form::ServedForm;

use super::group::{SourceGroup, float8, microscaled, sides};
use super::layout::{EXPONENT_SCALES, ExtraRole, ExtraTensor, FLOAT_SCALES, FP8_SCALES, ServedLayout, SourceLayout};

/// The names of scales: DeepSeek's, which every server knows, vLLM's of one scale, and that of DeepSeek-V4.
const BLOCK_SCALES: &[&str] = &["weight_scale_inv", "scale"];
const TENSOR_SCALES: &[&str] = &["weight_scale", "weight_scale_inv", "scale"];

/// The scale of static activations by transformers' name and by vLLM's.
pub(super) const ACTIVATIONS: [ExtraTensor; 2] =
    [activation_scale("activation_scale"), activation_scale("input_scale")];

const fn activation_scale(stored: &'static str) -> ExtraTensor {
    ExtraTensor { stored, served: "input_scale", role: ExtraRole::Activations, dtypes: FLOAT_SCALES, required: false }
}

/// Reads `quant_method: fp8`.
pub(super) fn read(value: &Value) -> Result<Vec<SourceGroup>, String> {
    // transformers takes activations for dynamic where nothing is said.
    let inputs = match value.get("activation_scheme").filter(|scheme| !scheme.is_null()) {
        None => Dynamic::Dynamic,
        Some(scheme) => match scheme.as_str() {
            Some("dynamic") => Dynamic::Dynamic,
            Some("static") => Dynamic::Static,
            _ => return Err(format!("`activation_scheme` is {}", shown(&scheme.to_string()))),
        },
    };
    let (strategy, by_inputs, scales) = match value.get("weight_block_size").filter(|size| !size.is_null()) {
        None => {
            let by_token = if inputs == Dynamic::Static { Strategy::Tensor } else { Strategy::Token };
            (Strategy::Tensor, by_token, TENSOR_SCALES)
        }
        Some(size) => {
            let block = sides(size).ok_or("`weight_block_size` is not two positive numbers")?;
            (Strategy::Block(block), Strategy::Group(block[1]), BLOCK_SCALES)
        }
    };
    let is_static = inputs == Dynamic::Static;
    let served = ServedLayout {
        form: ServedForm {
            weights: float8(strategy, Dynamic::Static),
            inputs: Some(float8(by_inputs, inputs)),
            storage_format: "float-quantized",
            powers_of_two: value.get("scale_fmt").and_then(Value::as_str) == Some("ue8m0"),
            exponents: false,
        },
        codes: ("weight", Dtype::F8_E4M3),
        scales: None,
        at_home: Some(Format::Fp8),
        needs: if is_static { &["input_scale"] } else { &[] },
    };
    let fp8 = SourceLayout {
        name: "FP8",
        codes: "weight",
        codes_dtype: Dtype::F8_E4M3,
        format: CodeFormat::E4m3,
        scales,
        scale_dtypes: FP8_SCALES,
        strategy,
        extras: if is_static { ACTIVATIONS.to_vec() } else { Vec::new() },
        transposed: None,
        served: Ok(served),
    };
    // The experts of DeepSeek-V4 are E2M1, two codes in a byte that calls itself an integer.
    let experts = SourceLayout { codes_dtype: Dtype::I8, scales: BLOCK_SCALES, ..mxfp4("weight") };
    Ok([fp8, experts].map(|layout| SourceGroup { targets: None, layout }).into())
}

/// Reads `quant_method: mxfp8`.
pub(super) fn mxfp8(value: &Value) -> Result<Vec<SourceGroup>, String> {
    match value.get("weight_block_size").filter(|size| !size.is_null()).map(sides) {
        None | Some(Some([1, 32])) => {}
        Some(_) => return Err("`weight_block_size` of MXFP8 is not [1, 32]".to_owned()),
    }
    let layout = SourceLayout { scales: &["weight_scale_inv", "weight_scale", "scale"], ..mxfp8_layout(true) };
    Ok(vec![SourceGroup { targets: None, layout }])
}

/// MXFP8 as compressed-tensors stores it.
pub(super) fn mxfp8_layout(quantizes_activations: bool) -> SourceLayout {
    let inputs = quantizes_activations.then(|| microscaled(8, Dynamic::Dynamic));
    SourceLayout {
        name: "MXFP8",
        codes: "weight",
        codes_dtype: Dtype::F8_E4M3,
        format: CodeFormat::E4m3,
        scales: &["weight_scale"],
        scale_dtypes: EXPONENT_SCALES,
        strategy: Strategy::Group(32),
        extras: Vec::new(),
        transposed: None,
        served: Ok(ServedLayout {
            form: ServedForm {
                weights: microscaled(8, Dynamic::Static),
                inputs,
                storage_format: "mxfp8-quantized",
                powers_of_two: false,
                exponents: false,
            },
            codes: ("weight", Dtype::F8_E4M3),
            scales: Some(Dtype::U8),
            at_home: None,
            needs: &[],
        }),
    }
}

/// MXFP4 as compressed-tensors stores it, with the codes under this name.
pub(super) fn mxfp4(codes: &'static str) -> SourceLayout {
    packed_microscaled("MXFP4", 4, CodeFormat::E2m1, codes, "mxfp4-pack-quantized")
}

/// MXFP6 as compressed-tensors stores it.
pub(super) fn mxfp6() -> SourceLayout {
    packed_microscaled("MXFP6", 6, CodeFormat::E2m3, "weight_packed", "mxfp6-pack-quantized")
}

fn packed_microscaled(
    name: &'static str,
    bits: u8,
    format: CodeFormat,
    codes: &'static str,
    storage_format: &'static str,
) -> SourceLayout {
    SourceLayout {
        name,
        codes,
        codes_dtype: Dtype::U8,
        format,
        scales: &["weight_scale"],
        scale_dtypes: EXPONENT_SCALES,
        strategy: Strategy::Group(32),
        extras: Vec::new(),
        transposed: None,
        served: Ok(ServedLayout {
            form: ServedForm {
                weights: microscaled(bits, Dynamic::Static),
                inputs: None,
                storage_format,
                powers_of_two: false,
                exponents: false,
            },
            codes: ("weight_packed", Dtype::U8),
            scales: Some(Dtype::U8),
            at_home: None,
            needs: &[],
        }),
    }
}
