//! From a document that follows the schema to typed rules.

use std::collections::BTreeSet;
use std::ops::Range;

use qwen_fp8_schemes::{Format, Make, Registration, Strategy, registered};
use serde_json::{Map, Value};

use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{sentence, unquoted};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::fields::{Header, Patterns, RULE_KEYS, RuleKeys};
use crate::recipe::llmcompressor;
use crate::recipe::validate::{Form, parts, unknown_scheme};
use crate::recipe::{Dialect, Located, Rule};

/// What a vision tower is called in the checkpoints that have one.
const VISION: [&str; 3] = ["re:.*visual.*", "re:.*vision_tower.*", "re:.*vision_model.*"];

/// Builds rules and collects what is wrong with them.
pub(super) struct Builder<'a> {
    pub(super) document: &'a Document,
    pub(super) format: Format,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Pointers at which validation found something.
    broken: &'a BTreeSet<String>,
}

/// What a document says.
pub(super) struct Built {
    pub(super) dialect: Dialect,
    pub(super) header: Header,
    pub(super) format: Format,
    pub(super) rules: Vec<Rule>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Builds everything in which validation found nothing.
pub(super) fn build(document: &Document, form: Form, broken: &BTreeSet<String>) -> Built {
    let empty = Map::new();
    let root = document.value.as_object().unwrap_or(&empty);
    let modifiers = llmcompressor::modifiers(root);
    let upstream = form == Form::Stages && modifiers.iter().any(|(_, name)| *name == "QuantizationModifier");
    // Keys that are wrong were found by validation; then the header's values do not matter.
    let header: Header = serde_json::from_value(document.value.clone()).unwrap_or_default();
    let dialect = if upstream { Dialect::LlmCompressor } else { Dialect::Native };
    let rules = |format| {
        let mut builder = Builder { document, format, diagnostics: Vec::new(), broken };
        let rules = builder.rules(form, &modifiers);
        (rules, builder.diagnostics)
    };
    let format = match header.format {
        Some(name) => name.into(),
        None if upstream => Format::CompressedTensors,
        // Without a word on it, the official layout where it can hold every scheme.
        None => match rules(Format::Fp8) {
            (fits, diagnostics) if diagnostics.is_empty() && fits.iter().all(fits_fp8) => Format::Fp8,
            _ if rules(Format::CompressedTensors).1.is_empty() => Format::CompressedTensors,
            _ => Format::Fp8,
        },
    };
    let (rules, diagnostics) = rules(format);
    Built { dialect, header, format, rules, diagnostics }
}

/// Whether `format: fp8` has a place for the scales of this rule.
fn fits_fp8(rule: &Rule) -> bool {
    let strategy = rule.scheme.as_ref().map(|scheme| scheme.weights().strategy);
    strategy.is_none_or(|strategy| matches!(strategy, Strategy::Block([128, 128]) | Strategy::Tensor))
}

impl Builder<'_> {
    fn rules(&mut self, form: Form, modifiers: &[(String, &str)]) -> Vec<Rule> {
        let mut rules = Vec::new();
        match form {
            Form::Rules => {
                let count = self.document.value["rules"].as_array().map_or(0, Vec::len);
                for index in 0..count {
                    rules.extend(self.rule(&child("/rules", index), index + 1));
                }
            }
            Form::Flat => rules.extend(self.rule("", 1)),
            Form::Modifier => rules.extend(self.fp8_modifier("/FP8Modifier")),
            Form::Stages => {
                // A later modifier overrides an earlier one, so its rules come first.
                for (pointer, name) in modifiers.iter().rev() {
                    match *name {
                        _ if self.is_broken(pointer) => {}
                        "FP8Modifier" => rules.extend(self.fp8_modifier(pointer)),
                        "QuantizationModifier" => rules.extend(llmcompressor::rules(self, pointer)),
                        // Validation refuses every other name.
                        _ => {}
                    }
                }
            }
        }
        rules
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The patterns with their places; those that are none are reported.
    pub(super) fn patterns(&mut self, patterns: &Patterns, pointer: &str, dialect: Dialect) -> Vec<Located<Pattern>> {
        let mut located = Vec::new();
        for (at, text) in patterns.iter(pointer) {
            let span = self.document.spans.value(&at);
            let parsed = match dialect {
                Dialect::Native => Pattern::parse(text),
                Dialect::LlmCompressor => Pattern::parse_upstream(text),
            };
            match parsed {
                Ok(value) => located.push(Located { value, span }),
                Err(error) => self.report(Diagnostic::error(error.to_string()).at(span)),
            }
        }
        located
    }

    /// Whether validation found something at `pointer` or below it.
    fn is_broken(&self, pointer: &str) -> bool {
        let below = format!("{pointer}/");
        self.broken.contains(pointer)
            || self.broken.range(below.clone()..).next().is_some_and(|broken| broken.starts_with(&below))
    }

    fn rule(&mut self, pointer: &str, number: usize) -> Option<Rule> {
        let value = self.document.value.pointer(pointer)?;
        let keys: RuleKeys = match serde_json::from_value(value.clone()) {
            Ok(keys) => keys,
            Err(error) => {
                if !self.is_broken(pointer) {
                    let message = format!("the rule cannot be read: {}", unquoted(&error.to_string()));
                    self.report(Diagnostic::error(message).at(self.document.spans.key(pointer)));
                }
                return None;
            }
        };
        // Patterns are told about even where the rule is wrong in another way.
        let targets = self.patterns(&keys.targets, &child(pointer, "targets"), Dialect::Native);
        let ignore = self.patterns(&keys.ignore, &child(pointer, "ignore"), Dialect::Native);
        if self.is_broken(pointer) {
            return None;
        }
        let rule = value.as_object()?;
        let name = rule.get("scheme")?.as_str()?;
        let Some(registration) = qwen_fp8_schemes::find(name) else {
            let span = self.document.spans.value(&child(pointer, "scheme"));
            let known: Vec<_> = registered().into_iter().map(|registration| registration.name).collect();
            self.report(unknown_scheme(name, known.into_iter()).at(span));
            return None;
        };
        let mut not_options = RULE_KEYS.to_vec();
        if pointer.is_empty() {
            not_options.extend(parts().header_keys());
        }
        let options = rule.iter().filter(|(key, _)| !not_options.contains(&key.as_str()));
        let options: Map<_, _> = options.map(|(key, value)| (key.clone(), value.clone())).collect();
        let scheme = match &registration.make {
            Make::Keep | Make::Dequantize => None,
            Make::Quantize(make) => match make(Value::Object(options.clone()), self.format) {
                Ok(scheme) => Some(scheme),
                Err(error) => {
                    let at = match error.option {
                        Some(option) => self.document.spans.value(&child(pointer, option)),
                        None => self.document.spans.value(&child(pointer, "scheme")),
                    };
                    self.report(Diagnostic::error(sentence(&error.reason).to_string()).at(at));
                    return None;
                }
            },
        };
        Some(Rule {
            label: format!("rule {number} ({})", registration.name),
            registration,
            scheme,
            options,
            targets,
            ignore,
            optional: keys.optional,
            requantize: keys.requantize,
            // The flat form has no key of its own to point at.
            span: self.document.spans.key(&if pointer.is_empty() {
                child(pointer, "scheme")
            } else {
                pointer.to_owned()
            }),
        })
    }

    /// The rule of an `FP8Modifier`, behind the one that it implies: a vision tower stays as it is.
    fn fp8_modifier(&mut self, pointer: &str) -> Vec<Rule> {
        let span = self.document.spans.key(pointer);
        let Some(mut written) = self.rule(pointer, 1) else { return Vec::new() };
        written.label = format!("FP8Modifier ({})", written.registration.name);
        written.span = span.clone();
        let keep = registered().into_iter().find(|registration| matches!(registration.make, Make::Keep));
        let implied = keep.map(|registration| keep_vision(registration, span));
        implied.into_iter().chain([written]).collect()
    }
}

fn keep_vision(registration: &'static Registration, span: Range<usize>) -> Rule {
    let patterns = VISION.into_iter().filter_map(|text| Pattern::parse(text).ok());
    Rule {
        label: format!("implied by FP8Modifier ({})", registration.name),
        registration,
        scheme: None,
        options: Map::new(),
        targets: patterns.map(|value| Located { value, span: span.clone() }).collect(),
        ignore: Vec::new(),
        optional: true,
        requantize: false,
        span,
    }
}
