//! Choices that a recipe makes for a whole run.

/// The grammar that a recipe follows, which decides how strictly its patterns are checked against the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The tool's own grammar: a pattern that matches nothing is an error.
    Native,
    /// llm-compressor's grammar: a pattern that matches nothing is a warning.
    LlmCompressor,
}

/// The action when servers would refuse the output or load it wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServingPolicy {
    /// Stop with an error before anything is written.
    #[default]
    Enforce,
    /// Print a warning and write the output.
    Warn,
}

/// The action on a non-finite value (NaN or infinity) in a weight that is to be quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinitePolicy {
    /// End the run, and name the tensor, row and column.
    #[default]
    Error,
    /// Let the value through as llm-compressor does, so that all weights under its scale become NaN or zero, and report
    /// it.
    Keep,
}

/// The dtype of keys and values in the cache of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CacheDtype {
    /// What `config.json` asks for, else the dtype of the model.
    #[default]
    Auto,
    /// FP8 under scales of one, in half of the bytes.
    Fp8,
}

/// The handling of experts that the checkpoint stacks in three-dimensional tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpertsPolicy {
    /// Stop with an error, unless a `PASSTHROUGH` rule takes the stacks.
    #[default]
    Error,
    /// Turn each expert into matrices of its own, `experts.0.gate_proj` and so on, which rules then take or leave.
    Split,
    /// Do as `split` does where a server loads what the stacks become, and leave them unquantized, with a note that says
    /// why, where none does or where it is not known how they lie.
    SplitOrKeep,
    /// Leave the stacks unquantized.
    Keep,
}

/// The action on a layer that a rule's blocks or groups do not fit in a way that servers read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MisfitPolicy {
    /// Stop with an error.
    #[default]
    Error,
    /// Leave it to the rules after this one, with the layers that servers fuse with it; a note says what stays
    /// unquantized so, and why.
    Leave,
}
