//! What config.json does not tell about the cache of a family: values that servers take where it has none.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What config.json does not tell about the cache that vLLM keeps for each request.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownCache {
    /// Values of config.json that vLLM takes where the file has none, such as `head_dim: 256`.
    #[serde(default)]
    pub defaults: BTreeMap<String, Value>,
    /// The kind of all layers where config.json lists none, in the words of `layer_types`: `hybrid` has attention and a state
    /// side by side.
    pub every_layer: Option<String>,
    /// True where vLLM keeps keys and values of attention that has latents (MLA).
    #[serde(default)]
    pub keeps_keys: bool,
    /// True where nobody has compared the size with vLLM's own: `fit` says so.
    #[serde(default)]
    pub not_compared: bool,
    /// The reason why it is not known how vLLM sizes the cache: `fit` says so and counts nothing.
    pub not_known: Option<String>,
}
