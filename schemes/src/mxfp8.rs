//! `MXFP8` and `MXFP8A16`: E4M3 weights with a power of two per 32 columns.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kernels::MxElement;
use crate::microscaling::Microscaled;
use crate::{BuildError, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, read_options};

macro_rules! register {
    ($name:literal, $activations:literal, $summary:literal, $gpu:literal) => {
        crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            version: 1,
            summary: concat!("E4M3 weights with a power of two as the scale of 32 columns; ", $summary),
            options: |generator| Options::json_schema(generator),
            make: Make::Quantize(make::<$activations>),
            from_arguments: from_arguments::<$activations>,
            servers: ServerSupport { servers: &["vLLM"], gpu: $gpu },
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });
    };
}

register!(
    "MXFP8",
    true,
    "activations are quantized alike while the model runs.",
    "Turing (SM 7.5) through Marlin, weights only; Blackwell (SM 10.0) for MXFP8 arithmetic, with FlashInfer"
);
register!("MXFP8A16", false, "activations are not quantized.", "Turing (SM 7.5) through Marlin");

/// Options of `MXFP8` and `MXFP8A16`: none, since the format leaves nothing open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {}

fn make<const ACTIVATIONS: bool>(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options {} = read_options(options)?;
    Ok(Box::new(Microscaled { element: MxElement::E4m3, activations: ACTIVATIONS }))
}

fn from_arguments<const ACTIVATIONS: bool>(
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
) -> Option<Value> {
    let scheme = Microscaled { element: MxElement::E4m3, activations: ACTIVATIONS };
    scheme.answers(weights, activations).then(|| json!({}))
}
