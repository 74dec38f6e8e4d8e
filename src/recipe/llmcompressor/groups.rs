//! The groups of a `QuantizationModifier`: by `scheme`, by a map of schemes, or by explicit `config_groups`.

use qwen_fp8_schemes::Registration;
use serde_json::{Map, Value};

use super::arguments;
use super::fields::Modifier;
use super::presets::preset;
use crate::checkpoint::text::unquoted;
use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::child;
use crate::recipe::patterns::Patterns;

/// One group: a scheme with its options, and what it is to take.
pub(super) struct SchemeGroup {
    pub(super) label: String,
    pub(super) registration: &'static Registration,
    pub(super) options: Value,
    pub(super) targets: Patterns,
    pub(super) targets_at: String,
    pub(super) storage: Option<String>,
    pub(super) pointer: String,
}

/// The groups in the order of the text; what is wrong with them is reported.
pub(super) fn groups(builder: &mut Builder<'_>, modifier: &Modifier, pointer: &str) -> Vec<SchemeGroup> {
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
                groups.extend(found.map(|registration| SchemeGroup {
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
            let group = found.map(|registration| SchemeGroup {
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
                groups.extend(arguments::scheme(builder, group, &at).map(|(registration, options)| SchemeGroup {
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
