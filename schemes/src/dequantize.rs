//! `DEQUANTIZE`: FP8 layers of the source are decoded to the model's dtype.

use schemars::JsonSchema;

use crate::{Make, Registration, ServerSupport};

crate::register_scheme!(Registration {
    name: "DEQUANTIZE",
    aliases: &[],
    version: 1,
    summary: "Decodes FP8 layers of a quantized checkpoint to the model's dtype.",
    options: |generator| DequantizeOptions::json_schema(generator),
    make: Make::Dequantize,
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "any" },
    golden: &[],
});

/// Options of `DEQUANTIZE`: none.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DequantizeOptions {}
