//! `FP8_DYNAMIC`: E4M3 weights with a scale per row, or per block with a `block_size`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::float8::{self, BlockSize, Fp8Options, Fp8Scheme, ScaleSearch, ScaleSearchPlan};
use crate::kernels::Fp8Granularity;
use crate::{
    BuildError, Format, Make, OnLossy, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy, read_options,
};

crate::register_scheme!(Registration {
    name: "FP8_DYNAMIC",
    aliases: &[],
    version: 1,
    summary: "E4M3 weights with a scale per row, or per block with a `block_size`; activations are quantized per token \
              while the model runs.",
    options: |generator| Fp8DynamicOptions::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang", "transformers"],
        gpu: "Turing (SM 7.5) through vLLM's Marlin, weights only; Ada (SM 8.9) for FP8 arithmetic and for SGLang; with \
              a `block_size` as `FP8_BLOCK`",
    },
    golden: include_bytes!("golden/FP8_DYNAMIC.safetensors"),
});

/// Options of `FP8_DYNAMIC`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fp8DynamicOptions {
    /// Rows and columns that share a scale: a number for square blocks, or `[rows, columns]`. Without it, each row has
    /// a scale of its own. Servers have kernels for 128.
    #[serde(default)]
    #[schemars(with = "BlockSize", skip_serializing_if = "Option::is_none")]
    #[schemars(example = 128, example = BlockSize::default())]
    block_size: Option<BlockSize>,

    /// Rule for the scale of a row or block: `absmax` takes it from the absolute maximum, `mse` searches for the one
    /// that leaves the least squared error, `lossless` takes the least power of two that clamps nothing.
    #[serde(default)]
    #[schemars(example = &"mse")]
    scale_search: ScaleSearch,

    /// Action on a row or block that `scale_search: lossless` cannot hold exactly: end the run (`error`, which it is without the
    /// key), or round its weights and count it (`round`).
    #[serde(default)]
    #[schemars(with = "OnLossy", skip_serializing_if = "Option::is_none", example = &"round")]
    on_lossy: Option<OnLossy>,

    #[serde(flatten)]
    float8: Fp8Options,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Fp8DynamicOptions { block_size, scale_search, on_lossy, float8 } = read_options(options)?;
    let scales = ScaleSearchPlan::of(scale_search, on_lossy)?;
    let granularity = block_size.map_or(Ok(Fp8Granularity::Channel), BlockSize::granularity)?;
    Fp8Scheme::build(granularity, scales, float8, format)
}

/// Answers to scales per row alone: blocks are left to `FP8_BLOCK`.
fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let Strategy::Channel = weights.strategy else { return None };
    float8::options_from_arguments(weights, activations).map(Value::Object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Dtype, Extent, Matrix, SourceDtype};

    #[test]
    fn a_row_has_a_scale() {
        let scheme = make(json!({}), Format::CompressedTensors).unwrap();
        let specs = scheme.outputs(Matrix { dtype: SourceDtype::F16, rows: 3, columns: 7 }).unwrap();
        assert_eq!((specs[0].dtype, &*specs[0].shape), (Dtype::F8_E4M3, &[3, 7][..]));
        assert_eq!((specs[1].suffix, specs[1].dtype, &*specs[1].shape), ("weight_scale", Dtype::F16, &[3, 1][..]));
        assert_eq!((scheme.band_rows(), scheme.storage_format()), (1, "float-quantized"));
        assert_eq!(scheme.weights().strategy, Strategy::Channel);
        assert_eq!(scheme.input_activations().unwrap().strategy, Strategy::Token);
    }

    #[test]
    fn a_block_size_is_a_number_or_a_pair() {
        for (block_size, rows, columns) in [(json!(128), 128, 128), (json!([64, 32]), 64, 32)] {
            let scheme = make(json!({ "block_size": block_size }), Format::Fp8).unwrap();
            let specs = scheme.outputs(Matrix { dtype: SourceDtype::F32, rows: 200, columns: 200 }).unwrap();
            assert_eq!(specs[1].shape, [200usize.div_ceil(rows), 200usize.div_ceil(columns)]);
            assert_eq!((specs[1].dtype, specs[1].extent), (Dtype::BF16, Extent::Rows(rows)));
            assert_eq!(scheme.weights().strategy, Strategy::Block([rows, columns]));
            assert_eq!(scheme.input_activations().unwrap().strategy, Strategy::Group(columns));
        }
    }

    #[test]
    fn a_block_size_without_rows_is_refused() {
        for block_size in [json!(0), json!([0, 128]), json!([128, 0])] {
            let error = make(json!({ "block_size": block_size }), Format::Fp8).unwrap_err();
            assert_eq!(error.option, Some("block_size"));
        }
        for block_size in [json!([128]), json!("128x128"), json!(-1), json!(1.5)] {
            make(json!({ "block_size": block_size }), Format::Fp8).unwrap_err();
        }
    }
}
