//! Warnings about an alternative of a regex that matches nothing while the others do: a mistyped part of a pattern that
//! as a whole looks right.

use crate::checkpoint::models::LayerKind;
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::shown;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Located, near_words};

use super::planned_input::PlannedInput;

/// A regex with one group, of words.
struct Alternation<'a> {
    /// Up to the group's parenthesis.
    before: &'a str,
    words: Vec<&'a str>,
    /// From the group's other parenthesis on.
    after: &'a str,
}

/// Returns a warning for each alternative that alone matches none of the inputs, if another one does and a word of the
/// names is near that would match.
//
// Without a near word it may be meant for another model, as in the ready recipes: that is no mistake.
pub(super) fn warnings(pattern: &Located<Pattern>, inputs: &[PlannedInput]) -> Vec<Diagnostic> {
    let Some(alternation) = Alternation::of(pattern.value.text()) else { return Vec::new() };
    let names: Vec<&str> = inputs.iter().map(PlannedInput::target_name).collect();
    let (alive, dead): (Vec<&str>, Vec<&str>) = alternation.words.iter().partition(|word| {
        // What cannot be decided is not dead.
        alternation.finds_any(word, &names).unwrap_or(true)
    });
    if alive.is_empty() {
        return Vec::new();
    }
    let warning = |word: &&str| {
        let mut near = near_words(word, &names).into_iter().filter(|near| !alternation.words.contains(near));
        let meant = near.find(|near| alternation.finds_any(near, &names) == Some(true))?;
        let message = format!(
            "{} in {} matches nothing in the checkpoint, where the other alternatives do",
            shown(word),
            shown(pattern.value.text())
        );
        Some(Diagnostic::warning(message).at(pattern.span.clone()).help(format!("did you mean {}?", shown(meant))))
    };
    dead.iter().filter_map(warning).collect()
}

impl<'a> Alternation<'a> {
    /// Takes a regex apart whose one group has nothing but words in it and is there exactly once.
    fn of(text: &'a str) -> Option<Self> {
        let expression = text.strip_prefix("re:")?;
        let open = expression.find('(')?;
        let inner = &expression[open + 1..];
        let begin = if inner.starts_with("?:") { 2 } else { 0 };
        let length = inner.find(')')?;
        let (before, words, after) = (&expression[..open], inner.get(begin..length)?, &inner[length + 1..]);
        // With a quantifier the words may stand side by side; an escaped or bracketed parenthesis opens no group.
        let is_once = !after.starts_with(['?', '*', '+', '{']);
        let is_plain = |text: &str| !text.contains(['(', ')', '|', '[']);
        if !is_once || before.ends_with('\\') || !is_plain(before) || !is_plain(after) {
            return None;
        }
        let words: Vec<&str> = words.split('|').collect();
        let is_word =
            |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        (words.len() > 1 && words.iter().all(is_word)).then_some(Self { before, words, after })
    }

    /// Reports whether the regex with this word alone in its group matches a name; `None` where it gives up.
    fn finds_any(&self, word: &str, names: &[&str]) -> Option<bool> {
        let pattern = Pattern::parse(&format!("re:{}({word}){}", self.before, self.after)).ok()?;
        // A class alone asks for the kind.
        for name in names {
            if pattern.matches(name, LayerKind::Other).ok()? {
                return Some(true);
            }
        }
        Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(&str, Vec<&str>, &str)> {
        Alternation::of(text).map(|found| (found.before, found.words, found.after))
    }

    #[test]
    fn only_a_group_of_words_that_stands_once_is_taken_apart() {
        assert_eq!(parts(r"re:.*\.(gate|up|dwn)_proj$"), Some((r".*\.", vec!["gate", "up", "dwn"], "_proj$")));
        assert_eq!(parts("re:(?:a|b)"), Some(("", vec!["a", "b"], "")));
        for text in [
            "a(b|c)",
            "re:.*proj",
            "re:(a)",
            "re:(a|)",
            "re:(a|b)+",
            "re:(a|b)?c",
            "re:(a|b){2}",
            "re:(a|b)(c|d)",
            "re:((a|b)|c)",
            "re:(a|b)|c",
            "re:a|(b|c)",
            r"re:\(a|b)",
            r"re:(a\.b|c)",
            "re:(?!a|b)c",
            "re:(a.|b)",
            "re:[(]a|b)",
            "re:(a|b",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
