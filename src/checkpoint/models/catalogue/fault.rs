//! A mistake in a family's file, and its place.

use crate::text::shown;

/// A mistake in a family's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyFault {
    /// The place of the value, as a JSON Pointer: `/fused/0/parts/1`.
    pub pointer: String,
    /// What is wrong with it and what was expected, in one line.
    pub reason: String,
    /// What was meant, where that can be told.
    pub help: Option<String>,
}

impl FamilyFault {
    pub(super) fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into(), help: None }
    }

    pub(super) fn meant(self, meant: Option<&str>) -> Self {
        Self { help: meant.map(|meant| format!("did you mean {}?", shown(meant))), ..self }
    }

    pub(super) fn help(self, help: &str) -> Self {
        Self { help: Some(help.to_owned()), ..self }
    }
}
