//! `PASSTHROUGH`: the tensor is copied byte for byte.

use schemars::JsonSchema;

use crate::{Make, Registration, ServerSupport};

crate::register_scheme!(Registration {
    name: "PASSTHROUGH",
    aliases: &[],
    version: 1,
    summary: "Keeps tensors as they are, byte for byte.",
    options: |generator| Options::json_schema(generator),
    make: Make::Keep,
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "any" },
    golden: &[],
});

/// `PASSTHROUGH` has no options.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Options {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn it_keeps_and_has_no_options() {
        let registration = find("passthrough").unwrap();
        assert!(matches!(registration.make, Make::Keep));
        let schema = (registration.options)(&mut schemars::SchemaGenerator::default());
        assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
        assert_eq!(schema.get("properties"), None);
    }
}
