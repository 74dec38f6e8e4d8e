//! Reads the Python code of llm-compressor's guides, for people who put it into a recipe.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use crate::checkpoint::text::shown;
use crate::recipe::diagnostic::{Diagnostic, is_unfit};
use crate::recipe::suggest::list;

/// How the name of every modifier of llm-compressor ends, with the call.
const CALL: &str = "Modifier(";
/// The modifier that needs no data.
const QUANTIZATION: &str = "QuantizationModifier";

/// The diagnostic for Python code with calls of llm-compressor's modifiers, at the call that says what to quantize:
/// with the recipe, in this tool's own form, that it comes down to. `None` where there is no such call.
pub(super) fn diagnostic(text: &str, is_toml: bool) -> Option<Diagnostic> {
    // Most texts are left here, before they are copied.
    if !text.contains(CALL) {
        return None;
    }
    // Blanks for a comment keep all places right.
    let code: String = text.split_inclusive('\n').map(without_comment).collect();
    let calls = calls(&code);
    let written_out = |(name, at): &&(&str, Range<usize>)| {
        let is_meant = *name == QUANTIZATION;
        (argument(arguments(&code, at), "scheme").is_some(), is_meant)
    };
    // Of several, the one whose scheme can be read; of these, the one that needs no data.
    let (_, at) = calls.iter().max_by_key(written_out)?;
    let python = Diagnostic::error("the recipe is Python code, which this tool does not run").at(at.clone());
    let others: BTreeSet<&str> = calls.iter().map(|(name, _)| *name).filter(|name| *name != QUANTIZATION).collect();
    let python = match as_recipe(arguments(&code, at), is_toml) {
        Some(recipe) => {
            let python = python.help(format!("as a recipe, that is:\n{}", recipe.join("\n")));
            anchored(arguments(&code, at)).into_iter().fold(python, |python, pattern| {
                let anywhere = format!("re:.*{}", pattern.trim_start_matches("re:"));
                python.help(format!(
                    "{} is matched from the start of a name, as llm-compressor does it too; where the names begin with `model.`, it has to be {}",
                    shown(&pattern),
                    shown(&anywhere)
                ))
            })
        }
        None => python.help(
            "its arguments are not written out; a recipe says them, such as `scheme: FP8_DYNAMIC`, `targets: Linear` and `ignore: [lm_head]`",
        ),
    };
    Some(match others.len() {
        0 => python,
        1 => python.help(format!(
            "{} adapts weights to data, which this tool does not read: it rounds each to the nearest value",
            list(others, "and")
        )),
        _ => python.help(format!(
            "{} adapt weights to data, which this tool does not read: it rounds each to the nearest value",
            list(others, "and")
        )),
    })
}

/// The calls of modifiers: the names, and where these stand.
fn calls(code: &str) -> Vec<(&str, Range<usize>)> {
    let ends = code.match_indices(CALL).map(|(at, _)| at + CALL.len() - 1);
    let called = ends.map(|end| {
        let start = code[..end]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(0, |before| before + code[before..].chars().next().map_or(1, char::len_utf8));
        (&code[start..end], start..end)
    });
    called.collect()
}

/// What follows a call up to the next one.
fn arguments<'a>(code: &'a str, call: &Range<usize>) -> &'a str {
    let rest = &code[call.end + 1..];
    rest.find(CALL).map_or(rest, |next| &rest[..next])
}

/// The lines of a recipe with these arguments of a call; `None` where the scheme is not written out.
fn as_recipe(arguments: &str, is_toml: bool) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    for key in ["scheme", "targets", "ignore"] {
        match (key, argument(arguments, key)) {
            (_, Some(value)) => {
                lines.push(if is_toml { format!("{key} = {value}") } else { format!("{key}: {value}") })
            }
            ("scheme", None) => return None,
            ("targets", None) => {
                lines.push(if is_toml { "targets = \"Linear\"" } else { "targets: Linear" }.to_owned())
            }
            _ => {}
        }
    }
    Some(lines)
}

/// The regexes among the arguments that begin with a word of the middle of names.
fn anchored(arguments: &str) -> Vec<String> {
    let values = ["targets", "ignore"].into_iter().filter_map(|key| argument(arguments, key));
    let values = values.filter_map(|value| serde_json::from_str::<Value>(&value).ok());
    let texts = values.flat_map(|value| match value {
        Value::Array(items) => items,
        one => vec![one],
    });
    let texts = texts.filter_map(|value| value.as_str().map(str::to_owned));
    texts.filter(|text| text.strip_prefix("re:").is_some_and(begins_within)).collect()
}

fn begins_within(expression: &str) -> bool {
    let begins_with_word = expression.starts_with(|c: char| c.is_ascii_alphabetic());
    begins_with_word && !["model", "lm_head"].iter().any(|first| expression.starts_with(first))
}

/// The line with a blank in place of each byte of its comment.
fn without_comment(line: &str) -> String {
    let (code, comment) = line.find('#').map_or((line, ""), |at| line.split_at(at));
    let blanks = comment.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' });
    code.chars().chain(blanks).collect()
}

