//! Patterns: reading and matching end, soon, with an answer that what is written explains.

use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::pattern::{CLASSES, Pattern, PatternError};

use super::message::message;

/// The first line is the pattern, the rest the name that it is held against.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (pattern, name) = text.split_once('\n').unwrap_or((text, "model.layers.0.self_attn.q_proj"));
    for parse in [Pattern::parse, Pattern::parse_upstream] {
        check_one(pattern, name, parse);
    }
}

fn check_one(text: &str, name: &str, parse: fn(&str) -> Result<Pattern, PatternError>) {
    let pattern = match parse(text) {
        Ok(pattern) => pattern,
        Err(error) => return drop(message(&error)),
    };
    assert_eq!(pattern.text(), text);
    let matched = match pattern.matches(name, LayerKind::Linear) {
        Ok(matched) => matched,
        Err(error) => return drop(message(&error)),
    };
    assert_eq!(pattern.matches(name, LayerKind::Linear), Ok(matched), "two answers");
    match &pattern {
        Pattern::Exact(exact) => assert_eq!(matched, exact == name || exact.strip_suffix(".weight") == Some(name)),
        Pattern::Class(kind) => {
            assert_eq!(matched, *kind == LayerKind::Linear);
            assert!(CLASSES.contains(kind));
        }
        // What a pattern takes by name it takes whatever the layer is.
        Pattern::Regex { .. } | Pattern::Glob { .. } => {
            assert_eq!(pattern.matches(name, LayerKind::Norm), Ok(matched));
        }
    }
}
