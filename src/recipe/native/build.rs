//! Native rules from a document that follows the schema.

use std::ops::Range;

use qwen_fp8_schemes::{Make, Registration, registered};
use serde_json::{Map, Value};

use super::fields::{RULE_KEYS, RuleKeys};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::unquoted;
use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::child;
use crate::recipe::header::header_keys;
use crate::recipe::policy::{Dialect, MisfitPolicy};
use crate::recipe::rule::{Located, Rule};
use crate::recipe::suggest::unknown_scheme;

/// Patterns for the names of vision towers.
const VISION: [&str; 3] = ["re:.*visual.*", "re:.*vision_tower.*", "re:.*vision_model.*"];

/// The rule at `pointer`, the `number`th of the recipe; what is wrong with it is reported.
pub(super) fn rule(builder: &mut Builder<'_>, pointer: &str, number: usize) -> Option<Rule> {
    let document = builder.document;
    let value = document.value.pointer(pointer)?;
    let keys: RuleKeys = match serde_json::from_value(value.clone()) {
        Ok(keys) => keys,
        Err(error) => {
            if !builder.is_broken(pointer) {
                let message = format!("the rule cannot be read: {}", unquoted(&error.to_string()));
                builder.report(Diagnostic::error(message).at(document.spans.key(pointer)));
            }
            return None;
        }
    };
    // Patterns are told about even where the rule is wrong in another way.
    let targets = builder.patterns(&keys.targets, &child(pointer, "targets"), Dialect::Native);
    let ignore = builder.patterns(&keys.ignore, &child(pointer, "ignore"), Dialect::Native);
    if builder.is_broken(pointer) {
        return None;
    }
    let rule = value.as_object()?;
    let scheme_at = child(pointer, "scheme");
    let name = rule.get("scheme")?.as_str()?;
    let Some(registration) = qwen_fp8_schemes::find(name) else {
        let known: Vec<_> = registered().into_iter().map(|registration| registration.name).collect();
        builder.report(unknown_scheme(name, known.into_iter()).at(document.spans.value(&scheme_at)));
        return None;
    };
    // In the flat form, the header's keys stand beside the options.
    let is_header = |key: &str| pointer.is_empty() && header_keys().any(|known| known == key);
    let options = rule.iter().filter(|(key, _)| !RULE_KEYS.contains(&key.as_str()) && !is_header(key));
    let options: Map<_, _> = options.map(|(key, value)| (key.clone(), value.clone())).collect();
    let at = |option: Option<&str>| match option {
        Some(option) => document.spans.value(&child(pointer, option)),
        None => document.spans.value(&scheme_at),
    };
    let scheme = builder.scheme(registration, Value::Object(options.clone()), at).ok()?;
    // The flat form has no key of its own to point at.
    let span = document.spans.key(if pointer.is_empty() { &scheme_at } else { pointer });
    Some(Rule {
        label: format!("rule {number} ({})", registration.name),
        registration,
        scheme,
        options,
        targets,
        ignore,
        linear_is_every_part: false,
        optional: keys.optional,
        requantize: keys.requantize,
        on_misfit: keys.on_misfit,
        span,
    })
}

/// The rule of an `FP8Modifier`, behind the one that it implies: a vision tower stays unquantized.
pub(in crate::recipe) fn fp8_modifier_rules(builder: &mut Builder<'_>, pointer: &str) -> Vec<Rule> {
    let span = builder.document.spans.key(pointer);
    let Some(mut written) = rule(builder, pointer, 1) else { return Vec::new() };
    written.label = format!("FP8Modifier ({})", written.registration.name);
    written.span = span.clone();
    let keep = registered().into_iter().find(|registration| matches!(registration.make, Make::Keep));
    let implied = keep.map(|registration| keep_vision(registration, span));
    implied.into_iter().chain([written]).collect()
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
        linear_is_every_part: false,
        optional: true,
        requantize: false,
        on_misfit: MisfitPolicy::Error,
        span,
    }
}
