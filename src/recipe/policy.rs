//! Choices that a recipe makes for a whole run.

/// Whose grammar a recipe follows, which decides how strictly its patterns are held to the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: a pattern that matches nothing is an error.
    Native,
    /// llm-compressor's: a pattern that matches nothing is a warning.
    LlmCompressor,
}

/// What becomes of a plan that servers would refuse or load wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServingPolicy {
    /// It is an error, before anything is written.
    #[default]
    Enforce,
    /// It is a warning, and the output is written.
    Warn,
}

/// What becomes of a NaN or an infinity in a weight that is to be quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinitePolicy {
    /// It ends the run, and is named by tensor, row and column.
    #[default]
    Error,
    /// It is kept as llm-compressor keeps it, which spoils all weights under its scale, and reported.
    Keep,
}

/// What becomes of experts that the checkpoint stacks in three dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExpertsPolicy {
    /// They are an error, unless a rule keeps them.
    #[default]
    Error,
    /// Each expert gets matrices of its own, `experts.0.gate_proj` and so on, which rules then take or leave.
    Split,
    /// They stay as they are.
    Keep,
}
