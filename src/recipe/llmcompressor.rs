//! llm-compressor's recipe files: stages of groups of modifiers, as far as they need no calibration data.
//!
//! Where several groups claim a module, its rules decide and not the order of writing: full names come before regexes,
//! regexes in the order of their text, then class names; the same target given twice goes to the later group; and a
//! later modifier overrides an earlier one. All this becomes an order of rules, of which the first match wins.

use qwen_fp8_schemes::{Make, Registration, registered};
use serde_json::{Map, Value};

use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{sentence, unquoted};
use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::fields::Patterns;
use crate::recipe::validate::unknown_scheme;
use crate::recipe::{Dialect, Located, Rule};

mod arguments;
mod fields;

pub(super) use fields::Modifier;

/// Modifiers that look at activations, or train.
const CALIBRATED: [&str; 10] = [
    "AWQModifier",
    "AutoRoundModifier",
    "AutoSmoothQuantModifier",
    "ConstantPruningModifier",
    "GPTQModifier",
    "IMatrixGatherer",
    "MagnitudePruningModifier",
    "SmoothQuantModifier",
    "SparseGPTModifier",
    "WandaPruningModifier",
];

/// Presets whose input scales llm-compressor takes from data, whatever a scheme of the same name does here.
const CALIBRATED_PRESETS: [&str; 2] = ["FP8", "NVFP4"];

/// The modifiers of all stages in the order in which they run, each with its pointer and class name.
pub(super) fn modifiers(root: &Map<String, Value>) -> Vec<(String, &str)> {
    let maps = |value: &'_ Value| value.as_object().is_some();
    let mut all = Vec::new();
    for (stage, groups) in root.iter().filter(|(key, value)| key.ends_with("_stage") && maps(value)) {
        for (group, modifiers) in groups.as_object().into_iter().flatten() {
            for name in modifiers.as_object().into_iter().flat_map(Map::keys) {
                all.push((child(&child(&child("", stage), group), name), name.as_str()));
            }
        }
    }
    all
}

/// What to do about a key that belongs elsewhere in llm-compressor's nesting.
pub(super) fn misplaced(key: &str) -> Option<String> {
    const NESTING: &str = "llm-compressor's nesting is `quant_stage:`, `quant_modifiers:`, `QuantizationModifier:`";
    if let Some(stage) = key.strip_suffix("_stages") {
        return Some(format!("did you mean `{}_stage`?", unquoted(stage)));
    }
    let inner = key.ends_with("_modifiers") || key.ends_with("_modifier") || key == "modifiers";
    let modifier = key.ends_with("Modifier") && key != "FP8Modifier" && key.len() < 40;
    (inner || modifier || key == "config_groups").then(|| NESTING.to_owned())
}

/// The diagnostic for a part of a recipe that llm-compressor knows and this tool cannot do, if `pointer` is one.
pub(super) fn explain(pointer: &str, document: &Document) -> Option<Diagnostic> {
    let tokens: Vec<_> = pointer.split('/').skip(1).collect();
    let [stage, group, modifier, fields @ ..] = tokens.as_slice() else { return None };
    if !stage.ends_with("_stage") || !group.ends_with("_modifiers") {
        return None;
    }
    let value = document.value.pointer(pointer)?;
    match fields {
        [] if CALIBRATED.contains(modifier) => Some(
            Diagnostic::error(format!("`{modifier}` needs calibration data"))
                .at(document.spans.key(pointer))
                .help("this tool supports `QuantizationModifier`, and of it what needs no data"),
        ),
        [] if *modifier != "QuantizationModifier" && *modifier != "FP8Modifier" => Some(
            Diagnostic::error(format!("the modifier `{}` is unknown", unquoted(modifier)))
                .at(document.spans.key(pointer))
                .help("this tool supports `QuantizationModifier` and `FP8Modifier`"),
        ),
        ["kv_cache_scheme"] if !value.is_null() => Some(
            Diagnostic::error("`kv_cache_scheme` needs calibration data")
                .at(document.spans.key(pointer))
                .help("leave it out, or set it to null"),
        ),
        ["scheme"] if *modifier == "QuantizationModifier" => {
            let name = value.as_str()?;
            Some(scheme_finding(name).at(document.spans.value(pointer)))
        }
        ["scheme", name] if *modifier == "QuantizationModifier" => {
            Some(scheme_finding(name).at(document.spans.key(pointer)))
        }
        _ => None,
    }
}

