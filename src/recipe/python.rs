//! Reads the Python line of llm-compressor's guides, for people who put it into a recipe.

use std::ops::Range;

use serde_json::Value;

/// The name of the modifier that needs no data, as a call begins.
const CALL: &str = "QuantizationModifier(";

/// The place of a call of `QuantizationModifier` in Python code, and the recipe, in this tool's own form, that it comes
/// down to; `None` where there is no such call, or one whose arguments are not written out.
pub(super) fn as_recipe(text: &str, is_toml: bool) -> Option<(Range<usize>, String)> {
    if !text.contains(CALL) {
        return None;
    }
    // Blanks for a comment keep all places right.
    let code: String = text.split_inclusive('\n').map(without_comment).collect();
    let at = code.find(CALL)?;
    let arguments = &code[at + CALL.len()..];
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
    Some((at..at + CALL.len() - 1, lines.join("\n")))
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
        None => string(value).map(|(text, _)| Value::from(text).to_string()),
        Some(mut list) => {
            let mut items = Vec::new();
            loop {
                list = list.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                if list.starts_with(']') {
                    return Some(format!("[{}]", items.join(", ")));
                }
                let (item, rest) = string(list)?;
                items.push(Value::from(item).to_string());
                list = rest;
            }
        }
    }
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

    #[test]
    fn the_line_of_the_guides_becomes_a_recipe() {
        let line = "recipe = QuantizationModifier(\n    targets=\"Linear\", scheme='FP8_DYNAMIC',  # or FP8_BLOCK\n    ignore=[\"lm_head\", r're:.*\\.visual.*',],\n)\n";
        let recipe = |text: &str, is_toml| as_recipe(text, is_toml).map(|(at, recipe)| (text[at].to_owned(), recipe));
        let found = |text: &str| Some(("QuantizationModifier".to_owned(), text.to_owned()));
        let yaml = "scheme: \"FP8_DYNAMIC\"\ntargets: \"Linear\"\nignore: [\"lm_head\", \"re:.*\\\\.visual.*\"]";
        assert_eq!(recipe(line, false), found(yaml));
        let toml = yaml.replace("e: ", "e = ").replace("s: ", "s = ");
        assert_eq!(recipe(line, true), found(&toml));
        let short = "# größer\n# QuantizationModifier(scheme='FP8')\nQuantizationModifier(scheme=\"W4A16\")";
        assert_eq!(recipe(short, false), found("scheme: \"W4A16\"\ntargets: Linear"));
        for text in [
            "",
            "scheme: FP8_DYNAMIC",
            "QuantizationModifier",
            "# QuantizationModifier(scheme='FP8')",
            "QuantizationModifier(scheme=SCHEME)",
            "QuantizationModifier(config_groups=groups)",
            "QuantizationModifier(scheme='FP8",
            "QuantizationModifier(scheme=",
        ] {
            assert_eq!(as_recipe(text, false), None, "{text}");
        }
    }
}
