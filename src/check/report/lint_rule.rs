//! Rules and their weight.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

/// The weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A server refuses the checkpoint or computes with wrong numbers.
    Error,
    /// The checkpoint works with some readers only, or costs accuracy or speed.
    Warning,
    /// Something could not be checked, or is as somebody meant it.
    Note,
}

/// A rule that a checkpoint can break.
#[derive(Debug, PartialEq, Eq)]
pub struct LintRule {
    /// The code, such as `Q301`. Its meaning never changes once it is released.
    pub code: &'static str,
    /// The code in words, as SARIF viewers show it.
    pub name: &'static str,
    /// The weight to `lint`, which judges anybody's checkpoint.
    pub severity: Severity,
    /// The weight to `verify`, which proves that everything in a result is accounted for.
    pub strict: Severity,
    /// The fault: one sentence, with its full stop.
    pub title: &'static str,
    /// The consequence or the reason: one or two sentences.
    pub why: &'static str,
}

impl Severity {
    /// Returns the word for the severity, which is SARIF's level too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl LintRule {
    /// Returns title and reason together.
    pub fn text(&self) -> String {
        format!("{} {}", self.title, self.why)
    }
}

impl Serialize for LintRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A finding names its rule by the code; the texts are in `lint --rules` and in SARIF's list of rules.
        serializer.serialize_str(self.code)
    }
}
