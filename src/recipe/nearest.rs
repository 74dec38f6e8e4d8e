//! Corrections for a pattern that matches nothing.

use crate::checkpoint::models::LayerKind;
use crate::checkpoint::pattern::{CLASSES, Pattern};
use crate::recipe::suggest::nearest_word;

mod words;

use words::{Right, is_word, with_known_words};

pub use words::near_words;

/// The number of names that are compared letter by letter, which takes quadratic time.
const COMPARED: usize = 64;
/// The number of names that a corrected pattern is tried on; the layers it should match are never rare.
const TRIED: usize = 20_000;
/// The number of names that are suggested.
const SHOWN: usize = 3;
/// The number of letters from which on a word may be the beginning of a class.
const LEAST_BEGINNING: usize = 3;
/// The length, in bytes, above which neither a pattern nor a name is compared.
const LONGEST: usize = 300;

/// Suggests, for a pattern that matches none of `modules`, a corrected pattern that does match, or the nearest real
/// names, best first.
pub fn nearest(pattern: &Pattern, modules: &[&str]) -> Vec<String> {
    let text = pattern.text();
    // A class is spelt right, or it would be a name.
    if text.len() > LONGEST || matches!(pattern, Pattern::Class(_)) {
        return Vec::new();
    }
    if let Some(regex) = with_prefix_in_small(text) {
        let Ok(pattern) = Pattern::parse(&regex) else { return Vec::new() };
        return if finds_any(&regex, modules) { vec![regex] } else { nearest(&pattern, modules) };
    }
    let tried = &modules[..modules.len().min(TRIED)];
    let first = |texts: Vec<String>| texts.into_iter().find(|text| finds_any(text, tried));
    if let Pattern::Exact(_) = pattern {
        if let Some(class) = class_begun(text, tried) {
            return vec![class.to_owned()];
        }
        if let Some(corrected) = first(corrections(pattern)) {
            return vec![corrected];
        }
        let names = nearest_names(text.strip_suffix(".weight").unwrap_or(text), modules);
        if !names.is_empty() {
            return names;
        }
    }
    let respelt = |right| {
        let pattern = Pattern::parse(&with_known_words(pattern, tried, right)?).ok()?;
        first(std::iter::once(pattern.text().to_owned()).chain(corrections(&pattern)).collect())
    };
    // A word that no name holds is what is wrong, whatever form is around it. One that is a part of a longer word may be
    // right, and comes last.
    let corrected = respelt(Right::Parts).or_else(|| first(corrections(pattern))).or_else(|| respelt(Right::Words));
    corrected.into_iter().collect()
}

/// A regex whose prefix is written otherwise, such as `RE:.*` or `regex:.*`.
fn with_prefix_in_small(text: &str) -> Option<String> {
    let (prefix, expression) = text.split_once(':')?;
    let is_meant = prefix.eq_ignore_ascii_case("re") && prefix != "re" || prefix.eq_ignore_ascii_case("regex");
    is_meant.then(|| format!("re:{}", expression.trim_start()))
}

/// The class that a word begins, such as `lin`, where no name has that word.
fn class_begun(text: &str, modules: &[&str]) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    let begins =
        |kind: &&LayerKind| kind.name().to_ascii_lowercase().starts_with(&lower) && kind.name().len() > lower.len();
    let class = CLASSES.iter().find(begins).filter(|_| lower.len() >= LEAST_BEGINNING)?;
    (!is_word(&lower, modules)).then(|| class.name())
}

/// Patterns that the user may have meant, the likeliest first.
fn corrections(pattern: &Pattern) -> Vec<String> {
    let text = pattern.text();
    match pattern {
        Pattern::Class(_) => Vec::new(),
        Pattern::Regex { .. } => of_regex(text.strip_prefix("re:").unwrap_or(text)),
        Pattern::Glob { .. } | Pattern::Exact(_) => {
            if let Some(class) = class_meant(text) {
                return vec![class.to_owned()];
            }
            let mut texts = Vec::new();
            if text.contains(".*") || text.contains(['\\', '^', '$', '|', '(', '+']) {
                texts.push(format!("re:{text}"));
                let expression = text.strip_prefix('^').unwrap_or(text);
                if !expression.starts_with('*') {
                    texts.push(format!("re:.*{expression}"));
                }
                // A glob's `*` beside a regex's parentheses.
                texts.push(format!("re:{}", expression.replace(".*", "*").replace('*', ".*")));
            }
            if text.contains(['*', '?', '[', '{']) {
                texts.extend(of_glob(text));
            } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                texts.push(format!("re:.*{text}.*"));
            }
            texts
        }
    }
}

