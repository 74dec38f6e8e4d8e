//! The keys of a native rule that no scheme adds.

use schemars::JsonSchema;

use crate::recipe::patterns::{Patterns, targets};

/// The keys of a rule beside its scheme and the scheme's options.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(super) struct RuleKeys {
    /// The layers that the rule takes: a class name (`Linear`, `Embedding`, `Conv`, `Norm`, `Router`, `LmHead`, `Experts`), a full
    /// module name, a glob, or `re:` and a regular expression that must match from the start of the module name.
    #[schemars(schema_with = "targets")]
    pub(super) targets: Patterns,

    /// The layers that the rule leaves to the rules after it, as patterns of the same kinds.
    #[serde(default)]
    pub(super) ignore: Patterns,

    /// Allows the rule's patterns to match nothing, which is otherwise an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) optional: bool,

    /// Allows the rule to take layers that the checkpoint holds in FP8 already: they are decoded and quantized again.
    /// Without it, such a layer is an error.
    #[serde(default)]
    #[schemars(extend("examples" = [true]))]
    pub(super) requantize: bool,
}

/// The keys of [`RuleKeys`] and `scheme`; all other keys of a rule are the scheme's options.
pub(super) const RULE_KEYS: [&str; 5] = ["scheme", "targets", "ignore", "optional", REQUANTIZE];

/// The key that only rules with a quantizing scheme have.
pub(super) const REQUANTIZE: &str = "requantize";