fn scheme_finding(name: &str) -> Diagnostic {
    calibrated_preset(name).unwrap_or_else(|| {
        unknown_scheme(
            name,
            registered().into_iter().map(|registration| registration.name).collect::<Vec<_>>().into_iter(),
        )
    })
}

fn calibrated_preset(name: &str) -> Option<Diagnostic> {
    let preset = CALIBRATED_PRESETS.into_iter().find(|preset| preset.eq_ignore_ascii_case(name))?;
    let diagnostic =
        Diagnostic::error(format!("`{preset}` of llm-compressor needs calibration data for its `input_activations`"));
    Some(diagnostic.help(match preset {
        "NVFP4" => "`NVFP4A16` has the same weights and needs none",
        _ => "`FP8_DYNAMIC` and `FP8_BLOCK` need none",
    }))
}

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
        let scheme = match &group.registration.make {
            Make::Keep | Make::Dequantize => None,
            Make::Quantize(make) => match make(group.options.clone(), builder.format) {
                Ok(scheme) => Some(scheme),
                Err(error) => {
                    builder.report(
                        Diagnostic::error(sentence(&error.reason).to_string())
                            .at(builder.document.spans.key(&group.pointer)),
                    );
                    continue;
                }
            },
        };
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
            optional: false,
            requantize: false,
            span: builder.document.spans.key(&group.pointer),
        });
    }
    rules
}

/// One group: a scheme with its options, and what it is to take.
struct Group {
    label: String,
    registration: &'static Registration,
    options: Value,
    targets: Patterns,
    targets_at: String,
    storage: Option<String>,
    pointer: String,
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

fn groups(builder: &mut Builder<'_>, modifier: &Modifier, pointer: &str) -> Vec<Group> {
    let scheme_at = child(pointer, "scheme");
    match (&modifier.scheme, &modifier.config_groups) {
        (Some(_), Some(_)) => {
            let at = builder.document.spans.key(&child(pointer, "config_groups"));
            let diagnostic = Diagnostic::error("`config_groups` cannot stand beside `scheme`").at(at);
            builder.report(diagnostic.help("give one of the two"));
            Vec::new()
        }
        (None, None) => {
            let at = builder.document.spans.key(pointer);
            let diagnostic =
                Diagnostic::error("`QuantizationModifier` has neither `scheme` nor `config_groups`").at(at);
            builder.report(diagnostic.help("add one, such as `scheme: FP8_DYNAMIC`"));
            Vec::new()
        }
        (Some(Value::Object(presets)), None) => {
            let mut groups = Vec::new();
            for (index, (name, targets)) in presets.iter().enumerate() {
                let at = child(&scheme_at, name);
                let targets = serde_json::from_value(targets.clone()).unwrap_or_default();
                let found = preset(builder, name, builder.document.spans.key(&at));
                groups.extend(found.map(|registration| Group {
                    label: format!("group_{index}"),
                    registration,
                    options: Value::Object(Map::new()),
                    targets,
                    targets_at: at.clone(),
                    storage: None,
                    pointer: at,
                }));
            }
            groups
        }
        (Some(name), None) => {
            let name = name.as_str().unwrap_or_default();
            let found = preset(builder, name, builder.document.spans.value(&scheme_at));
            let group = found.map(|registration| Group {
                label: "group_0".to_owned(),
                registration,
                options: Value::Object(Map::new()),
                targets: modifier.targets.clone(),
                targets_at: child(pointer, "targets"),
                storage: None,
                pointer: scheme_at,
            });
            group.into_iter().collect()
        }
        (None, Some(written)) => {
            let mut groups = Vec::new();
            for (name, group) in written {
                let at = child(&child(pointer, "config_groups"), name);
                groups.extend(arguments::scheme(builder, group, &at).map(|(registration, options)| Group {
                    label: unquoted(name).to_string(),
                    registration,
                    options,
                    targets: group.targets.clone(),
                    targets_at: child(&at, "targets"),
                    storage: group.format.clone(),
                    pointer: at,
                }));
            }
            groups
        }
    }
}

fn preset(builder: &mut Builder<'_>, name: &str, at: std::ops::Range<usize>) -> Option<&'static Registration> {
    if let Some(diagnostic) = calibrated_preset(name) {
        builder.report(diagnostic.at(at));
        return None;
    }
    let found = qwen_fp8_schemes::find(name);
    if found.is_none() {
        builder.report(scheme_finding(name).at(at));
    }
    found
}

fn claims(builder: &mut Builder<'_>, groups: &[Group]) -> Vec<Claim> {
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
