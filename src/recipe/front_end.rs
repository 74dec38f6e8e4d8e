//! What a dialect of recipes provides: its part of the JSON Schema, and rules out of a document.

use serde_json::{Map, Value};

use crate::recipe::build::Understood;
use crate::recipe::document::Document;

/// One dialect of recipes.
pub(super) trait FrontEnd: Sync {
    /// Returns whether these keys of a document's root are those of the dialect.
    fn recognizes(&self, root: &Map<String, Value>) -> bool;

    /// Returns the JSON Schema of each form that a recipe of the dialect may have, closed to all other keys.
    fn forms(&self) -> Vec<Value>;

    /// Validates a document that [`recognizes`](Self::recognizes) has accepted, and builds its rules.
    fn understand(&self, document: &Document, misplaced: Misplaced) -> Understood;

    /// Returns help for a key of the dialect that stands where it does not belong, such as in a recipe of another one.
    fn misplaced(&self, _key: &str) -> Option<String> {
        None
    }
}

/// Help for a key that belongs to some front end, but not to the root of a recipe.
pub(super) type Misplaced = fn(&str) -> Option<String>;
