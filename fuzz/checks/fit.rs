//! What may stand on a screen.

/// Control characters, and those that turn the direction of a line.
pub(crate) fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
