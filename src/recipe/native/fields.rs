//! The keys of a native rule that no scheme adds.

use schemars::JsonSchema;

use crate::recipe::patterns::{Patterns, targets};

/// What a rule says beside its scheme and the scheme's options.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(super) struct RuleKeys {
    /// What the rule takes: a class name (`Linear`, `Embedding`, `Conv`, `Norm`, `Router`, `LmHead`, `Experts`), a full
    /// module name, a glob, or `re:` and a regular expression that must match from the start of the module name.
    #[schemars(schema_with = "targets")]
    pub(super) targets: Patterns,

    /// What the rule leaves to the rules after it, in the same patterns.
    #[serde(default)]
    pub(super) ignore: Patterns,

    /// Whether the rule's patterns may match nothing, which is otherwise an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) optional: bool,

    /// Whether the rule may take layers that the checkpoint holds in FP8 already: they are decoded and quantized again.
    /// Without it, such a layer is an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) requantize: bool,
}

/// The keys of [`RuleKeys`] and the discriminator: what is left of a rule are the scheme's options.
pub(super) const RULE_KEYS: [&str; 5] = ["scheme", "targets", "ignore", "optional", REQUANTIZE];

/// The key of a rule that only quantizing ones have.
pub(super) const REQUANTIZE: &str = "requantize";
