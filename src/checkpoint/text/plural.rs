//! Counts with their noun and their verb.

/// Writes a count with its noun: `1 tensor`, `2 tensors`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Picks the word that goes with a count: `agree(n, "is", "are")`.
pub fn agree<'a>(n: usize, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}
