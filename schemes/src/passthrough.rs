//! `PASSTHROUGH`: the tensor is copied byte for byte.

use schemars::JsonSchema;

use crate::{Make, Registration, ServerSupport};

crate::register_scheme!(Registration {
    name: "PASSTHROUGH",
    aliases: &[],
    version: 1,
    summary: "Copies tensors byte for byte; codes and scales of an FP8 source pass through.",
    options: |generator| PassthroughOptions::json_schema(generator),
    make: Make::Keep,
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "any" },
    golden: &[],
});

/// Options of `PASSTHROUGH`: none.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PassthroughOptions {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn passthrough_copies_and_has_no_options() {
        let registration = find("passthrough").unwrap();
        assert!(matches!(registration.make, Make::Keep));
        let schema = (registration.options)(&mut schemars::SchemaGenerator::default());
        assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
        assert_eq!(schema.get("properties"), None);
    }
}