/// The value of a keyword argument as JSON, which YAML and TOML read: a string, or a list of strings.
fn argument(arguments: &str, key: &str) -> Option<String> {
    let mut rest = arguments;
    let value = loop {
        let at = rest.find(key)?;
        let is_whole = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        rest = &rest[at + key.len()..];
        match rest.trim_start().strip_prefix('=') {
            Some(value) if is_whole => break value.trim_start(),
            _ => {}
        }
    };
    match value.strip_prefix('[') {
        None => string(value).map(|(text, _)| quoted(text)),
        Some(mut list) => {
            let mut items = Vec::new();
            loop {
                list = list.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if list.starts_with(']') {
                    return Some(format!("[{}]", items.join(", ")));
                }
                let (item, rest) = string(list)?;
                items.push(quoted(item));
                list = rest;
            }
        }
    }
}

/// The text as a JSON string that a terminal shows as it stands: what JSON leaves as it is and a terminal acts on is escaped too.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    if !json.contains(is_unfit) {
        return json;
    }
    // Each of these characters is below U+10000, so that four digits name it.
    json.chars().fold(String::new(), |line, c| {
        if is_unfit(c) { format!("{line}\\u{:04x}", u32::from(c)) } else { format!("{line}{c}") }
    })
}

/// A Python string, raw or not, without escapes that change it, and what follows it.
fn string(text: &str) -> Option<(&str, &str)> {
    let raw = text.strip_prefix('r');
    let text = raw.unwrap_or(text);
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let (inner, rest) = text[1..].split_once(quote)?;
    (!inner.contains('\n')).then_some((inner, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, is_toml: bool) -> Option<(String, Vec<String>)> {
        let diagnostic = diagnostic(text, is_toml)?;
        Some((text[diagnostic.span.unwrap()].to_owned(), diagnostic.help))
    }

    #[test]
    fn the_line_of_the_guides_becomes_a_recipe() {
        let line = "recipe = QuantizationModifier(\n    targets=\"Linear\", scheme='FP8_DYNAMIC',  # or FP8_BLOCK\n    ignore=[\"lm_head\", r're:.*\\.visual.*',],\n)\n";
        let recipe = |text: &str, is_toml| found(text, is_toml).map(|(at, help)| (at, help.join("; ")));
        let made = |text: &str| Some(("QuantizationModifier".to_owned(), format!("as a recipe, that is:\n{text}")));
        let yaml = "scheme: \"FP8_DYNAMIC\"\ntargets: \"Linear\"\nignore: [\"lm_head\", \"re:.*\\\\.visual.*\"]";
        assert_eq!(recipe(line, false), made(yaml));
        let toml = yaml.replace("e: ", "e = ").replace("s: ", "s = ");
        assert_eq!(recipe(line, true), made(&toml));
        let short = "# größer\n# QuantizationModifier(scheme='FP8')\nQuantizationModifier(scheme=\"W4A16\")";
        assert_eq!(recipe(short, false), made("scheme: \"W4A16\"\ntargets: Linear"));
        for text in ["", "scheme: FP8_DYNAMIC", "QuantizationModifier", "# QuantizationModifier(scheme='FP8')"] {
            assert_eq!(found(text, false), None, "{text}");
        }
        for text in [
            "QuantizationModifier(scheme=SCHEME)",
            "QuantizationModifier(config_groups=groups)",
            "QuantizationModifier(scheme='FP8",
            "QuantizationModifier(scheme=",
            "ßModifier(",
        ] {
            assert!(found(text, false).unwrap().1[0].starts_with("its arguments are not written out"), "{text}");
        }
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped_in_the_recipe() {
        let (_, help) = found("QuantizationModifier(scheme='a\u{1c}\u{7f}\u{85}\u{202e}b')", true).unwrap();
        let value = r#""a\u001c\u007f\u0085\u202eb""#;
        assert_eq!(help[0], format!("as a recipe, that is:\nscheme = {value}\ntargets = \"Linear\""));
        let read: Value = serde_json::from_str(value).unwrap();
        assert_eq!(read, "a\u{1c}\u{7f}\u{85}\u{202e}b");
    }

    #[test]
    fn of_several_modifiers_the_one_with_a_scheme_is_taken() {
        let list = "recipe = [\n  SmoothQuantModifier(smoothing_strength=0.8),\n  GPTQModifier(targets='Linear', scheme='W8A8'),\n]\n";
        let (at, help) = found(list, false).unwrap();
        assert_eq!(at, "GPTQModifier");
        assert_eq!(help[0], "as a recipe, that is:\nscheme: \"W8A8\"\ntargets: \"Linear\"");
        assert!(help[1].starts_with("`GPTQModifier` and `SmoothQuantModifier` adapt weights to data"), "{help:?}");
        let (at, help) = found("[AWQModifier(scheme='W4A16'), QuantizationModifier(scheme='FP8')]", false).unwrap();
        assert_eq!((at.as_str(), help[0].lines().nth(1)), ("QuantizationModifier", Some("scheme: \"FP8\"")));
        assert!(help[1].starts_with("`AWQModifier` adapts"), "{help:?}");
    }

    #[test]
    fn regexes_that_begin_within_a_name_are_told() {
        let line =
            "QuantizationModifier(scheme='FP8', ignore=['re:visual.*', 're:model.visual.*', 're:.*x', 'lm_head'])";
        let (_, help) = found(line, false).unwrap();
        assert_eq!(help.len(), 2, "{help:?}");
        assert!(help[1].contains("`re:visual.*`") && help[1].contains("`re:.*visual.*`"), "{help:?}");
    }
}
