//! Prefixes of dotted names.

/// Whether `prefix` ends at a dot of `name` or at its end.
pub(super) fn is_dotted_prefix(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_prefix_ends_at_a_dot_or_at_the_end() {
        assert!(is_dotted_prefix("a.b", "a.b.c") && is_dotted_prefix("a.b", "a.b") && !is_dotted_prefix("a.b", "a.bc"));
    }
}
