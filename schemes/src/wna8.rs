//! `W2A8` to `W7A8`: integers in a byte each with a scale per 128 columns, for INT8 activations.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::integer::{self, ActivationOptions, GroupOptions, Inputs, Integer, QuotientOptions, SymmetryOptions};
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

macro_rules! register {
    ($name:literal, $bits:literal) => {
        crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            version: 1,
            summary: concat!(
                "Weights of ",
                $bits,
                " bits, in a byte each, with a scale per 128 columns; activations are quantized to INT8 per token."
            ),
            options: |generator| Options::json_schema(generator),
            make: Make::Quantize(make::<$bits>),
            from_arguments: from_arguments::<$bits>,
            servers: ServerSupport { servers: &["transformers"], gpu: "any: computed in the dtype of the model" },
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });
    };
}

register!("W2A8", 2);
register!("W3A8", 3);
register!("W4A8", 4);
register!("W5A8", 5);
register!("W6A8", 6);
register!("W7A8", 7);

/// Options of `W2A8` to `W7A8`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(flatten)]
    group: GroupOptions,

    #[serde(flatten)]
    symmetry: SymmetryOptions,

    #[serde(flatten)]
    quotient: QuotientOptions,

    #[serde(flatten)]
    activations: ActivationOptions,
}

fn make<const BITS: u8>(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { group, symmetry, quotient, activations } = read_options(options)?;
    Integer::build(BITS, group.size(), symmetry.symmetric(), Inputs::integer(8, activations), quotient)
}

fn from_arguments<const BITS: u8>(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    let inputs = Inputs::Integer { bits: 8, symmetric: true };
    integer::options_from_arguments(BITS, inputs, weights, activations).map(Value::Object)
}
