//! `W4A16_ASYM`: packed 4-bit integers with a scale and a zero point per 128 columns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::integer::{self, GroupOptions, Inputs, Integer, QuotientOptions};
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

crate::register_scheme!(Registration {
    name: "W4A16_ASYM",
    aliases: &[],
    version: 1,
    summary: "Packed weights of 4 bits with a scale and a zero point per 128 columns; activations are not quantized.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "Ampere (SM 8.0)" },
    golden: include_bytes!("golden/W4A16_ASYM.safetensors"),
});

/// Options of `W4A16_ASYM`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(flatten)]
    group: GroupOptions,

    #[serde(flatten)]
    quotient: QuotientOptions,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { group, quotient } = read_options(options)?;
    Integer::build(4, group.size(), false, Inputs::Kept, quotient)
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let mut options = integer::options_from_arguments(4, Inputs::Kept, weights, activations)?;
    options.remove("symmetric")?;
    Some(Value::Object(options))
}
