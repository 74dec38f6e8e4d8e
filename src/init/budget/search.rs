//! The search for the recipe: steps down until all of it fits, each try planned and fitted as `plan` and `fit` do.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::FusedLayer;
use crate::checkpoint::text::{count, decibels, grouped, human, memory};
use crate::fit::{Fit, FitSubject};
use crate::init::error::InitError;
use crate::init::layers::Layers;
use crate::init::request::DraftGranularity;
use crate::init::text::{head, what_it_holds};
use crate::plan::summary::Summary;
use crate::plan::{Plan, numbers_starred};
use crate::recipe::{Recipe, RecipeText};

use super::draft::{BudgetDraft, StepDown, UniformRecipe};
use super::layers::BudgetLayers;
use super::request::BudgetRequest;
use super::rules::{self, UNQUANTIZED, sqnr};
use super::sets::{LayerSet, SetChoice};
use super::steps::{self, Step};

pub(super) struct Search<'a> {
    checkpoint: &'a Checkpoint,
    layers: &'a BudgetLayers,
    request: &'a BudgetRequest,
    /// For each set the choice that loses least.
    best: Vec<usize>,
    /// The steps of all sets, from the cheapest on.
    steps: Vec<Step>,
}

/// A recipe that was planned.
struct Tried {
    error: f64,
    body: String,
    fit: Fit,
    summary: Summary,
}

