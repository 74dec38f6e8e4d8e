//! One document for both languages: a JSON value, and for every node of it the place in the text.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde_json::{Number, Value};

/// The content of a recipe and the places of its parts.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) spans: Spans,
}

/// Where each value and each key stands, by JSON pointer.
#[derive(Debug, Default)]
pub(super) struct Spans {
    values: BTreeMap<String, Range<usize>>,
    keys: BTreeMap<String, Range<usize>>,
}

impl Spans {
    /// The place of the value at `pointer`: of a scalar or a list its text, of a map its key where it has one.
    pub(super) fn value(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer, |spans, pointer| spans.values.get(pointer))
    }

    /// The place of the key that `pointer` ends in; of a list's entry the entry.
    pub(super) fn key(&self, pointer: &str) -> Range<usize> {
        self.nearest(pointer, |spans, pointer| spans.keys.get(pointer).or_else(|| spans.values.get(pointer)))
    }

    /// Looks `pointer` up, then its ancestors, so that there is always a place to point at.
    fn nearest(
        &self,
        pointer: &str,
        find: impl for<'a> Fn(&'a Self, &str) -> Option<&'a Range<usize>>,
    ) -> Range<usize> {
        let mut pointer = pointer;
        loop {
            if let Some(span) = find(self, pointer) {
                return span.clone();
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 0..0,
            }
        }
    }

    pub(super) fn insert(&mut self, pointer: &str, value: Range<usize>, key: Option<Range<usize>>) {
        self.values.insert(pointer.to_owned(), value);
        if let Some(key) = key {
            self.keys.insert(pointer.to_owned(), key);
        }
    }
}

/// `pointer` extended by one key or index.
pub(super) fn child(pointer: &str, token: impl fmt::Display) -> String {
    let token = token.to_string();
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// JSON Schema calls 128.0 an integer, Rust does not: a whole number is held as one, so that both agree.
pub(super) fn number(value: f64) -> Option<Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Some(Value::from(value as i64));
    }
    Number::from_f64(value).map(Value::Number)
}
