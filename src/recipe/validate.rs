//! Validates parts of a document against JSON Schemas, and explains what does not follow them.
//!
//! The schema of recipes is one `oneOf` over the forms, and a `oneOf` over the schemes in each; an error "none of
//! these" helps nobody. So a front end chooses the form by the keys that are there and a rule's branch by its `scheme`,
//! and only the errors of those are reported: a document that follows them follows the schema, whose other forms and
//! branches are closed to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::explain::{Explainer, Hints};
use crate::recipe::violation::{Checker, Kind, unknown_keyword};

/// A validation under way: the document and the diagnostics so far.
pub(super) struct Validation<'a> {
    pub(super) document: &'a Document,
    hints: &'a dyn Hints,
    diagnostics: Vec<Diagnostic>,
    /// Pointers at which something was found.
    broken: BTreeSet<String>,
    checker: Checker,
    /// A keyword that is not known, by the scheme whose branch has it; `None` for a branch that has none.
    unknown_keywords: BTreeMap<&'static str, Option<String>>,
    /// Nothing was against the schema so far.
    accepted: bool,
}

/// The result of a validation.
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
            checker: Checker::default(),
            unknown_keywords: BTreeMap::new(),
            accepted: true,
        }
    }

    /// Validates the whole document against the schema of a form in which rules may be any map.
    pub(super) fn form(&mut self, schema: &Value) {
        self.against(schema, "");
    }

    /// Validates the rule at `pointer` against the branch of the scheme `name`.
    pub(super) fn branch(&mut self, name: &'static str, schema: &Value, pointer: &str) {
        // Asked once for a scheme, since a recipe may have thousands of rules with it.
        let unknown = self.unknown_keywords.entry(name);
        let unknown = unknown.or_insert_with(|| unknown_keyword(schema).map(str::to_owned));
        if let Some(keyword) = unknown {
            let message = format!("the schema of this scheme's options has a `{keyword}` that recipes are not held to");
            self.report(Diagnostic::error(message).at(self.document.spans.key(pointer)), pointer);
        } else {
            self.against(schema, pointer);
        }
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
            self.diagnostics.push(Diagnostic::error("the text does not follow the schema"));
        }
        Validated { diagnostics: self.diagnostics, broken: self.broken }
    }

    fn against(&mut self, schema: &Value, pointer: &str) {
        let Some(instance) = self.document.value.pointer(pointer) else { return };
        let explainer = Explainer { document: self.document, hints: self.hints };
        for violation in self.checker.violations(schema, instance, pointer) {
            self.accepted = false;
            for diagnostic in explainer.diagnostics(&violation) {
                self.report(diagnostic, &violation.pointer);
            }
            if let Kind::UnknownKeys(unknown) = &violation.kind {
                self.broken.extend(unknown.iter().map(|key| child(&violation.pointer, key)));
            }
        }
    }
}
