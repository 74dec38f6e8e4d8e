//! `W8A8`, also called `INT8`: signed bytes with a scale per row.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::integer::{self, ActivationOptions, GroupSize, Inputs, Integer, QuotientOptions, SymmetryOptions};
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

crate::register_scheme!(Registration {
    name: "W8A8",
    aliases: &["INT8"],
    version: 1,
    summary: "INT8 weights with a scale per row; activations are quantized to INT8 per token while the model runs.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang", "transformers"],
        gpu: "Turing (SM 7.5), and none after Hopper (SM 9.0)",
    },
    golden: include_bytes!("golden/W8A8.safetensors"),
});

/// Options of `W8A8`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Columns of a row that share a scale; `channel` for all of a row, `tensor` for all rows. Servers have kernels for
    /// the latter two.
    #[serde(default = "channel")]
    #[schemars(example = &"tensor")]
    group_size: GroupSize,

    #[serde(flatten)]
    symmetry: SymmetryOptions,

    #[serde(flatten)]
    quotient: QuotientOptions,

    #[serde(flatten)]
    activations: ActivationOptions,
}

fn channel() -> GroupSize {
    GroupSize::CHANNEL
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { group_size, symmetry, quotient, activations } = read_options(options)?;
    Integer::build(8, group_size, symmetry.symmetric(), Inputs::integer(8, activations), quotient)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let inputs = Inputs::Integer { bits: 8, symmetric: true };
    integer::options_from_arguments(8, inputs, weights, activations).map(Value::Object)
}
