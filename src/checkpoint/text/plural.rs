//! Counts with their noun.

/// Writes a count with its noun: `1 tensor`, `2 tensors`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}
