//! Ways to spoil a published checkpoint.

mod config;
mod files;
mod tensors;
mod values;

use std::path::Path;

use serde_json::{Map, Value};

use super::fixture::{Fixture, Quantized, holder};
use crate::support::folder::Folder;

/// A way to spoil a checkpoint. Each returns `None` where it makes no sense for the layout.
pub(super) struct Mutation {
    pub(super) name: &'static str,
    /// The rules of which one must notice.
    pub(super) codes: &'static [&'static str],
    /// The least that must be read for it to be noticed.
    pub(super) by: By,
    pub(super) spoil: Spoil,
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// Headers, config.json and scales: `lint`.
    Lint,
    /// The codes too: `verify`.
    Codes,
    /// A source: `verify --source`.
    Source,
}

pub(super) enum Spoil {
    /// What is in the files; headers and index follow.
    Content(fn(&Fixture, &mut Folder) -> Option<()>),
    /// The files themselves.
    Files(fn(&Fixture, &Path) -> Option<()>),
}

/// Every one.
pub(super) fn all() -> Vec<&'static Mutation> {
    [tensors::MUTATIONS, values::MUTATIONS, config::MUTATIONS, files::MUTATIONS].into_iter().flatten().collect()
}

const fn content(
    name: &'static str,
    codes: &'static [&'static str],
    by: By,
    spoil: fn(&Fixture, &mut Folder) -> Option<()>,
) -> Mutation {
    Mutation { name, codes, by, spoil: Spoil::Content(spoil) }
}

const fn files(
    name: &'static str,
    codes: &'static [&'static str],
    spoil: fn(&Fixture, &Path) -> Option<()>,
) -> Mutation {
    Mutation { name, codes, by: By::Lint, spoil: Spoil::Files(spoil) }
}

impl Fixture {
    /// A weight in the middle.
    fn middle(&self) -> &Quantized {
        &self.weights[self.weights.len() / 2]
    }

    fn weight(&self, is: impl Fn(&Quantized) -> bool) -> Option<&Quantized> {
        self.weights.iter().find(|weight| is(weight))
    }
}

/// Edits the declaration, wherever it stands; both of them where there are two.
fn declare(fixture: &Fixture, folder: &mut Folder, edit: impl Fn(&mut Map<String, Value>) -> Option<()>) -> Option<()> {
    let mut done = None;
    let config = holder(&mut folder.config, fixture.layout.in_text_config);
    if let Some(Value::Object(map)) = config.get_mut("quantization_config") {
        done = edit(map);
    }
    if let Some(bytes) = folder.others.get_mut("hf_quant_config.json") {
        let mut value: Value = serde_json::from_slice(bytes).unwrap();
        let edited = edit(value.get_mut("quantization")?.as_object_mut()?);
        done = done.or(edited);
        *bytes = value.to_string().into_bytes();
    }
    done
}
