//! `FP8`: E4M3 weights with one scale for the tensor.
//!
//! llm-compressor's scheme of this name also stores a static `input_scale`, which takes calibration data. Here
//! activations are quantized while the model runs, which every server that takes the static form does as well.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::float8::{self, Float8, Float8Options};
use crate::kernels::Grouping;
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy};

crate::register_scheme!(Registration {
    name: "FP8",
    aliases: &[],
    summary: "E4M3 weights with one scale for the tensor; activations are quantized per token while the model runs, \
              since static activation scales need calibration data.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: "vLLM, SGLang", gpu: "Ada (SM 8.9); older ones through Marlin" },
});

/// Options of `FP8`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(flatten)]
    float8: Float8Options,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    let Options { float8 } = float8::options(options)?;
    Float8::build(Grouping::Tensor, float8, format)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let Strategy::Tensor = weights.strategy else { return None };
    float8::options_from_arguments(weights, activations).map(Value::Object)
}
