//! `FP8_BLOCK`: E4M3 weights with a scale per block.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::float8::{self, BlockSize, Fp8Options, Fp8Scheme, ScaleSearch, ScaleSearchPlan};
use crate::{
    BuildError, Format, Make, OnLossy, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy, read_options,
};

crate::register_scheme!(Registration {
    name: "FP8_BLOCK",
    aliases: &[],
    version: 1,
    summary: "E4M3 weights with a scale per block of 128 x 128; activations are quantized per token and 128 columns \
              while the model runs.",
    options: |generator| Fp8BlockOptions::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang", "transformers"],
        gpu: "Turing (SM 7.5) through vLLM's Marlin, weights only; Hopper (SM 9.0) for FP8 arithmetic; SGLang from \
              Ampere (SM 8.0) on in the `fp8` format, from Ada (SM 8.9) on in `compressed-tensors`",
    },
    golden: include_bytes!("golden/FP8_BLOCK.safetensors"),
});

/// Options of `FP8_BLOCK`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fp8BlockOptions {
    /// Rows and columns that share a scale: a number for square blocks, or `[rows, columns]`. Servers have kernels for
    /// 128.
    #[serde(default)]
    #[schemars(example = 128)]
    block_size: BlockSize,

    /// Rule for the scale of a block: `absmax` takes it from the absolute maximum, `mse` searches for the one that
    /// leaves the least squared error, `lossless` takes the least power of two that clamps nothing.
    #[serde(default)]
    #[schemars(example = &"mse")]
    scale_search: ScaleSearch,

    /// Action on a block that `scale_search: lossless` cannot hold exactly: end the run (`error`, which it is without the
    /// key), or round its weights and count it (`round`).
    #[serde(default)]
    #[schemars(with = "OnLossy", skip_serializing_if = "Option::is_none", example = &"round")]
    on_lossy: Option<OnLossy>,

    #[serde(flatten)]
    float8: Fp8Options,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Fp8BlockOptions { block_size, scale_search, on_lossy, float8 } = read_options(options)?;
    let scales = ScaleSearchPlan::of(scale_search, on_lossy)?;
    Fp8Scheme::build(block_size.granularity()?, scales, float8, format)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let Strategy::Block(block) = weights.strategy else { return None };
    let mut options = float8::options_from_arguments(weights, activations)?;
    options.insert("block_size".to_owned(), Value::from(block.to_vec()));
    Some(Value::Object(options))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Dtype, Matrix, SourceDtype};

    #[test]
    fn blocks_are_128_by_128_unless_said_otherwise() {
        let source = Matrix { dtype: SourceDtype::Bf16, rows: 130, columns: 512 };
        let scheme = make(json!({}), Format::CompressedTensors).unwrap();
        assert_eq!(scheme.weights().strategy, Strategy::Block([128, 128]));
        assert_eq!(scheme.input_activations().unwrap().strategy, Strategy::Group(128));
        let specs = scheme.outputs(source).unwrap();
        assert_eq!((specs[1].dtype, &*specs[1].shape), (Dtype::BF16, &[2, 4][..]));
        let scheme = make(json!({ "block_size": 64, "scale_dtype": "f32" }), Format::Fp8).unwrap();
        let specs = scheme.outputs(source).unwrap();
        assert_eq!((specs[1].dtype, &*specs[1].shape), (Dtype::F32, &[3, 8][..]));
    }

    #[test]
    fn a_weight_without_elements_has_no_scales() {
        let scheme = make(json!({}), Format::Fp8).unwrap();
        for (rows, columns, shape) in [(0, 128, [0, 1]), (128, 0, [1, 0]), (0, 0, [0, 0])] {
            let specs = scheme.outputs(Matrix { dtype: SourceDtype::Bf16, rows, columns }).unwrap();
            assert_eq!(specs[1].shape, shape);
        }
    }
}
