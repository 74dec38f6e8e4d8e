//! The differences of two plans for one checkpoint: tensors whose action is another.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::lock::{LockError, PlanLock, Treatment};
use super::name_ranges::compressed;

/// What another plan decides otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Changes {
    /// Settings of the output that differ.
    pub settings: Vec<SettingChange>,
    /// Tensors that fare otherwise, those that change alike together.
    pub tensors: Vec<TensorChange>,
}

/// A setting of the output, before and after.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SettingChange {
    /// `format`, `on_nonfinite`, or a key of `quantization_config` with its path.
    pub key: String,
    /// Null where it was not set.
    pub before: Value,
    /// Null where it is not set.
    pub after: Value,
}

/// Tensors that change alike.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TensorChange {
    /// Their names; `[0-35]` stands for each of these numbers.
    pub names: Vec<String>,
    /// The number of tensors.
    pub count: usize,
    /// Null where the tensor was not there.
    pub before: Option<Treatment>,
    /// Null where the tensor is not there.
    pub after: Option<Treatment>,
}

/// What became of a tensor, and what becomes of it; `None` where it is not there.
type BeforeAndAfter<'a> = (Option<&'a Treatment>, Option<&'a Treatment>);

impl Changes {
    /// Compares two plans.
    ///
    /// # Errors
    /// The names of a lock are none.
    pub fn between(before: &PlanLock, after: &PlanLock) -> Result<Self, LockError> {
        let (was, is) = (before.by_name()?, after.by_name()?);
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let mut alike: BTreeMap<String, (BeforeAndAfter<'_>, Vec<&str>)> = BTreeMap::new();
        for name in names {
            let (before, after) = (was.get(name).copied(), is.get(name).copied());
            if before != after {
                // Treatments hold JSON, which has no order; those of the same text are equal.
                let change = alike.entry(format!("{before:?} {after:?}")).or_insert(((before, after), Vec::new()));
                change.1.push(name);
            }
        }
        let tensors = alike.into_values().map(|((before, after), names)| TensorChange {
            count: names.len(),
            names: compressed(names),
            before: before.cloned(),
            after: after.cloned(),
        });
        Ok(Self { settings: settings(before, after), tensors: tensors.collect() })
    }

    /// Reports whether the two plans decide the same.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.tensors.is_empty()
    }

    /// The number of tensors that fare otherwise.
    pub fn tensors(&self) -> usize {
        self.tensors.iter().map(|change| change.count).sum()
    }
}

fn settings(before: &PlanLock, after: &PlanLock) -> Vec<SettingChange> {
    let of = |lock: &PlanLock| {
        let mut settings = BTreeMap::from([
            ("format".to_owned(), Value::from(lock.format.as_str())),
            ("on_nonfinite".to_owned(), serde_json::to_value(lock.on_nonfinite).unwrap_or_default()),
        ]);
        flatten("quantization_config", &lock.quantization_config, &mut settings);
        settings
    };
    let (was, is) = (of(before), of(after));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let value = |settings: &BTreeMap<String, Value>, key: &String| settings.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .map(|key| SettingChange { key: key.clone(), before: value(&was, key), after: value(&is, key) })
        .filter(|change| change.before != change.after)
        .collect()
}

/// Puts each value of nested maps under its path.
fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| flatten(&format!("{path}.{key}"), value, into));
        }
        Value::Null => {}
        value => drop(into.insert(path.to_owned(), value.clone())),
    }
}
