//! `W2A16` to `W8A16`: packed integers with a scale per 128 columns, and activations as they are.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::integer::{self, GroupOptions, Inputs, Integer, QuotientOptions, SymmetryOptions};
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

macro_rules! register {
    ($name:literal, $bits:literal, $servers:expr, $gpu:literal) => {
        crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            version: 1,
            summary: concat!(
                "Packed weights of ",
                $bits,
                " bits with a scale per 128 columns; activations are not quantized."
            ),
            options: |generator| Options::json_schema(generator),
            make: Make::Quantize(make::<$bits>),
            from_arguments: from_arguments::<$bits>,
            servers: ServerSupport { servers: $servers, gpu: $gpu },
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });
    };
}

register!("W2A16", 2, &["transformers"], "any: unpacked to the dtype of the model");
register!("W3A16", 3, &["transformers"], "any: unpacked to the dtype of the model");
register!("W4A16", 4, &["vLLM", "SGLang", "transformers"], "Turing (SM 7.5); Ampere (SM 8.0) with `symmetric: false`");
register!("W5A16", 5, &["transformers"], "any: unpacked to the dtype of the model");
register!("W6A16", 6, &["transformers"], "any: unpacked to the dtype of the model");
register!("W7A16", 7, &["transformers"], "any: unpacked to the dtype of the model");
register!("W8A16", 8, &["vLLM", "SGLang", "transformers"], "Turing (SM 7.5); Ampere (SM 8.0) with `symmetric: false`");

/// Options of `W2A16` to `W8A16`.
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

fn make<const BITS: u8>(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { group, symmetry, quotient } = read_options(options)?;
    Integer::build(BITS, group.size(), symmetry.symmetric(), Inputs::Kept, quotient)
}

/// Leaves asymmetric weights of 4 bits to `W4A16_ASYM`.
fn from_arguments<const BITS: u8>(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    if BITS == 4 && !weights.symmetric {
        return None;
    }
    integer::options_from_arguments(BITS, Inputs::Kept, weights, activations).map(Value::Object)
}
