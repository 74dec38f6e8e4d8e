//! Validates parts of a document against JSON Schemas, and explains what does not follow them.
//!
//! The schema of recipes is one `oneOf` over the forms, and a `oneOf` over the schemes in each; an error "none of
//! these" helps nobody. So a front end chooses the form by the keys that are there and a rule's branch by its `scheme`,
//! and only the errors of those are reported. Only they are compiled: a document that follows them follows the schema,
//! whose other forms and branches are closed to it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::Value;

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::explain::{Explainer, Hints};

/// A document under validation, and what was found so far.
pub(super) struct Validation<'a> {
    pub(super) document: &'a Document,
    hints: &'a dyn Hints,
    diagnostics: Vec<Diagnostic>,
    /// Pointers at which something was found.
    broken: BTreeSet<String>,
    /// The schemes' branches that were compiled so far, by the name of their scheme.
    compiled: BTreeMap<&'static str, Option<Rc<Validator>>>,
    /// No validator has objected so far.
    accepted: bool,
}

/// What validation found.
pub(super) struct Validated {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Pointers at which something was found, so that nothing is built from there.
    pub(super) broken: BTreeSet<String>,
}

impl<'a> Validation<'a> {
    pub(super) fn new(document: &'a Document, hints: &'a dyn Hints) -> Self {
        Self {
            document,
            hints,
            diagnostics: Vec::new(),
            broken: BTreeSet::new(),
            compiled: BTreeMap::new(),
            accepted: true,
        }
    }

    /// Validates the whole document against the schema of a form in which rules may be any map.
    pub(super) fn form(&mut self, schema: &Value) {
        self.against(compile(schema).map(Rc::new), schema, "");
    }

    /// Validates the rule at `pointer` against the branch of the scheme `name`.
    pub(super) fn branch(&mut self, name: &'static str, schema: &Value, pointer: &str) {
        let compiled = self.compiled.entry(name);
        let validator = compiled.or_insert_with(|| compile(schema).map(Rc::new)).clone();
        self.against(validator, schema, pointer);
    }

    /// Records what is wrong at `place`.
    pub(super) fn report(&mut self, diagnostic: Diagnostic, place: &str) {
        self.diagnostics.push(diagnostic);
        self.broken.insert(place.to_owned());
    }

    /// Ends the validation; no diagnostics means that the schema accepts the document.
    pub(super) fn finish(mut self) -> Validated {
        if !self.accepted && self.diagnostics.is_empty() {
            // The schema refuses what none of its parts does: the message is the least helpful, but nothing passes.
            self.diagnostics.push(Diagnostic::error("the recipe does not follow the schema"));
        }
        Validated { diagnostics: self.diagnostics, broken: self.broken }
    }

    fn against(&mut self, validator: Option<Rc<Validator>>, schema: &Value, pointer: &str) {
        let Some(instance) = self.document.value.pointer(pointer) else { return };
        let Some(validator) = validator else {
            let message = "the schema of this scheme's options is not valid";
            self.report(Diagnostic::error(message).at(self.document.spans.key(pointer)), pointer);
            return;
        };
        let explainer = Explainer { schema, prefix: pointer, document: self.document, hints: self.hints };
        for error in validator.iter_errors(instance) {
            self.accepted = false;
            let place = format!("{pointer}{}", error.instance_path().as_str());
            for diagnostic in explainer.diagnostics(&error) {
                self.report(diagnostic, &place);
            }
            if let Kind::AdditionalProperties { unexpected } = error.kind() {
                for key in unexpected {
                    self.broken.insert(child(&place, key));
                }
            }
        }
    }
}

/// `None` only where a scheme's options are no valid schema; such a scheme's rules are refused.
fn compile(schema: &Value) -> Option<Validator> {
    jsonschema::draft7::options().build(schema).ok()
}
