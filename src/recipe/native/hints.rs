//! Hints for unknown keys of the native dialect: the scheme that has such an option, the map that has such a key.

use serde_json::Value;

use super::fields::RULE_KEYS;
use super::schema::rule_branches;
use crate::checkpoint::text::unquoted;
use crate::recipe::explain::Hints;
use crate::recipe::front_end::Misplaced;
use crate::recipe::header::header_keys;
use crate::recipe::suggest::list;

/// The native dialect's [`Hints`].
pub(in crate::recipe) struct NativeHints {
    /// Help for keys of other dialects.
    pub(in crate::recipe) others: Misplaced,
}

impl Hints for NativeHints {
    fn misplaced(&self, pointer: &str, key: &str, schema: &Value) -> Option<String> {
        if pointer.is_empty()
            && let Some(help) = (self.others)(key)
        {
            return Some(help);
        }
        if !pointer.is_empty() && header_keys().any(|known| known == key) {
            return Some(format!("`{}` belongs at the top of the recipe, beside `{}`", unquoted(key), top(pointer)));
        }
        let has_rules = schema["properties"].get("rules").is_some();
        let is_of_a_rule = has_rules && schemes_with(key).next().is_some();
        is_of_a_rule.then(|| format!("`{}` belongs in an entry of `rules`", unquoted(key)))
    }

    // A scheme asks for an option where it stands for something that has to be known.
    fn missing(&self, key: &str, schema: &Value) -> Option<String> {
        let is_option = schema["properties"]["scheme"].get("const").is_some() && !RULE_KEYS.contains(&key);
        let about = schema["properties"][key]["description"].as_str()?;
        is_option.then(|| format!("`{key}`: {about}"))
    }

    fn foreign(&self, key: &str, schema: &Value) -> Option<String> {
        let scheme = schema["properties"]["scheme"]["const"].as_str()?;
        let names = list(schemes_with(key), "and");
        (!names.is_empty()).then(|| format!("`{}` is an option of {names}, not of `{scheme}`", unquoted(key)))
    }
}

/// The first key of a pointer.
fn top(pointer: &str) -> &str {
    pointer.split('/').nth(1).unwrap_or_default()
}

/// The names of the schemes whose rules may have this key.
fn schemes_with(key: &str) -> impl Iterator<Item = &'static str> {
    let with_key = move |branch: &&super::schema::Branch| branch.schema["properties"].get(key).is_some();
    rule_branches().iter().filter(with_key).map(|branch| branch.name)
}
