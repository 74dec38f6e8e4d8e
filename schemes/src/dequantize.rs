//! `DEQUANTIZE`: FP8 layers of the source become plain numbers again.

use schemars::JsonSchema;

use crate::{Make, Registration, ServerSupport};

crate::register_scheme!(Registration {
    name: "DEQUANTIZE",
    aliases: &[],
    version: 1,
    summary: "Turns FP8 layers of a quantized checkpoint back into numbers of the model's dtype.",
    options: |generator| Options::json_schema(generator),
    make: Make::Dequantize,
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "any" },
    golden: &[],
});

/// `DEQUANTIZE` has no options.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Options {}
