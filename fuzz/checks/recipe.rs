//! The recipe front end: a recipe or diagnostics, and every place in the text.

use std::ops::Range;
use std::path::Path;

use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::pattern::Pattern;
use qwen_fp8::recipe::diagnostic::render;
use qwen_fp8::recipe::{Located, Recipe, RecipeError, RecipeText};

use super::fit::is_unfit;

/// The text is read in both languages.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for name in ["fuzz.yaml", "fuzz.toml"] {
        match parse(name, text) {
            Ok(recipe) => check_recipe(&recipe, &parse(name, text).expect("it was a recipe a moment ago")),
            Err(error) => check_diagnostics(&error),
        }
    }
}

fn parse(name: &str, text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(RecipeText::new(Path::new(name), text))
}

fn check_recipe(recipe: &Recipe, again: &Recipe) {
    assert!(!recipe.rules.is_empty(), "a recipe that does nothing");
    assert_eq!(format!("{:?}", recipe.rules), format!("{:?}", again.rules), "read twice, understood twice");
    for rule in &recipe.rules {
        check_span(&recipe.text, &rule.span);
        for pattern in rule.targets.iter().chain(&rule.ignore) {
            check_pattern(&recipe.text, pattern);
        }
    }
}

fn check_pattern(text: &RecipeText, pattern: &Located<Pattern>) {
    check_span(text, &pattern.span);
    // An error says that the regex is too slow for the name.
    let _ = pattern.value.matches("model.language_model.layers.0.self_attn.q_proj", LayerKind::Linear);
}

fn check_diagnostics(error: &RecipeError) {
    assert!(!error.diagnostics.is_empty(), "refused without a reason");
    for diagnostic in &error.diagnostics {
        diagnostic.span.iter().for_each(|span| check_span(&error.text, span));
        // A help may show a whole recipe; the rest is one line each.
        let help = diagnostic.help.iter().flat_map(|help| help.split('\n'));
        let mut lines = help.chain([diagnostic.message.as_str(), &diagnostic.label]);
        assert!(!lines.any(|line| line.contains(is_unfit)), "{diagnostic:?}");
    }
    let shown = render(&error.diagnostics, &error.text, false);
    assert!(!shown.contains(|c| is_unfit(c) && c != '\n'), "{shown:?}");
    assert!(shown.len() < 200_000, "{} bytes of message", shown.len());
    render(&error.diagnostics, &error.text, true);
}

fn check_span(text: &RecipeText, span: &Range<usize>) {
    assert!(span.start <= span.end && span.end <= text.text.len(), "{span:?} is outside of the text");
    let text = &text.text;
    assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?} cuts a character");
}
