//! Validates native rules, each by the branch of its scheme.

use serde_json::Value;

use super::schema::Branch;
use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::child;
use crate::recipe::suggest::{list_of_schemes, nearest_word, unknown_scheme};
use crate::recipe::validate::Validation;
use crate::recipe::wording::{subject, value};

/// Validates the rule at `pointer`, whose scheme must be one of `branches`.
pub(in crate::recipe) fn validate_rule(validation: &mut Validation<'_>, pointer: &str, branches: &[Branch]) {
    let document = validation.document;
    let Some(rule) = document.value.pointer(pointer).and_then(Value::as_object) else { return };
    let scheme_at = child(pointer, "scheme");
    match rule.get("scheme") {
        Some(Value::String(name)) => match branches.iter().find(|branch| branch.name == name) {
            Some(branch) => validation.branch(branch.name, &branch.schema, pointer),
            None => {
                let diagnostic = match qwen_fp8_schemes::find(name) {
                    Some(known) if known.name == name => {
                        Diagnostic::error(format!("the scheme `{name}` is not possible in {}", subject(pointer)))
                            .help(schemes(branches))
                    }
                    _ => unknown_scheme(name, branches.iter().map(|branch| branch.name)),
                };
                validation.report(diagnostic.at(document.spans.value(&scheme_at)), pointer);
            }
        },
        Some(other) => {
            let message = format!("`scheme` must be a string that names a scheme, not {}", value(other));
            let diagnostic = Diagnostic::error(message).at(document.spans.value(&scheme_at));
            validation.report(diagnostic.help(schemes(branches)), pointer);
        }
        None => {
            let mut diagnostic = Diagnostic::error(format!("{} names no `scheme`", subject(pointer)));
            diagnostic = diagnostic.at(document.spans.key(pointer));
            if let Some(key) = rule.keys().find(|key| nearest_word(key, ["scheme"]).is_some()) {
                diagnostic = diagnostic.at(document.spans.key(&child(pointer, key)));
                diagnostic = diagnostic.help(format!("`{}` is not a key; did you mean `scheme`?", unquoted(key)));
            }
            validation.report(diagnostic.help(schemes(branches)), pointer);
        }
    }
}

fn schemes(branches: &[Branch]) -> String {
    list_of_schemes(branches.iter().map(|branch| branch.name))
}
