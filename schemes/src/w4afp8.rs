//! `W4AFP8`: 4-bit integers in a byte each with a scale per 128 columns, for FP8 activations.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::integer::{self, GroupOptions, Inputs, Integer, QuotientOptions, SymmetryOptions};
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

crate::register_scheme!(Registration {
    name: "W4AFP8",
    aliases: &[],
    version: 1,
    summary: "Weights of 4 bits, in a byte each, with a scale per 128 columns; activations are quantized to FP8 per \
              token.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: &["transformers"], gpu: "any: computed in the dtype of the model" },
    golden: include_bytes!("golden/W4AFP8.safetensors"),
});

/// Options of `W4AFP8`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(flatten)]
    group: GroupOptions,

    #[serde(flatten)]
    symmetry: SymmetryOptions,

    #[serde(flatten)]
    quotient: QuotientOptions,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { group, symmetry, quotient } = read_options(options)?;
    Integer::build(4, group.size(), symmetry.symmetric(), Inputs::Float8, quotient)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    integer::options_from_arguments(4, Inputs::Float8, weights, activations).map(Value::Object)
}
