//! `quant_method: modelopt`: the layouts of NVIDIA's checkpoints.

use qwen_fp8_schemes::{CodeFormat, Dtype, Dynamic, Strategy};
use serde_json::Value;

use crate::checkpoint::text::shown;
use crate::plan::served_form::ServedForm;

use super::fp8::{ACTIVATIONS, mxfp8_layout};
use super::group::{SourceGroup, float8};
use super::layout::{ExtraRole, ExtraTensor, FLOAT_SCALES, ServedLayout, SourceLayout};

/// Reads what is declared under `quant_method: modelopt`. Which layers are stored how is told by the dtype of their
/// codes.
pub(super) fn read(value: &Value) -> Result<Vec<SourceGroup>, String> {
    // Older releases have all of it one level lower.
    let algorithm = value.get("quant_algo").or_else(|| value.get("quantization")?.get("quant_algo"));
    let layouts = match algorithm.and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
        Some("NVFP4" | "NVFP4_W4A16" | "W4A16_NVFP4") => vec![nvfp4()],
        Some("FP8") => vec![fp8()],
        Some("MXFP8") => vec![mxfp8_layout(true)],
        Some("MIXED_PRECISION") => vec![nvfp4(), fp8()],
        Some(other) => return Err(format!("the algorithm {} of ModelOpt cannot be read", shown(other))),
        None => return Err("ModelOpt's `quant_algo` is missing".to_owned()),
    };
    Ok(layouts.into_iter().map(|layout| SourceGroup { targets: None, layout }).collect())
}

fn nvfp4() -> SourceLayout {
    let activations = ExtraTensor { served: "input_global_scale", ..ACTIVATIONS[1] };
    let global = ExtraTensor {
        stored: "weight_scale_2",
        served: "weight_global_scale",
        role: ExtraRole::GlobalMultiplies,
        dtypes: &[Dtype::F32],
        required: true,
    };
    SourceLayout {
        name: "NVFP4",
        codes: "weight",
        codes_dtype: Dtype::U8,
        format: CodeFormat::E2m1,
        scales: &["weight_scale"],
        scale_dtypes: &[Dtype::F8_E4M3],
        strategy: Strategy::TensorGroup(16),
        extras: vec![global, activations],
        transposed: None,
        served: Err("compressed-tensors stores the reciprocal of its global scale, which F32 cannot hold exactly"),
    }
}

/// FP8 with one scale for a weight and one for its activations.
fn fp8() -> SourceLayout {
    SourceLayout {
        name: "FP8",
        codes: "weight",
        codes_dtype: Dtype::F8_E4M3,
        format: CodeFormat::E4m3,
        scales: &["weight_scale"],
        scale_dtypes: FLOAT_SCALES,
        strategy: Strategy::Tensor,
        extras: vec![ACTIVATIONS[1]],
        transposed: None,
        served: Ok(ServedLayout {
            form: ServedForm {
                weights: float8(Strategy::Tensor, Dynamic::Static),
                inputs: Some(float8(Strategy::Tensor, Dynamic::Static)),
                storage_format: "float-quantized",
                powers_of_two: false,
                exponents: false,
            },
            codes: ("weight", Dtype::F8_E4M3),
            scales: None,
            at_home: None,
            needs: &["input_scale"],
        }),
    }
}
