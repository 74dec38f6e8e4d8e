//! `PASSTHROUGH`: the tensor is copied byte for byte.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Options of `PASSTHROUGH`, all for layers that are FP8 in the source: their codes stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PassthroughOptions {
    /// Dtype that scales are written in, which holds every stored one: with `f32`, exponents (E8M0) become the powers of
    /// two that they stand for. Without the key, scales stay as they are stored.
    #[schemars(with = "CarriedScaleDtype", skip_serializing_if = "Option::is_none", example = &"f32")]
    pub scale_dtype: Option<CarriedScaleDtype>,
    /// Granularity that scales are written in: with `channel`, the one scale of a whole weight is repeated for each of its
    /// rows. Without the key, it stays as it is stored.
    #[schemars(with = "CarriedGranularity", skip_serializing_if = "Option::is_none", example = &"channel")]
    pub granularity: Option<CarriedGranularity>,
}

/// The dtype of scales that pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CarriedScaleDtype {
    /// 32-bit floats.
    F32,
}

/// The granularity of scales that pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CarriedGranularity {
    /// One scale for each row.
    Channel,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{find, read_options};

    #[test]
    fn passthrough_copies_and_may_write_scales_in_another_form() {
        let registration = find("passthrough").unwrap();
        assert!(matches!(registration.make, Make::Keep));
        let schema = (registration.options)(&mut schemars::SchemaGenerator::default());
        assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
        let of = |options| read_options::<PassthroughOptions>(options).ok();
        assert_eq!(of(serde_json::json!({})), Some(PassthroughOptions::default()));
        let both = PassthroughOptions {
            scale_dtype: Some(CarriedScaleDtype::F32),
            granularity: Some(CarriedGranularity::Channel),
        };
        assert_eq!(of(serde_json::json!({ "scale_dtype": "f32", "granularity": "channel" })), Some(both));
        assert_eq!(of(serde_json::json!({ "scale_dtype": "bf16" })), None);
    }
}
