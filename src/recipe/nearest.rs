//! Corrections for a pattern that matches nothing.

use crate::checkpoint::models::LayerKind;
use crate::checkpoint::pattern::{CLASSES, Pattern};

/// The number of names that are compared letter by letter, which takes quadratic time.
const COMPARED: usize = 64;
/// The number of names that a corrected pattern is tried on; the layers it should match are never rare.
const TRIED: usize = 20_000;
/// The number of names that are suggested.
const SHOWN: usize = 3;
/// The length, in bytes, above which neither a pattern nor a name is compared.
const LONGEST: usize = 300;

/// Suggests, for a pattern that matches none of `modules`, a corrected pattern that does match, or the nearest real
/// names, best first.
pub fn nearest(pattern: &Pattern, modules: &[&str]) -> Vec<String> {
    let text = pattern.text();
    if text.len() > LONGEST {
        return Vec::new();
    }
    let corrected = corrections(pattern).into_iter().find(|text| finds_any(text, modules));
    match (corrected, pattern) {
        (Some(corrected), _) => vec![corrected],
        (None, Pattern::Exact(_)) => nearest_names(text.strip_suffix(".weight").unwrap_or(text), modules),
        (None, _) => Vec::new(),
    }
}

/// Patterns that the user may have meant, the likeliest first.
fn corrections(pattern: &Pattern) -> Vec<String> {
    let text = pattern.text();
    match pattern {
        Pattern::Class(_) => Vec::new(),
        Pattern::Regex { .. } => {
            let expression = text.trim_start_matches("re:");
            let expression = expression.strip_prefix('^').unwrap_or(expression);
            let mut texts = vec![format!("re:.*{expression}")];
            // A regex sees the module, which has no `.weight` at its end.
            for suffix in [r"\.weight$", ".weight$", r"\.weight", ".weight"] {
                if let Some(module) = expression.strip_suffix(suffix) {
                    texts.push(format!("re:{module}$"));
                    texts.push(format!("re:.*{module}$"));
                }
            }
            texts
        }
        Pattern::Glob { .. } | Pattern::Exact(_) => {
            if let Some(class) = CLASSES.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(text)) {
                return vec![class.name().to_owned()];
            }
            let mut texts = Vec::new();
            if text.contains(".*") || text.contains(['\\', '^', '$', '|', '(', '+']) {
                texts.push(format!("re:{text}"));
                texts.push(format!("re:.*{}", text.strip_prefix('^').unwrap_or(text)));
            }
            if text.contains(['*', '?', '[', '{']) {
                texts.push(format!("*{text}"));
                texts.push(format!("*{text}*"));
            } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                texts.push(format!("re:.*{text}.*"));
            }
            texts
        }
    }
}

fn finds_any(text: &str, modules: &[&str]) -> bool {
    let Ok(pattern) = Pattern::parse(text) else { return false };
    if let Pattern::Class(_) = pattern {
        return true;
    }
    modules.iter().take(TRIED).any(|module| pattern.matches(module, LayerKind::Other).unwrap_or(false))
}

/// The names nearest to `text`: the ones with the longest common ends, ordered by edit distance.
fn nearest_names(text: &str, modules: &[&str]) -> Vec<String> {
    let mut names: Vec<_> = modules
        .iter()
        .filter(|name| name.len() <= LONGEST)
        .map(|name| (shared_ends(text.as_bytes(), name.as_bytes()), *name))
        .collect();
    names.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    names.dedup();
    names.truncate(COMPARED);
    let near = |ends: usize, name: &str| {
        let distance = strsim::damerau_levenshtein(text, name);
        // A name with a part too many or too few, such as another prefix, is far by letters.
        let contained = ends * 4 >= text.len().min(name.len()) * 3;
        (contained || distance <= text.len() / 3 + 1).then_some((text.len().saturating_sub(ends), distance))
    };
    let mut scored: Vec<_> =
        names.into_iter().filter_map(|(ends, name)| near(ends, name).map(|rank| (rank, name))).collect();
    scored.sort_unstable();
    scored.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

/// Bytes that two names share at their front and, of what is left, at their back.
fn shared_ends(a: &[u8], b: &[u8]) -> usize {
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    front + back
}
