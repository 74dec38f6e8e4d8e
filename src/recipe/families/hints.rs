//! Hints for keys of a family's file that stand in another map than the one where they belong.

use serde_json::Value;

use super::schema::SCHEMA;
use crate::checkpoint::text::{nearest_word, unquoted};
use crate::recipe::explain::Hints;

/// The [`Hints`] of families' files.
pub(super) struct FamilyHints;

impl Hints for FamilyHints {
    fn root(&self) -> &'static str {
        "the file"
    }

    fn misplaced(&self, _pointer: &str, key: &str, schema: &Value) -> Option<String> {
        let properties = SCHEMA["properties"].as_object()?;
        let here = schema["properties"].as_object().into_iter().flat_map(|map| map.keys()).map(String::as_str);
        if nearest_word(key, here).is_some() {
            return None;
        }
        let said = unquoted(key);
        if properties.contains_key(key) {
            return Some(format!("`{said}` belongs at the top of the file"));
        }
        let has = |schema: &Value| schema["properties"].get(key).is_some();
        properties.iter().find_map(|(owner, schema)| {
            if has(schema) {
                Some(format!("`{said}` belongs under `{owner}`"))
            } else {
                has(&schema["items"]).then(|| format!("`{said}` belongs in an entry of `{owner}`"))
            }
        })
    }

    fn foreign(&self, _key: &str, _schema: &Value) -> Option<String> {
        None
    }
}
