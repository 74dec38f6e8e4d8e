//! The rules of a `QuantizationModifier`.
//!
//! Where several groups claim a module, llm-compressor's rules decide and not the order of writing: full names come
//! before regexes, regexes in the order of their text, then class names; the same target given twice goes to the later
//! group. All this becomes an order of rules, of which the first match wins.

use super::arguments;
use super::fields::Modifier;
use super::groups::{SchemeGroup, groups};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::unquoted;
use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::child;
use crate::recipe::policy::{Dialect, MisfitPolicy};
use crate::recipe::rule::{Located, Rule};

/// The rules of one `QuantizationModifier`, in order of precedence.
pub(super) fn rules(builder: &mut Builder<'_>, pointer: &str) -> Vec<Rule> {
    let Some(value) = builder.document.value.pointer(pointer) else { return Vec::new() };
    let modifier: Modifier = match serde_json::from_value(value.clone()) {
        Ok(modifier) => modifier,
        Err(error) => {
            let message = format!("`QuantizationModifier` cannot be read: {}", unquoted(&error.to_string()));
            builder.report(Diagnostic::error(message).at(builder.document.spans.key(pointer)));
            return Vec::new();
        }
    };
    let before = builder.diagnostics.len();
    check_fields(builder, &modifier, pointer);
    let groups = groups(builder, &modifier, pointer);
    let ignore_at = child(pointer, "ignore");
    // Reported here once; the rules below parse what is known to be good.
    let _ = builder.patterns(&modifier.ignore, &ignore_at, Dialect::LlmCompressor);
    let claims = by_precedence(claims(builder, &groups));
    if builder.diagnostics.len() > before {
        return Vec::new();
    }
    let mut rules: Vec<Rule> = Vec::new();
    let mut last = None;
    for claim in claims {
        if last == Some(claim.group)
            && let Some(rule) = rules.last_mut()
        {
            rule.targets.push(claim.pattern);
            continue;
        }
        last = Some(claim.group);
        let group = &groups[claim.group];
        let document = builder.document;
        let at = |_: Option<&str>| document.spans.key(&group.pointer);
        let Ok(scheme) = builder.scheme(group.registration, group.options.clone(), at) else { continue };
        if let (Some(scheme), Some(wanted)) = (&scheme, &group.storage)
            && scheme.storage_format() != wanted
        {
            let at = builder.document.spans.value(&child(&group.pointer, "format"));
            let message =
                format!("this group is stored as `{}`, not as `{}`", scheme.storage_format(), unquoted(wanted));
            builder.report(Diagnostic::error(message).at(at).help("leave `format` out"));
        }
        rules.push(Rule {
            label: group.label.clone(),
            registration: group.registration,
            scheme,
            options: group.options.as_object().cloned().unwrap_or_default(),
            targets: vec![claim.pattern],
            ignore: builder.patterns(&modifier.ignore, &ignore_at, Dialect::LlmCompressor),
            linear_is_every_part: true,
            optional: false,
            requantize: false,
            on_misfit: MisfitPolicy::Error,
            span: builder.document.spans.key(&group.pointer),
        });
    }
    rules
}

/// A target of a group.
struct Claim {
    pattern: Located<Pattern>,
    group: usize,
}

fn check_fields(builder: &mut Builder<'_>, modifier: &Modifier, pointer: &str) {
    if modifier.requires_calibration_data.is_some_and(|flag| flag.0) {
        let at = builder.document.spans.key(&child(pointer, "requires_calibration_data"));
        builder.report(Diagnostic::error("the modifier says that it needs calibration data").at(at));
    }
    let fields = [
        ("weight_observer", &modifier.weight_observer),
        ("input_observer", &modifier.input_observer),
        ("output_observer", &modifier.output_observer),
    ];
    for (key, observer) in fields {
        arguments::check_observer(builder, observer.as_deref(), &child(pointer, key));
    }
    let Some(observers) = &modifier.observer else { return };
    let at = child(pointer, "observer");
    for (key, observer) in [("weights", &observers.weights), ("input", &observers.input), ("output", &observers.output)]
    {
        arguments::check_observer(builder, observer.as_deref(), &child(&at, key));
    }
}

fn claims(builder: &mut Builder<'_>, groups: &[SchemeGroup]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for pattern in builder.patterns(&group.targets, &group.targets_at, Dialect::LlmCompressor) {
            claims.retain(|earlier| earlier.pattern.value.text() != pattern.value.text());
            claims.push(Claim { pattern, group: index });
        }
    }
    claims
}

fn by_precedence(mut claims: Vec<Claim>) -> Vec<Claim> {
    claims.sort_by(|a, b| {
        let rank = |claim: &Claim| match claim.pattern.value {
            Pattern::Exact(_) => 0,
            Pattern::Regex { .. } | Pattern::Glob { .. } => 1,
            Pattern::Class(_) => 2,
        };
        rank(a).cmp(&rank(b)).then_with(|| match rank(a) {
            1 => a.pattern.value.text().cmp(b.pattern.value.text()),
            // Names, and classes, exclude each other: kept together by group.
            _ => a.group.cmp(&b.group),
        })
    });
    claims
}
