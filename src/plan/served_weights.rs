//! The quantized weights that a server is to load: those that a plan writes, or those of a finished checkpoint.

use qwen_fp8_schemes::Strategy;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::Model;

use super::build::Plan;
use super::marlin::{self, PaddedLayers};
use super::modules::Modules;
use super::planned_input::PlannedInput;
use super::quantized_source::QuantizedTensors;
use super::served_form::ServedForm;
use super::tensor_parallel::{Heads, misfit_of};

/// The forms of quantized weights, and whether so many GPUs can share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedWeights {
    /// Each form once, in the order of the first weight that has it; empty where none is quantized.
    pub forms: Vec<ServedForm>,
    /// The reason why `gpus` GPUs cannot share the model, `None` where they can.
    pub misfit: Option<String>,
    /// The layers that Marlin pads, where it runs them; `None` where it pads none.
    pub padded: Option<PaddedLayers>,
}

impl ServedWeights {
    /// Returns what the output of a plan holds.
    pub fn of_plan(plan: &Plan, gpus: usize) -> Self {
        let modules = Modules::of(&plan.recipe, &plan.checkpoint.model, &plan.inputs, &plan.decisions, &plan.jobs);
        let quantized = modules.quantized.iter().map(|module| (module.input, &*module.form));
        Self::of(quantized, &plan.checkpoint, gpus)
    }

    /// Returns what a checkpoint holds.
    ///
    /// # Errors
    /// It is quantized in a way that is not known here.
    pub fn of_checkpoint(checkpoint: &Checkpoint, gpus: usize) -> Result<Self, String> {
        let quantized = match &checkpoint.quantized {
            Some(_) => QuantizedTensors::find(checkpoint)?,
            None => QuantizedTensors::default(),
        };
        let carried = quantized.weights.values().filter_map(|input| {
            let carried = input.quantized()?.carried.as_ref().ok()?;
            Some((input, &carried.form))
        });
        Ok(Self::of(carried, checkpoint, gpus))
    }

    /// Returns what can be told of a checkpoint whose quantization is not known: how heads are shared.
    pub fn unknown(config: &Config, model: &Model, gpus: usize) -> Self {
        let misfit = misfit_of(std::iter::empty(), Heads::of(config, model), gpus);
        Self { forms: Vec::new(), misfit, padded: None }
    }

    fn of<'a>(
        quantized: impl Iterator<Item = (&'a PlannedInput, &'a ServedForm)> + Clone,
        checkpoint: &'a Checkpoint,
        gpus: usize,
    ) -> Self {
        let config = &checkpoint.config;
        let padded = marlin::padded(quantized.clone().map(|(input, _)| input), &checkpoint.model, config, gpus.max(1));
        let mut forms: Vec<ServedForm> = Vec::new();
        for (_, form) in quantized.clone() {
            if !forms.contains(form) {
                forms.push(form.clone());
            }
        }
        let split = quantized
            .map(|(input, form): (_, &ServedForm)| -> (&PlannedInput, Strategy) { (input, form.weights.strategy) });
        Self { forms, misfit: misfit_of(split, Heads::of(config, &checkpoint.model), gpus), padded }
    }
}
