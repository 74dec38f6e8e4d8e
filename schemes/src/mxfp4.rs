//! `MXFP4` and `MXFP4A16`: E2M1 weights, two in a byte, with a power of two per 32 columns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::float8::QuotientDtype;
use crate::kernels::MxElement;
use crate::microscaling::Microscaled;
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

macro_rules! register {
    ($name:literal, $activations:literal, $summary:literal, $gpu:literal) => {
        crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            version: 1,
            summary: concat!("E2M1 weights with a power of two as the scale of 32 columns; ", $summary),
            options: |generator| Options::json_schema(generator),
            make: Make::Quantize(make::<$activations>),
            from_arguments: from_arguments::<$activations>,
            servers: ServerSupport { servers: &["vLLM"], gpu: $gpu },
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });
    };
}

register!(
    "MXFP4",
    true,
    "activations are quantized alike while the model runs.",
    "Ampere (SM 8.0) through Marlin, weights only"
);
register!("MXFP4A16", false, "activations are not quantized.", "Ampere (SM 8.0) through Marlin");

/// Options of `MXFP4` and `MXFP4A16`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// What the quotient of weight and scale is rounded to before it is rounded to E2M1. Division by a power of two is
    /// exact, so that this is about the sign of zeros alone: `source` drops it where the quotient is too small for the
    /// dtype of the weight.
    #[serde(default)]
    #[schemars(example = &"source")]
    quotient_dtype: QuotientDtype,
}

fn make<const ACTIVATIONS: bool>(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options { quotient_dtype } = read_options(options)?;
    Ok(Box::new(scheme(quotient_dtype, ACTIVATIONS)))
}

fn from_arguments<const ACTIVATIONS: bool>(
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
) -> Option<Value> {
    scheme(QuotientDtype::default(), ACTIVATIONS).answers(weights, activations).then(|| json!({}))
}

fn scheme(quotient_dtype: QuotientDtype, activations: bool) -> Microscaled {
    let round_quotient = quotient_dtype == QuotientDtype::Source;
    Microscaled { element: MxElement::E2m1 { round_quotient }, activations }
}
