//! Picks the front end of a recipe by its keys. A further dialect is a folder beside the others, and a line here.

use serde_json::{Map, Value, json};

use crate::checkpoint::text::unquoted;
use crate::recipe::build::Understood;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::front_end::FrontEnd;
use crate::recipe::header::header_keys;
use crate::recipe::llmcompressor::LlmCompressor;
use crate::recipe::native::{FORM_KEYS, Native};
use crate::recipe::suggest::nearest_word;

/// The dialects, in the order of the JSON Schema. They are asked from the last to the first: the keys of the native
/// flat form are common words and tell least.
const FRONT_ENDS: [&dyn FrontEnd; 2] = [&Native, &LlmCompressor];

/// The JSON Schema (draft-07) that recipes are validated against.
pub fn recipe_schema() -> Value {
    let forms: Vec<Value> = FRONT_ENDS.iter().flat_map(|front_end| front_end.forms()).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "qwen-fp8 recipe",
        "description": "Which quantization scheme takes which layers of a checkpoint.",
        "oneOf": forms,
    })
}

/// Turns a document into a header and rules, or says everything that is wrong with it.
pub(super) fn understand(document: &Document) -> Result<Understood, Vec<Diagnostic>> {
    const LEAST: &str = "the least that it needs is `scheme:` and `targets:`";
    let root = match &document.value {
        Value::Object(root) if !root.is_empty() => root,
        Value::Object(_) | Value::Null => return Err(vec![Diagnostic::error("the recipe is empty").help(LEAST)]),
        _ => {
            let diagnostic = Diagnostic::error("a recipe must be a map").at(document.spans.value(""));
            return Err(vec![diagnostic.help(LEAST)]);
        }
    };
    let Some(front_end) = FRONT_ENDS.iter().rev().find(|front_end| front_end.recognizes(root)) else {
        return Err(unrecognized(document, root));
    };
    let mut understood = front_end.understand(document, misplaced);
    if understood.rules.is_empty() && understood.diagnostics.is_empty() {
        understood.diagnostics.push(Diagnostic::error("the recipe has no rules: it would quantize nothing"));
    }
    if understood.diagnostics.is_empty() { Ok(understood) } else { Err(understood.diagnostics) }
}

/// Help for a key that belongs to one of the dialects, but not to the root of a recipe.
fn misplaced(key: &str) -> Option<String> {
    FRONT_ENDS.iter().find_map(|front_end| front_end.misplaced(key))
}

/// The diagnostics for keys by which no front end knows its dialect.
fn unrecognized(document: &Document, root: &Map<String, Value>) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for key in root.keys().filter(|key| !header_keys().any(|known| known == key.as_str())) {
        let diagnostic = Diagnostic::error(format!("unknown key `{}`", unquoted(key)));
        let diagnostic = diagnostic.at(document.spans.key(&child("", key)));
        diagnostics.push(match misplaced(key) {
            Some(help) => diagnostic.help(help),
            None => match nearest_word(key, FORM_KEYS.into_iter().chain(header_keys())) {
                Some(word) => diagnostic.help(format!("did you mean `{word}`?")),
                None => diagnostic.help("a recipe has `rules:`, or one rule with `scheme:` and `targets:`"),
            },
        });
    }
    if diagnostics.is_empty() {
        let diagnostic = Diagnostic::error("the recipe has no rules: it would quantize nothing");
        diagnostics.push(diagnostic.help("add `rules:`, or one rule with `scheme:` and `targets:`"));
    }
    diagnostics
}
