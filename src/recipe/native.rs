//! The native dialect: `rules:`, one rule with its keys at the top, or `FP8Modifier:`.

use serde_json::{Map, Value, json};

use crate::recipe::build::{Builder, Understood, build};
use crate::recipe::document::{Document, child};
use crate::recipe::front_end::{FrontEnd, Misplaced};
use crate::recipe::policy::Dialect;
use crate::recipe::rule::Rule;
use crate::recipe::validate::Validation;

mod build;
mod fields;
mod hints;
mod schema;
mod validate;

pub(super) use build::fp8_modifier_rules;
pub(super) use hints::NativeHints;
pub(super) use schema::{fp8_branches, fp8_modifier, one_of};
pub(super) use validate::validate_rule;

/// The native front end.
pub(super) struct Native;

/// The keys that tell the forms apart.
pub(super) const FORM_KEYS: [&str; 3] = ["rules", "scheme", "FP8Modifier"];

/// The layouts of a native recipe.
#[derive(Clone, Copy)]
enum NativeForm {
    /// `rules:`, a list.
    Rules,
    /// `FP8Modifier:` at the top.
    Modifier,
    /// One rule, its keys at the top.
    Flat,
}

impl NativeForm {
    fn of(root: &Map<String, Value>) -> Option<Self> {
        if root.contains_key("rules") {
            return Some(Self::Rules);
        }
        if root.contains_key("FP8Modifier") {
            return Some(Self::Modifier);
        }
        ["scheme", "targets", "ignore"].iter().any(|key| root.contains_key(*key)).then_some(Self::Flat)
    }
}

impl FrontEnd for Native {
    fn recognizes(&self, root: &Map<String, Value>) -> bool {
        NativeForm::of(root).is_some()
    }

    fn forms(&self) -> Vec<Value> {
        schema::forms()
    }

    fn understand(&self, document: &Document, misplaced: Misplaced) -> Understood {
        let form = document.value.as_object().and_then(NativeForm::of).unwrap_or(NativeForm::Flat);
        let rules = document.value["rules"].as_array().map_or(0, Vec::len);
        let any_map = json!({ "type": "object" });
        let hints = NativeHints { others: misplaced };
        let mut validation = Validation::new(document, &hints);
        match form {
            NativeForm::Rules => {
                validation.form(&schema::rules_form(any_map));
                for index in 0..rules {
                    validate_rule(&mut validation, &child("/rules", index), schema::rule_branches());
                }
            }
            NativeForm::Modifier => {
                validation.form(&schema::fp8_modifier_form(any_map));
                validate_rule(&mut validation, "/FP8Modifier", &fp8_branches());
            }
            NativeForm::Flat => validate_rule(&mut validation, "", &schema::flat_branches()),
        }
        let rules = |builder: &mut Builder<'_>| -> Vec<Rule> {
            match form {
                NativeForm::Rules => {
                    (0..rules).filter_map(|index| build::rule(builder, &child("/rules", index), index + 1)).collect()
                }
                NativeForm::Modifier => fp8_modifier_rules(builder, "/FP8Modifier"),
                NativeForm::Flat => build::rule(builder, "", 1).into_iter().collect(),
            }
        };
        build(document, validation.finish(), Dialect::Native, None, rules)
    }
}
