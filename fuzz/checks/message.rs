//! What every message about the input has in common.

/// The text of an error, which is short and holds nothing that a terminal acts on.
pub(crate) fn message(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    assert!(!text.contains(is_unfit), "a raw control character: {text:?}");
    assert!(text.len() < 8_000, "a message of {} bytes", text.len());
    text
}

/// Control characters, and those that turn the direction of a line.
pub(crate) fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
