//! `FP8_DYNAMIC`: E4M3 weights with a scale per row, or per tile with a `block_size`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::float8::{self, BlockSize, Float8, Float8Options};
use crate::kernels::Grouping;
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy};

crate::register_scheme!(Registration {
    name: "FP8_DYNAMIC",
    aliases: &[],
    summary: "E4M3 weights with a scale per row, or per tile with a `block_size`; activations are quantized per token \
              while the model runs.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: "vLLM, SGLang, transformers", gpu: "Ada (SM 8.9); older ones through Marlin" },
});

/// Options of `FP8_DYNAMIC`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Rows and columns that share a scale: a number for square tiles, or `[rows, columns]`. Without it, each row has a
    /// scale of its own. Servers have kernels for 128.
    #[serde(default)]
    #[schemars(with = "BlockSize", skip_serializing_if = "Option::is_none", example = 128, example = BlockSize::default())]
    block_size: Option<BlockSize>,

    #[serde(flatten)]
    float8: Float8Options,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Options { block_size, float8 } = float8::options(options)?;
    let grouping = block_size.map_or(Ok(Grouping::Channel), BlockSize::grouping)?;
    Float8::build(grouping, float8, format)
}

/// Takes scales per row alone: tiles are `FP8_BLOCK`'s.
fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let Strategy::Channel = weights.strategy else { return None };
    float8::options_from_arguments(weights, activations).map(Value::Object)
}
