//! `FP8`: E4M3 weights with one scale for the tensor.
//!
//! llm-compressor's scheme of this name also stores a static `input_scale`, which takes calibration data. Without data
//! it cannot be computed, so that here activations are quantized while the model runs.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::float8::{self, Fp8Options, Fp8Scheme, ScaleSearchPlan};
use crate::kernels::Fp8Granularity;
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy, read_options};

crate::register_scheme!(Registration {
    name: "FP8",
    aliases: &[],
    version: 1,
    summary: "E4M3 weights with one scale for the tensor; activations are quantized per token while the model runs, \
              since static activation scales need calibration data.",
    options: |generator| Fp8TensorOptions::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang"],
        gpu: "Turing (SM 7.5) through vLLM's Marlin, weights only; Ada (SM 8.9) for FP8 arithmetic and for SGLang",
    },
    golden: include_bytes!("golden/FP8.safetensors"),
});

/// Options of `FP8`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fp8TensorOptions {
    #[serde(flatten)]
    float8: Fp8Options,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Fp8TensorOptions { float8 } = read_options(options)?;
    Fp8Scheme::build(Fp8Granularity::Tensor, ScaleSearchPlan::Absmax, float8, format)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let Strategy::Tensor = weights.strategy else { return None };
    float8::options_from_arguments(weights, activations).map(Value::Object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{AmaxScope, Band, Extent, Matrix, Simd, SourceDtype};

    #[test]
    fn the_tensor_has_one_scale_from_a_maximum_that_is_handed_in() {
        let scheme = make(json!({}), Format::CompressedTensors).unwrap();
        let source = Matrix { dtype: SourceDtype::F32, rows: 2, columns: 2 };
        assert_eq!(scheme.amax_scope(), AmaxScope::Tensor);
        let specs = scheme.outputs(source).unwrap();
        assert_eq!((&*specs[1].shape, specs[1].extent), (&[1][..], Extent::Whole));

        let bytes: Vec<u8> = [1f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for (first_row, stored) in [(0, 4), (1, 0)] {
            let (mut weight, mut scale) = ([0; 2], vec![0; stored]);
            let band = Band { source, first_row, rows: 1, bytes: &bytes, amax: Some(448.0), simd: Simd::PORTABLE };
            scheme.quantize(&band, &mut [&mut weight, &mut scale]).unwrap();
            assert_eq!(weight, [0x38, 0xC0]);
            assert_eq!(scale, &1f32.to_le_bytes()[..stored]);
        }
    }

    #[test]
    fn a_block_size_is_refused() {
        make(json!({ "block_size": 128 }), Format::Fp8).unwrap_err();
    }
}
