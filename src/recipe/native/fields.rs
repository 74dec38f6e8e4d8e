//! The keys of a native rule that no scheme adds.

use schemars::JsonSchema;

use crate::recipe::patterns::{Patterns, targets};
use crate::recipe::policy::MisfitPolicy;

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

    /// The action on a layer that the scheme's blocks or groups do not fit in a way that servers read, such as columns
    /// that end inside a block: `error` stops; `leave` leaves it to the rules after this one, with the layers that servers
    /// fuse with it, and a note says what stays unquantized so, and why.
    #[serde(default)]
    #[schemars(extend("examples" = ["leave"]))]
    pub(super) on_misfit: MisfitPolicy,
}

/// The keys of [`RuleKeys`] and `scheme`; all other keys of a rule are the scheme's options.
pub(super) const RULE_KEYS: [&str; 6] =
    ["scheme", "targets", "ignore", "optional", QUANTIZING_KEYS[0], QUANTIZING_KEYS[1]];

/// The keys that only rules with a quantizing scheme have.
pub(super) const QUANTIZING_KEYS: [&str; 2] = ["requantize", "on_misfit"];
