//! Holds a document against the JSON Schema, and says what is wrong in the words of the recipe.
//!
//! The schema is one `oneOf` over the forms, and a `oneOf` over the schemes in each; an error "none of these" helps
//! nobody. So the form is chosen by the keys that are there, a rule's branch by its `scheme`, and the errors of that
//! branch alone are told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::LazyLock;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value, json};

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::schema::{Branch, Parts};
use crate::recipe::suggest::{list, nearest_word};
use crate::recipe::{explain, llmcompressor};

/// How a recipe is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `rules:`, a list.
    Rules,
    /// One rule, its keys at the top.
    Flat,
    /// `FP8Modifier:` at the top.
    Modifier,
    /// llm-compressor's stages of modifiers.
    Stages,
}

/// What validation found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) form: Option<Form>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Pointers of the rules and modifiers that have a diagnostic, so that they are not built.
    pub(super) broken: BTreeSet<String>,
}

static PARTS: LazyLock<Parts> = LazyLock::new(Parts::new);

/// Validates a document; no diagnostics means that the schema accepts it.
///
/// The form and the branches that are meant are all that is compiled: a document that follows them follows the schema,
/// whose other forms and branches are closed to it.
pub(super) fn check(document: &Document) -> Checked {
    let mut check = Check {
        document,
        parts: parts(),
        checked: Checked { form: None, diagnostics: Vec::new(), broken: BTreeSet::new() },
        branches: BTreeMap::new(),
        accepted: true,
    };
    check.form();
    check.checked
}

/// What the schema is put together from.
pub(super) fn parts() -> &'static Parts {
    &PARTS
}

/// `None` only where a scheme's options are no valid schema; such a scheme's rules are refused.
fn compile(schema: &Value) -> Option<Validator> {
    jsonschema::draft7::options().build(schema).ok()
}

struct Check<'a> {
    document: &'a Document,
    parts: &'a Parts,
    checked: Checked,
    /// The branches that were needed so far, by the name of their scheme.
    branches: BTreeMap<&'static str, Option<Rc<Validator>>>,
    /// No validator has objected so far.
    accepted: bool,
}

