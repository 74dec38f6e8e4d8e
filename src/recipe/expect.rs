//! What a recipe expects of its plan, so that a changed checkpoint or rule is an error and no surprise.

use schemars::JsonSchema;

use crate::checkpoint::pattern::Pattern;
use crate::recipe::byte_size::ByteSize;
use crate::recipe::patterns::Patterns;
use crate::recipe::rule::Located;

/// The key `expect` as it is written.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectKeys {
    /// The number of tensors that are quantized.
    #[serde(default)]
    #[schemars(with = "u64", extend("examples" = [252]))]
    pub(super) quantized: Option<u64>,

    /// The number of tensors of the source that are copied as they are.
    #[serde(default)]
    #[schemars(with = "u64", extend("examples" = [498]))]
    pub(super) copied: Option<u64>,

    /// The number of quantized tensors of the source whose codes and scales pass through.
    #[serde(default)]
    #[schemars(with = "u64", extend("examples" = [252]))]
    pub(super) passed_through: Option<u64>,

    /// The number of quantized tensors of the source that are decoded.
    #[serde(default)]
    #[schemars(with = "u64", extend("examples" = [252]))]
    pub(super) dequantized: Option<u64>,

    /// Layers of which none is quantized, in the language of `targets`. Each pattern must match something.
    #[serde(default)]
    #[schemars(extend("examples" = [["re:.*visual.*", "lm_head"]]))]
    pub(super) unquantized_layers: Patterns,

    /// Layers that are all quantized, in the language of `targets`: of what a pattern matches, the linear layers. Each
    /// pattern must match one.
    #[serde(default)]
    #[schemars(extend("examples" = [["re:.*\\.mlp\\..*_proj$"]]))]
    pub(super) quantized_layers: Patterns,

    /// The most bytes that all files of the output may have together, the manifest aside: an integer, or a string with a
    /// unit.
    #[serde(default)]
    #[schemars(with = "ByteSize")]
    pub(super) output_at_most: Option<ByteSize>,

    /// The least signal-to-quantization-noise ratio of a quantized weight, in decibels. Only `apply` can measure it: it
    /// then compares the finished output with the source before it publishes it, as `apply --verify` does.
    #[serde(default)]
    #[schemars(with = "f64", range(min = 0, max = 300), extend("examples" = [25, 30]))]
    pub(super) sqnr_at_least: Option<f64>,
}

/// What a recipe expects of its plan.
#[derive(Debug, Default)]
pub struct Expectations {
    /// Tensors that are quantized.
    pub quantized: Option<Located<u64>>,
    /// Tensors that are copied.
    pub copied: Option<Located<u64>>,
    /// Quantized tensors of the source that pass through.
    pub passed_through: Option<Located<u64>>,
    /// Quantized tensors of the source that are decoded.
    pub dequantized: Option<Located<u64>>,
    /// Layers of which none is quantized.
    pub unquantized_layers: Vec<Located<Pattern>>,
    /// Layers that are all quantized.
    pub quantized_layers: Vec<Located<Pattern>>,
    /// The most bytes of the output.
    pub output_at_most: Option<Located<u64>>,
    /// The least signal-to-quantization-noise ratio of a quantized weight, in decibels.
    pub sqnr_at_least: Option<Located<f64>>,
}

impl Expectations {
    /// The number of things that are expected of a plan: each number, and each pattern. The ratio is none of them, since
    /// it takes the weights.
    pub fn of_plan(&self) -> usize {
        let counts = [&self.quantized, &self.copied, &self.passed_through, &self.dequantized, &self.output_at_most];
        let patterns = self.unquantized_layers.len() + self.quantized_layers.len();
        counts.into_iter().flatten().count() + patterns
    }

    /// Reports whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.of_plan() == 0 && self.sqnr_at_least.is_none()
    }
}
