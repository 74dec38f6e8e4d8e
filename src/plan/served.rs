//! The parts of a plan that the serving rules look at.

use std::path::Path;

use crate::checkpoint::config::Config;
use crate::checkpoint::models::Model;
use crate::checkpoint::text::shown;
use crate::recipe::Recipe;

use super::job::Decision;
use super::modules::Modules;
use super::planned_input::PlannedInput;

/// A plan before it is complete, as the serving rules look at it.
pub(super) struct Served<'a> {
    /// The source's directory.
    pub(super) source: &'a Path,
    pub(super) recipe: &'a Recipe,
    /// The source's `config.json`.
    pub(super) config: &'a Config,
    pub(super) model: &'a Model,
    pub(super) inputs: &'a [PlannedInput],
    /// One per input.
    pub(super) decisions: &'a [Decision],
    pub(super) modules: &'a Modules<'a>,
}

impl Served<'_> {
    /// The inputs and what was decided of each.
    pub(super) fn decided(&self) -> (&[PlannedInput], &[Decision]) {
        (self.inputs, self.decisions)
    }

    /// The class of the model as messages name it.
    pub(super) fn class(&self) -> String {
        let classes = self.config.architectures();
        classes.first().map_or_else(|| "the model".to_owned(), |class| shown(class).to_string())
    }
}
