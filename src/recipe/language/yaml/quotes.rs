//! Finds the pattern that YAML took for its own punctuation, because it stands without quotes.

use crate::checkpoint::text::shown;

/// The longest value, in bytes, that is repeated in help.
const LONGEST: usize = 120;

/// Returns help for a syntax error at byte `at` of `text`, where quotes around a value are what is missing.
pub(super) fn help(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?;
    let column = at - start;
    let (before, after) = (line.get(..column)?, line.get(column..)?);
    if let Some(inner) = after.strip_prefix('"') {
        let inner = inner.split('"').next()?;
        let single = inner.contains('\\').then(|| quoted(inner)).flatten()?;
        return Some(format!("a backslash stands for itself between single quotes: {single}"));
    }
    let starts_here = before.ends_with([' ', '[', ',']);
    if starts_here && after.starts_with('*') {
        let word = after.split([' ', ',', ']']).next()?;
        return quoted(word).map(|quoted| format!("`*` begins an alias in YAML; a pattern stands in quotes: {quoted}"));
    }
    let value = value_at(line, column)?;
    let is_pattern = value.contains(['*', '[', '{', '(', '|']) || value.starts_with(['@', '%', '`', '!']);
    is_pattern.then(|| quoted(value)).flatten().map(|quoted| format!("a pattern stands in quotes: {quoted}"))
}

/// The value of a line, or the item of its list in brackets, that reaches over this column.
fn value_at(line: &str, column: usize) -> Option<&str> {
    let key = line.find(": ").map(|at| at + 2);
    let dash = line.trim_start().starts_with("- ").then(|| line.len() - line.trim_start().len() + 2);
    let start = key.or(dash)?;
    let value = line[start..].split(" #").next()?.trim();
    match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
        None => Some(value),
        Some(list) => {
            let mut end = line.find('[')? + 1;
            list.split(", ").find(|item| {
                end += item.len() + ", ".len();
                column < end
            })
        }
    }
}

/// The value in single quotes, in backticks for a message; `None` where it has quotes already.
fn quoted(value: &str) -> Option<String> {
    // No pattern has a blank in it.
    let fits = !value.is_empty() && value.len() <= LONGEST && !value.contains(['\'', '"', ' ', '\t']);
    fits.then(|| shown(&format!("'{value}'")).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_lacks_quotes_is_shown_with_them() {
        for (line, place, expected) in [
            ("targets: *norm*", "*norm", "`'*norm*'`"),
            ("targets: [Linear, *norm*]", "*norm", "`'*norm*'`"),
            ("  - *.q_proj # all", "*.q", "`'*.q_proj'`"),
            ("targets: [ab]*_proj", "*_proj", "`'[ab]*_proj'`"),
            ("targets: {a}*", "*", "`'{a}*'`"),
            ("targets: @x", "@", "`'@x'`"),
            ("targets: [Linear, re:.*(q|k){1,2}_proj, b]", "{1", "`'re:.*(q|k){1,2}_proj'`"),
            (r#"targets: "re:.*\.q_proj""#, "\"re", r"`'re:.*\.q_proj'`"),
        ] {
            let text = format!("scheme: FP8\n{line}\n");
            let at = text.find(line).unwrap() + line.find(place).unwrap();
            let help = help(&text, at).unwrap_or_default();
            assert!(help.ends_with(expected), "{line}: {help}");
        }
        for (text, at) in
            [("", 0), ("a: b", 3), ("a: 'b'*", 6), ("a: b", 40), ("ß: *", 1), ("a: - x", 3), ("a: !include b*", 11)]
        {
            assert_eq!(help(text, at), None, "{text}");
        }
    }
}
