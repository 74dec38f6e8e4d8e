//! Faults of a `quantization_config`, before a rule weighs them.

/// Something that is wrong with a `quantization_config`.
#[derive(Debug)]
pub(crate) struct ConfigFault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    /// JSON pointer below `quantization_config`.
    pub(crate) pointer: String,
    /// The way out; may be empty.
    pub(crate) help: &'static str,
}

/// The kinds of faults, one for each rule that they break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A value that servers need is missing, or is not one that they take.
    Invalid,
    /// Some servers do not take the value.
    Unusual,
    /// A method or format that is not checked.
    Unchecked,
    /// The two lists of the `fp8` method differ.
    ListsDiffer,
    /// An entry of the ignore list cannot be read.
    BadEntry,
}

impl ConfigFault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>, pointer: &str) -> Self {
        Self { kind, message: message.into(), pointer: pointer.to_owned(), help: "" }
    }

    pub(super) fn invalid(message: impl Into<String>, pointer: &str) -> Self {
        Self::new(FaultKind::Invalid, message, pointer)
    }

    pub(super) fn unusual(message: impl Into<String>, pointer: &str) -> Self {
        Self::new(FaultKind::Unusual, message, pointer)
    }

    pub(super) fn unchecked(message: impl Into<String>, pointer: &str) -> Self {
        Self::new(FaultKind::Unchecked, message, pointer)
    }
}

/// Escapes a key for a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
