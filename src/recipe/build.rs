//! Building typed rules from a document that follows the schema: the part that all front ends share.

use std::collections::BTreeSet;
use std::ops::Range;

use qwen_fp8_schemes::{BuildError, Format, Registration, Scheme, Strategy};
use serde_json::Value;

use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{sentence, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;
use crate::recipe::expect::{ExpectKeys, Expectations};
use crate::recipe::header::RecipeHeader;
use crate::recipe::patterns::Patterns;
use crate::recipe::policy::{CacheDtype, Dialect};
use crate::recipe::rule::{Located, Rule};
use crate::recipe::validate::Validated;

/// The header and the rules of a document, with the diagnostics that building them gave.
pub(super) struct Understood {
    pub(super) dialect: Dialect,
    pub(super) header: RecipeHeader,
    pub(super) format: Format,
    pub(super) rules: Vec<Rule>,
    pub(super) expect: Expectations,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Builds rules and collects what is wrong with them.
pub(super) struct Builder<'a> {
    pub(super) document: &'a Document,
    pub(super) format: Format,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Pointers at which validation found something.
    broken: &'a BTreeSet<String>,
}

/// Builds everything in which validation found nothing. `format` is the one of a recipe that names none; without it,
/// the official layout is taken where it can hold every scheme.
pub(super) fn build(
    document: &Document,
    validated: Validated,
    dialect: Dialect,
    format: Option<Format>,
    rules: impl Fn(&mut Builder<'_>) -> Vec<Rule>,
) -> Understood {
    // Keys that are wrong were found by validation; then the header's values do not matter.
    let header: RecipeHeader = serde_json::from_value(document.value.clone()).unwrap_or_default();
    let Validated { mut diagnostics, broken } = validated;
    let build = |format| {
        let mut builder = Builder { document, format, diagnostics: Vec::new(), broken: &broken };
        let rules = rules(&mut builder);
        (rules, builder.diagnostics)
    };
    let asks_for_cache = header.kv_cache == CacheDtype::Fp8;
    let format = header.format.map(Format::from).or(format).unwrap_or_else(|| match build(Format::Fp8) {
        _ if asks_for_cache => Format::CompressedTensors,
        (fits, diagnostics) if diagnostics.is_empty() && fits.iter().all(fits_fp8) => Format::Fp8,
        _ if build(Format::CompressedTensors).1.is_empty() => Format::CompressedTensors,
        _ => Format::Fp8,
    });
    let (rules, wrong) = build(format);
    diagnostics.extend(wrong);
    if asks_for_cache && format == Format::Fp8 {
        let diagnostic =
            Diagnostic::error("`format: fp8` has no key for the dtype of a cache").at(document.spans.key("/kv_cache"));
        diagnostics.push(diagnostic.help(
            "write `format: compressed-tensors`, or leave the key out and start the server with `--kv-cache-dtype fp8`, which comes to the same",
        ));
    }
    let mut builder = Builder { document, format, diagnostics, broken: &broken };
    let expect = builder.expectations(&header.expect, dialect);
    let diagnostics = builder.diagnostics;
    Understood { dialect, header, format, rules, expect, diagnostics }
}

/// Returns whether `format: fp8` has a place for the scales of this rule.
fn fits_fp8(rule: &Rule) -> bool {
    let strategy = rule.scheme.as_ref().map(|scheme| scheme.weights().strategy);
    strategy.is_none_or(|strategy| matches!(strategy, Strategy::Block([128, 128]) | Strategy::Tensor))
}

impl Builder<'_> {
    /// Records a diagnostic.
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Parses patterns; each comes with its place in the text, and an invalid one is reported.
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
                Err(error) => {
                    let diagnostic = Diagnostic::error(error.to_string()).at(span);
                    self.report(match closed(text) {
                        Some(closed) => diagnostic.help(format!("did you mean {}?", shown(&closed))),
                        None => diagnostic,
                    });
                }
            }
        }
        located
    }

    /// What the recipe expects of its plan; patterns that are none are reported.
    fn expectations(&mut self, keys: &ExpectKeys, dialect: Dialect) -> Expectations {
        let span = |key: &str| self.document.spans.value(&format!("/expect/{key}"));
        let located = |key: &str, value: Option<u64>| value.map(|value| Located { value, span: span(key) });
        Expectations {
            quantized: located("quantized", keys.quantized),
            copied: located("copied", keys.copied),
            passed_through: located("passed_through", keys.passed_through),
            dequantized: located("dequantized", keys.dequantized),
            output_at_most: located("output_at_most", keys.output_at_most.map(|size| size.0)),
            sqnr_at_least: keys.sqnr_at_least.map(|value| Located { value, span: span("sqnr_at_least") }),
            unquantized_layers: self.patterns(&keys.unquantized_layers, "/expect/unquantized_layers", dialect),
            quantized_layers: self.patterns(&keys.quantized_layers, "/expect/quantized_layers", dialect),
        }
    }

    /// Returns whether validation found something at `pointer` or below it.
    pub(super) fn is_broken(&self, pointer: &str) -> bool {
        let below = format!("{pointer}/");
        self.broken.contains(pointer)
            || self.broken.range(below.clone()..).next().is_some_and(|broken| broken.starts_with(&below))
    }

    /// The configured scheme, or `None` for a registration that quantizes nothing. What the scheme refuses is reported
    /// at the place that `at` gives for the option at fault.
    pub(super) fn scheme(
        &mut self,
        registration: &Registration,
        options: Value,
        at: impl Fn(Option<&str>) -> Range<usize>,
    ) -> Result<Option<Box<dyn Scheme>>, Reported> {
        registration.build(options, self.format).map_err(|BuildError { option, reason }| {
            self.report(Diagnostic::error(sentence(&reason).to_string()).at(at(option)));
            Reported
        })
    }
}

/// A pattern that lacks a bracket at its end, with that bracket.
fn closed(text: &str) -> Option<String> {
    if text.ends_with(['(', '[', '{', ':']) {
        return None;
    }
    let texts = [")", "]", "}", "))", "])"].into_iter().map(|end| format!("{text}{end}"));
    texts.into_iter().find(|text| Pattern::parse(text).is_ok())
}

/// The mark of an error whose diagnostic the builder already has.
pub(super) struct Reported;
