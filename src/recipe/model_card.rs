//! What a recipe says of the output's model card.

use schemars::JsonSchema;

/// The key `model_card` of a recipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelCardOptions {
    /// The model id that the hub shows as the base model. Without it: the id of the source, where it is from the Hugging
    /// Face cache.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["Qwen/Qwen3-VL-8B-Instruct"]))]
    pub base_model: Option<String>,

    /// The name of who quantized it, which the card says only where it is given.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1), extend("examples" = ["me"]))]
    pub quantized_by: Option<String>,

    /// Copies the card of the source as it is.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub as_in_source: bool,
}
