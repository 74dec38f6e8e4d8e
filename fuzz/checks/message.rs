//! What every message about the input has in common.

use super::fit::is_unfit;

/// The text of an error, which is short and holds nothing that a terminal acts on.
pub(crate) fn message(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    assert!(!text.contains(is_unfit), "a raw control character: {text:?}");
    assert!(text.len() < 8_000, "a message of {} bytes", text.len());
    text
}
