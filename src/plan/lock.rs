//! What a plan decided of each tensor, as a file against which a later plan is held.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::build::Plan;
use super::format::format_name;
use super::name_ranges::{NameRangesError, compressed, expanded};
use super::summary::{RowAction, TensorForm, row};
use crate::recipe::NonFinitePolicy;

/// The version of the file's form.
const LOCK_VERSION: u32 = 1;

/// What a plan decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanLock {
    /// The version of this form of file.
    pub lock_version: u32,
    /// The program that decided, and its version.
    pub program: String,
    /// The wire format of the output.
    pub format: String,
    /// The policy for NaN and infinity in weights that are quantized.
    pub on_nonfinite: NonFinitePolicy,
    /// The `quantization_config` of the output's config.json; null where it has none.
    pub quantization_config: Value,
    /// The tensors, those that fare alike together.
    pub tensors: Vec<LockedTensors>,
}

/// Tensors that fare alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LockedTensors {
    /// Their names; `[0-35]` stands for each of these numbers.
    pub names: Vec<String>,
    #[serde(flatten)]
    pub treatment: Treatment,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Treatment {
    pub action: RowAction,
    /// The scheme that computes; null where bytes are copied.
    pub scheme: Option<LockedScheme>,
    /// The adapters that are merged into it before, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    pub before: TensorForm,
    pub after: Vec<TensorForm>,
}

/// A scheme and what its arithmetic depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LockedScheme {
    pub name: String,
    /// The version of its arithmetic.
    pub version: u32,
    /// The options that the recipe gives it.
    pub options: Map<String, Value>,
}

/// A text that is no lock of this version.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("it is no lock of a plan: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has version {0} of the lock's form, and this program reads version {LOCK_VERSION}")]
    Version(u32),
    #[error(transparent)]
    Names(#[from] NameRangesError),
    #[error("it names {0} twice")]
    Twice(String),
}

impl PlanLock {
    /// Writes down what a plan decided.
    pub fn of(plan: &Plan) -> Self {
        let mut alike: Vec<(Treatment, Vec<&str>)> = Vec::new();
        // Treatments hold JSON, which has no order; those of the same text are equal.
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for (index, input) in plan.inputs.iter().enumerate() {
            let treatment = treatment(plan, index);
            let place = *places.entry(format!("{treatment:?}")).or_insert(alike.len());
            match alike.get_mut(place) {
                Some((_, names)) => names.push(&input.name),
                None => alike.push((treatment, vec![&input.name])),
            }
        }
        let tensors =
            alike.into_iter().map(|(treatment, names)| LockedTensors { names: compressed(names), treatment }).collect();
        Self {
            lock_version: LOCK_VERSION,
            program: concat!("qwen-fp8 ", env!("CARGO_PKG_VERSION")).to_owned(),
            format: format_name(plan.recipe.format).to_owned(),
            on_nonfinite: plan.recipe.on_nonfinite,
            quantization_config: plan.quantization_config(),
            tensors,
        }
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// The text is no lock of this version.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        // Before the rest, which another version has in another form.
        #[derive(Deserialize)]
        struct Version {
            lock_version: u32,
        }
        match serde_json::from_str::<Version>(text)?.lock_version {
            LOCK_VERSION => Ok(serde_json::from_str(text)?),
            other => Err(LockError::Version(other)),
        }
    }

    /// Writes the lock as JSON that differs in few lines where few tensors fare otherwise.
    pub fn text(&self) -> String {
        // Numbers, strings, lists and maps with keys of strings: nothing that could fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Returns what becomes of each tensor, by name.
    ///
    /// # Errors
    /// Names are none, or stand there twice.
    pub(super) fn by_name(&self) -> Result<BTreeMap<String, &Treatment>, LockError> {
        let mut all = BTreeMap::new();
        for tensors in &self.tensors {
            for names in &tensors.names {
                for name in expanded(names)? {
                    if all.contains_key(&name) {
                        return Err(LockError::Twice(name));
                    }
                    all.insert(name, &tensors.treatment);
                }
            }
        }
        Ok(all)
    }
}

fn treatment(plan: &Plan, index: usize) -> Treatment {
    let row = row(plan, index, &plan.inputs[index]);
    let scheme = plan.registration(index).map(|registration| {
        let rule = plan.decisions[index].rule.map(|(rule, _)| &plan.recipe.rules[rule]);
        let options = rule.map(|rule| rule.options.clone()).unwrap_or_default();
        LockedScheme { name: registration.name.to_owned(), version: registration.version, options }
    });
    Treatment { action: row.action, scheme, adapters: row.adapters, before: row.before, after: row.after }
}