impl Check<'_> {
    fn form(&mut self) {
        let Some(root) = self.document.value.as_object() else {
            let (message, span) = match &self.document.value {
                Value::Null => ("the recipe is empty", None),
                _ => ("a recipe must be a map", Some(self.document.spans.value(""))),
            };
            let mut diagnostic = Diagnostic::error(message).help("the least that it needs is `scheme:` and `targets:`");
            diagnostic.span = span;
            self.checked.diagnostics.push(diagnostic);
            return;
        };
        if root.is_empty() {
            let diagnostic = Diagnostic::error("the recipe is empty");
            self.checked.diagnostics.push(diagnostic.help("the least that it needs is `scheme:` and `targets:`"));
            return;
        }
        let Some(form) = form_of(root) else {
            self.no_form(root);
            return;
        };
        self.checked.form = Some(form);
        match form {
            Form::Rules => {
                self.outer(&self.parts.rules(json!({ "type": "object" })));
                let rules = root["rules"].as_array().map_or(0, Vec::len);
                for index in 0..rules {
                    self.rule(&child("/rules", index), &self.parts.rules);
                }
            }
            Form::Flat => self.rule("", &self.parts.flat()),
            Form::Modifier => {
                self.outer(&self.parts.modifier(json!({ "type": "object" })));
                self.rule("/FP8Modifier", &self.parts.fp8_modifiers());
            }
            Form::Stages => {
                self.outer(&self.parts.stages(json!({ "type": "object" })));
                for (pointer, name) in llmcompressor::modifiers(root) {
                    if name == "FP8Modifier" {
                        self.rule(&pointer, &self.parts.fp8_modifiers());
                    }
                }
            }
        }
        if !self.accepted && self.checked.diagnostics.is_empty() {
            // The schema refuses what none of its parts does: the message is the least helpful, but nothing passes.
            self.checked.diagnostics.push(Diagnostic::error("the recipe does not follow the schema"));
        }
    }

    /// Everything of a form but the rules in it.
    fn outer(&mut self, schema: &Value) {
        self.explain(compile(schema).map(Rc::new), schema, "");
    }

    /// One rule, by the branch of its scheme.
    fn rule(&mut self, pointer: &str, branches: &[Branch]) {
        let Some(rule) = self.document.value.pointer(pointer).and_then(Value::as_object) else { return };
        match rule.get("scheme") {
            Some(Value::String(name)) => match branches.iter().find(|branch| branch.name == name) {
                Some(branch) => {
                    let compiled = self.branches.entry(branch.name);
                    let validator = compiled.or_insert_with(|| compile(&branch.schema).map(Rc::new)).clone();
                    self.explain(validator, &branch.schema, pointer);
                }
                None => {
                    let diagnostic = match qwen_fp8_schemes::find(name) {
                        Some(known) if known.name == name => {
                            Diagnostic::error(format!("`{name}` is no scheme for {}", explain::subject(pointer)))
                                .help(schemes(branches))
                        }
                        _ => unknown_scheme(name, branches.iter().map(|branch| branch.name)),
                    };
                    let span = self.document.spans.value(&child(pointer, "scheme"));
                    self.push(diagnostic.at(span), pointer);
                }
            },
            Some(other) => {
                let span = self.document.spans.value(&child(pointer, "scheme"));
                let message = format!("`scheme` must be a string that names a scheme, not {}", explain::value(other));
                self.push(Diagnostic::error(message).at(span).help(schemes(branches)), pointer);
            }
            None => {
                let mut diagnostic = Diagnostic::error(format!("{} names no `scheme`", explain::subject(pointer)));
                diagnostic = diagnostic.at(self.document.spans.key(pointer));
                if let Some(key) = rule.keys().find(|key| nearest_word(key, ["scheme"]).is_some()) {
                    diagnostic = diagnostic.at(self.document.spans.key(&child(pointer, key)));
                    diagnostic = diagnostic.help(format!("`{}` is no key; did you mean `scheme`?", unquoted(key)));
                }
                self.push(diagnostic.help(schemes(branches)), pointer);
            }
        }
    }

    fn explain(&mut self, validator: Option<Rc<Validator>>, schema: &Value, pointer: &str) {
        let Some(instance) = self.document.value.pointer(pointer) else { return };
        let Some(validator) = validator else {
            let message = "the schema of this scheme's options is not valid";
            self.push(Diagnostic::error(message).at(self.document.spans.key(pointer)), pointer);
            return;
        };
        let explainer = explain::Explainer { schema, prefix: pointer, document: self.document };
        for error in validator.iter_errors(instance) {
            self.accepted = false;
            let place = format!("{pointer}{}", error.instance_path().as_str());
            for diagnostic in explainer.diagnostics(&error) {
                self.push(diagnostic, &place);
            }
            if let Kind::AdditionalProperties { unexpected } = error.kind() {
                for key in unexpected {
                    self.checked.broken.insert(child(&place, key));
                }
            }
        }
    }

    fn push(&mut self, diagnostic: Diagnostic, place: &str) {
        self.checked.diagnostics.push(diagnostic);
        self.checked.broken.insert(place.to_owned());
    }

    /// Keys from which no form can be told.
    fn no_form(&mut self, root: &Map<String, Value>) {
        const FORMS: [&str; 3] = ["rules", "scheme", "FP8Modifier"];
        let header: Vec<_> = self.parts.header_keys().collect();
        let mut told = false;
        for key in root.keys().filter(|key| !header.contains(&key.as_str())) {
            told = true;
            let diagnostic = Diagnostic::error(format!("unknown key `{}`", unquoted(key)));
            let diagnostic = diagnostic.at(self.document.spans.key(&child("", key)));
            let known = FORMS.into_iter().chain(header.iter().copied());
            self.checked.diagnostics.push(match llmcompressor::misplaced(key) {
                Some(help) => diagnostic.help(help),
                None => match nearest_word(key, known) {
                    Some(word) => diagnostic.help(format!("did you mean `{word}`?")),
                    None => diagnostic.help("a recipe has `rules:`, or one rule with `scheme:` and `targets:`"),
                },
            });
        }
        if !told {
            let diagnostic = Diagnostic::error("the recipe has no rules: it would quantize nothing");
            self.checked.diagnostics.push(diagnostic.help("add `rules:`, or one rule with `scheme:` and `targets:`"));
        }
    }
}

fn form_of(root: &Map<String, Value>) -> Option<Form> {
    if root.contains_key("rules") {
        return Some(Form::Rules);
    }
    if root.keys().any(|key| key.ends_with("_stage")) {
        return Some(Form::Stages);
    }
    if root.contains_key("FP8Modifier") {
        return Some(Form::Modifier);
    }
    ["scheme", "targets", "ignore"].iter().any(|key| root.contains_key(*key)).then_some(Form::Flat)
}

/// The diagnostic for a scheme that is not linked in, without its place.
pub(super) fn unknown_scheme<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("no scheme is called `{}`", unquoted(name)));
    match nearest_word(name, known.clone()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(all(known)),
    }
}

fn schemes(branches: &[Branch]) -> String {
    all(branches.iter().map(|branch| branch.name))
}

/// All schemes, or where they are listed.
fn all<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    match names.clone().count() {
        0..=6 => format!("the schemes are {}", list(names, "and")),
        _ => "`qwen-fp8 schemes` lists the schemes of this build".to_owned(),
    }
}