fn of_regex(expression: &str) -> Vec<String> {
    let expression = expression.strip_prefix('^').unwrap_or(expression);
    let mut texts = vec![format!("re:.*{expression}")];
    // A regex sees the module, which has no `.weight` at its end.
    for suffix in [r"\.weight$", ".weight$", r"\.weight", ".weight"] {
        if let Some(module) = expression.strip_suffix(suffix) {
            texts.push(format!("re:{module}$"));
            texts.push(format!("re:.*{module}$"));
        }
    }
    // Within single quotes, YAML leaves both backslashes.
    let single = expression.replace(r"\\", r"\");
    texts.push(format!("re:{single}"));
    texts.push(format!("re:.*{single}"));
    // A name goes on where `$` wants its end.
    let open = single.trim_end_matches('$');
    texts.push(format!("re:{open}"));
    texts.push(format!("re:.*{open}"));
    // Another model has other modules around the same layers.
    let mut rest = open;
    while let Some(inner) = without_first_part(rest, &[r"\.", "."]) {
        texts.push(format!("re:.*{inner}"));
        rest = inner;
    }
    texts.push(format!("re:{}", any_numbers(open, r"\d+")));
    texts.push(format!("re:.*{}", any_numbers(open, r"\d+")));
    texts
}

fn of_glob(text: &str) -> Vec<String> {
    let mut texts = vec![format!("*{text}"), format!("*{text}*")];
    let module = text.strip_suffix(".weight").unwrap_or(text).trim_end_matches('.');
    texts.push(module.to_owned());
    texts.push(format!("*{module}"));
    texts.push(format!("*{module}*"));
    let mut rest = module;
    while let Some(inner) = without_first_part(rest, &["."]) {
        texts.push(format!("*{inner}"));
        rest = inner;
    }
    texts.push(any_numbers(module, "*"));
    texts.push(format!("*{}", any_numbers(module, "*")));
    texts
}

/// What follows the first part of a name, if that is a plain word and more follows.
fn without_first_part<'a>(text: &'a str, dots: &[&str]) -> Option<&'a str> {
    let word = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let rest = dots.iter().find_map(|dot| text[word..].strip_prefix(dot))?;
    (word > 0 && rest.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(rest)
}

/// The text with `any` in place of each part that is a number.
fn any_numbers(text: &str, any: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let part = |part: &str| match part.strip_suffix('\\') {
        Some(number) if is_number(number) => format!("{any}\\"),
        None if is_number(part) => any.to_owned(),
        _ => part.to_owned(),
    };
    text.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// The class that a word without dots means: in another case, misspelt, or as torch and transformers call it.
fn class_meant(text: &str) -> Option<&'static str> {
    let word = text.rsplit_once("nn.").map_or(text, |(_, class)| class);
    if let Some(class) = CLASSES.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(word)) {
        return Some(class.name());
    }
    // Modules are written small, classes with a capital.
    if !word.starts_with(|c: char| c.is_ascii_uppercase()) || !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let known = ["Conv1d", "Conv2d", "Conv3d"].contains(&word).then(|| LayerKind::Conv.name());
    let norm = word.ends_with("Norm").then(|| LayerKind::Norm.name());
    known.or(norm).or_else(|| nearest_word(word, CLASSES.into_iter().map(LayerKind::name)))
}

fn finds_any(text: &str, modules: &[&str]) -> bool {
    let Ok(pattern) = Pattern::parse(text) else { return false };
    if let Pattern::Class(_) = pattern {
        return true;
    }
    modules.iter().any(|module| pattern.matches(module, LayerKind::Other).unwrap_or(false))
}

/// Returns the names nearest to `text`, if any is near: the ones with the longest common ends, ordered by edit distance.
pub fn nearest_names(text: &str, modules: &[&str]) -> Vec<String> {
    if text.len() > LONGEST {
        return Vec::new();
    }
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