impl<'a> Search<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, layers: &'a BudgetLayers, request: &'a BudgetRequest) -> Self {
        let costs = |set: usize| layers.sets[set].choices.iter().map(SetChoice::cost).collect::<Vec<_>>();
        let hulls: Vec<Vec<usize>> = (0..layers.sets.len()).map(|set| steps::hull(&costs(set))).collect();
        let steps = steps::merged(hulls.iter().enumerate().map(|(set, hull)| (&hull[..], costs(set))));
        let best = hulls.iter().map(|hull| hull.first().copied().unwrap_or(0)).collect();
        Self { checkpoint, layers, request, best, steps }
    }

    /// Drafts what fits with the least loss, or the smallest of all.
    pub(super) fn draft(self) -> Result<BudgetDraft, InitError> {
        let (taken, mixed) = self.first_that_fits()?;
        let mut uniform = self.uniform()?;
        uniform.sort_by_key(|(_, tried)| std::cmp::Reverse(tried.fit.weights.per_gpu));
        let rows = uniform.iter().map(|(scheme, tried)| UniformRecipe {
            scheme: scheme.clone(),
            weights: tried.fit.weights.per_gpu,
            sqnr_db: sqnr(tried.error, self.elements()),
            fits: tried.fit.fits,
        });
        let rows: Vec<UniformRecipe> = rows.collect();
        let as_good = uniform.into_iter().filter(|(_, tried)| tried.fit.fits && tried.error <= mixed.error);
        let as_good = as_good.min_by(|(_, a), (_, b)| {
            a.error.total_cmp(&b.error).then(a.fit.weights.per_gpu.cmp(&b.fit.weights.per_gpu))
        });
        let steps = self.steps_down(taken);
        let (nothing_gained_over, tried) = match as_good {
            Some((scheme, tried)) => (Some(scheme), tried),
            None => (None, mixed),
        };
        Ok(BudgetDraft {
            recipe: self.text(&tried),
            sqnr_db: sqnr(tried.error, self.elements()),
            fit: tried.fit,
            steps,
            uniform: rows,
            nothing_gained_over,
        })
    }

    /// Takes as few steps as make it fit, or all of them; returns their number.
    fn first_that_fits(&self) -> Result<(usize, Tried), InitError> {
        let (mut least, mut most) = (0, self.steps.len());
        let mut found = self.tried(&self.after(most))?;
        if !found.fit.fits {
            return Ok((most, found));
        }
        while least < most {
            let middle = usize::midpoint(least, most);
            let tried = self.tried(&self.after(middle))?;
            if tried.fit.fits {
                (most, found) = (middle, tried);
            } else {
                least = middle + 1;
            }
        }
        Ok((most, found))
    }

    /// Each scheme, and none, for all sets that may have it, where any may.
    fn uniform(&self) -> Result<Vec<(String, Tried)>, InitError> {
        let candidates = self.layers.candidates.iter().enumerate();
        let labels = candidates.map(|(number, candidate)| (Some(number), candidate.label()));
        let mut all = Vec::new();
        for (candidate, label) in labels.chain([(None, UNQUANTIZED.to_owned())]) {
            let sets = self.layers.sets.iter().zip(&self.best);
            let is_usable = |set: &LayerSet, choice: usize| set.choices[choice].cost().error.is_finite();
            let choice = |set: &LayerSet| set.choice_of(candidate).filter(|&choice| is_usable(set, choice));
            if sets.clone().all(|(set, _)| choice(set).is_none()) {
                continue;
            }
            let choices: Vec<usize> = sets.map(|(set, &best)| choice(set).unwrap_or(best)).collect();
            all.push((label, self.tried(&choices)?));
        }
        Ok(all)
    }

    /// The choices after so many steps.
    fn after(&self, steps: usize) -> Vec<usize> {
        let mut choices = self.best.clone();
        self.steps[..steps].iter().for_each(|step| choices[step.set] = step.to);
        choices
    }

    /// Plans the recipe of these choices, and asks whether it fits.
    fn tried(&self, choices: &[usize]) -> Result<Tried, InitError> {
        let request = self.request;
        let body = rules::body(self.checkpoint, self.layers, choices, request);
        let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), body.as_str()))
            .map_err(|source| InitError::Recipe { model: request.draft.model.clone(), source })?;
        let plan = Plan::build(recipe, self.checkpoint.clone()).map_err(InitError::Refused)?;
        let subject = FitSubject::of_plan(&plan, request.fit.gpus).with_preprocessor(request.preprocessor.clone());
        let output = plan.recipe.output.clone().unwrap_or_default();
        let fit = Fit::of(&subject, &request.fit, &output);
        let chosen = self.layers.sets.iter().zip(choices);
        let error = chosen.map(|(set, &choice)| set.choices[choice].cost().error).sum();
        Ok(Tried { error, body, fit, summary: Summary::of(&plan) })
    }

    /// Elements of all sets.
    fn elements(&self) -> f64 {
        self.layers.sets.iter().map(|set| set.elements).sum()
    }

    /// The first steps, those of one kind of layers between the same schemes as one.
    fn steps_down(&self, taken: usize) -> Vec<StepDown> {
        let mut rows: Vec<(StepDown, f64, [f64; 2])> = Vec::new();
        let label = |candidate: Option<usize>| {
            candidate.map_or_else(|| UNQUANTIZED.to_owned(), |number| self.layers.candidates[number].label())
        };
        for step in &self.steps[..taken] {
            let set = &self.layers.sets[step.set];
            let [from, to] = [step.from, step.to].map(|choice| &set.choices[choice]);
            let layers = numbers_starred(&self.name_of(set));
            let (from_label, to_label) = (label(from.candidate), label(to.candidate));
            let is_alike = |row: &StepDown| row.layers == layers && row.from == from_label && row.to == to_label;
            let at = rows.iter().position(|(row, _, _)| is_alike(row)).unwrap_or_else(|| {
                let (from, to) = (from_label.clone(), to_label.clone());
                let row = StepDown { layers: layers.clone(), sets: 0, from, to, bytes: [0; 2], sqnr_db: [None; 2] };
                rows.push((row, 0.0, [0.0; 2]));
                rows.len() - 1
            });
            let (row, elements, error) = &mut rows[at];
            row.sets += 1;
            *elements += set.elements;
            for (at, choice) in [from, to].into_iter().enumerate() {
                row.bytes[at] += choice.cost().bytes;
                error[at] += choice.cost().error;
            }
        }
        let with_ratio = |(row, elements, error): (StepDown, f64, [f64; 2])| StepDown {
            sqnr_db: error.map(|error| sqnr(error, elements)),
            ..row
        };
        rows.into_iter().map(with_ratio).collect()
    }

    /// The name that servers give the layer that a set is.
    fn name_of(&self, set: &LayerSet) -> String {
        let module = self.layers.inputs[set.inputs[0]].module();
        match self.checkpoint.model.fused_layer(module) {
            Some(FusedLayer::Experts(layer)) => format!("{layer}.experts"),
            Some(FusedLayer::Parts { parent, layer }) if set.inputs.len() > 1 => format!("{parent}.{layer}"),
            _ => module.to_owned(),
        }
    }

    /// The recipe with the comments above it.
    fn text(&self, tried: &Tried) -> String {
        let BudgetRequest { draft, fit, server, .. } = self.request;
        let inputs = &self.layers.inputs;
        let others = Layers::of(&self.checkpoint.model, inputs, Some(DraftGranularity::Channel));
        let holds = what_it_holds(&self.checkpoint.config, inputs, &others);
        let gpus = match fit.gpus {
            1 => format!("a GPU of {}", memory(fit.vram)),
            gpus => format!("{gpus} GPUs of {} each", memory(fit.vram)),
        };
        let requests = usize::try_from(tried.fit.requests).unwrap_or(usize::MAX);
        let served = format!(
            "{} tokens of context, {} at once, with {server}",
            grouped(tried.fit.context),
            count(requests, "request")
        );
        let lost = match sqnr(tried.error, self.elements()) {
            None => "nothing is lost".to_owned(),
            ratio => format!("{} over all layers that may be quantized", decibels(ratio)),
        };
        format!(
            "{}# Drafted for {gpus}: {served}.\n\
             # The scheme of each layer follows from what every scheme loses of its weights, which was measured (SQNR):\n\
             # {lost}. On each GPU the weights take {}.\n",
            head(&holds, &tried.summary, draft.schema.as_deref()),
            human(tried.fit.weights.per_gpu),
        ) + &tried.body
    }
}
