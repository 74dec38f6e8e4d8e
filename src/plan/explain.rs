//! The explanation of one input: its outcome, and the verdict of every rule in order.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::build::Plan;
use super::job::Job;
use super::planned_input::{Merge, PlannedInput};
use super::resolve::{RuleVerdict, judge};
use super::stays::WhyStays;
use crate::checkpoint::models::{self, LayerKind};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::shown;
use crate::recipe::{Located, Rule, nearest_names as nearest_whole_names};

/// The number of near names that are shown.
const SHOWN: usize = 3;
/// The length, in bytes, above which no name is compared.
const LONGEST: usize = 300;

/// One input, its outcome, and the verdict of each rule.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Explanation {
    pub tensor: String,
    pub kind: &'static str,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// The outcome in one sentence.
    pub outcome: String,
    /// The output file that holds it.
    pub file: String,
    pub rules: Vec<Said>,
}

/// The verdict of one rule on the input.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Said {
    pub rule: String,
    /// The line of the recipe where the rule stands.
    pub line: usize,
    pub decides: bool,
    pub says: String,
}

/// Why a name explains nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// Nothing is called that: the nearest names, if any is near.
    Near(Vec<String>),
    /// It is a stack of experts that was split into so many matrices, with the modules of the first expert.
    Apart(usize, Vec<String>),
}

/// Explains every tensor that `name` means: a tensor, or all tensors of a module.
///
/// # Errors
/// Nothing is called that, or a stack of experts is that was taken apart.
pub fn explain(plan: &Plan, name: &str) -> Result<Vec<Explanation>, Unexplained> {
    let found: Vec<usize> = (0..plan.inputs.len())
        .filter(|&index| {
            let input = &plan.inputs[index];
            input.name == name || input.module() == name
        })
        .collect();
    if found.is_empty() {
        return Err(apart(plan, name).unwrap_or_else(|| Unexplained::Near(nearest_names(plan, name))));
    }
    Ok(found.into_iter().map(|index| one(plan, index)).collect())
}

/// The stack of this name, where it was taken apart.
fn apart(plan: &Plan, name: &str) -> Option<Unexplained> {
    let is_of = |input: &&PlannedInput| {
        let stack = input.part_of.as_deref();
        stack.is_some_and(|stack| stack == name || models::target_name(stack) == name)
    };
    let matrices: Vec<&str> = plan.inputs.iter().filter(is_of).map(PlannedInput::module).collect();
    let first = models::split_name(matrices.first()?).0;
    let of_first = matrices.iter().filter(|matrix| models::split_name(matrix).0 == first);
    Some(Unexplained::Apart(matrices.len(), of_first.map(|matrix| (*matrix).to_owned()).collect()))
}

/// Up to three names that may have been meant: those that end alike, else those whose ends are spelt alike, else those
/// that are spelt alike as a whole.
fn nearest_names(plan: &Plan, typed: &str) -> Vec<String> {
    let modules: BTreeSet<&str> = plan.inputs.iter().map(PlannedInput::target_name).collect();
    let typed = typed.strip_suffix(".weight").unwrap_or(typed);
    // A module that holds others has no tensor of its own.
    let begin = format!("{typed}.");
    let below: Vec<&&str> = modules.iter().filter(|module| module.starts_with(&begin)).take(SHOWN).collect();
    if !below.is_empty() {
        return below.into_iter().map(|module| (*module).to_owned()).collect();
    }
    let end = format!(".{typed}");
    let ends: Vec<&&str> = modules.iter().filter(|module| module.ends_with(&end)).take(SHOWN).collect();
    if !ends.is_empty() {
        return ends.into_iter().map(|module| (*module).to_owned()).collect();
    }
    let parts = typed.split('.').count();
    let distance = |module: &str| {
        let before = module.rsplit('.').skip(parts).map(|part| part.len() + 1).sum::<usize>();
        strsim::damerau_levenshtein(typed, &module[before..])
    };
    // The distance takes quadratic time, and a name that long is none.
    let most = if typed.len() > LONGEST { 0 } else { (typed.len() / 4).max(1) };
    let mut near: Vec<(usize, &str)> =
        modules.iter().filter(|_| most > 0).map(|module| (distance(module), *module)).collect();
    near.retain(|(distance, _)| *distance <= most);
    near.sort_unstable();
    if near.is_empty() {
        let modules: Vec<&str> = modules.into_iter().collect();
        return nearest_whole_names(typed, &modules);
    }
    near.into_iter().take(SHOWN).map(|(_, module)| module.to_owned()).collect()
}

fn one(plan: &Plan, index: usize) -> Explanation {
    let input = &plan.inputs[index];
    let decision = plan.decisions[index].rule.map(|(rule, _)| rule);
    let rules = plan
        .recipe
        .rules
        .iter()
        .enumerate()
        .map(|(at, rule)| Said {
            rule: rule.label.clone(),
            line: line(&plan.recipe.text.text, rule.span.start),
            decides: decision == Some(at),
            says: match plan.stays.left_by(at, index) {
                Some(misfit) => format!("leaves it to the rules after it, as its `on_misfit` says: {misfit}"),
                None => says(plan, rule, input, decision.is_some_and(|earlier| earlier < at)),
            },
        })
        .collect();
    let copied = if input.merged.is_empty() { "copied unchanged" } else { "left unquantized" };
    let outcome = match (&plan.jobs[index], decision) {
        (Job::Quantize { rule, outputs }, _) => {
            let parts: Vec<String> = outputs
                .iter()
                .map(|(_, slot)| {
                    let entry = &plan.shards[slot.shard].tensors[slot.tensor].entry;
                    format!("{} {:?} {:?}", shown(models::split_name(&entry.name).1), entry.dtype, entry.shape)
                })
                .collect();
            format!("quantized by {}: {}", plan.recipe.rules[*rule].label, parts.join(", "))
        }
        (Job::PassThrough { scales, .. }, _) if scales.are_copied() => {
            format!("passed through unchanged: it is {} already, and its scales go with it", stored_as(input))
        }
        (Job::PassThrough { .. }, _) => {
            format!("passed through: it is {} already, and its scales get another form", stored_as(input))
        }
        (Job::Dequantize { .. }, _) => format!("decoded from {} to {:?}", stored_as(input), input.dtype),
        (Job::Copy { .. }, Some(rule)) => format!("{copied}: {} says so", plan.recipe.rules[rule].label),
        (Job::Copy { .. }, None) => match plan.why_unquantized(index) {
            Some(why @ WhyStays::Stacked(_)) => {
                format!("{copied}: `experts: split_or_keep` keeps it, since {why}")
            }
            Some(why @ WhyStays::Misfit(..)) => {
                format!("{copied}: no rule takes it whose scheme fits it; {why}")
            }
            None => format!("{copied}: no rule takes it"),
        },
    };
    let outcome = match adapters(plan, input) {
        merged if merged.is_empty() => outcome,
        merged => format!("{}; {outcome}", merged.join("; ")),
    };
    let slots = plan.jobs[index].slots();
    Explanation {
        file: slots.first().map(|slot| plan.shards[slot.shard].file_name.clone()).unwrap_or_default(),
        tensor: input.name.clone(),
        kind: input.kind().name(),
        dtype: format!("{:?}", input.stored_dtype()),
        shape: input.shape.clone(),
        outcome,
        rules,
    }
}

/// What each adapter changes of an input first.
fn adapters(plan: &Plan, input: &PlannedInput) -> Vec<String> {
    let said = |merge: &Merge| {
        let adapter = &plan.checkpoint.adapters[merge.adapter].name.name;
        format!("merged with the adapter {}: {}", shown(adapter), merge.change.describe())
    };
    input.merged.iter().map(said).collect()
}

/// The name of the layout that the source stores a quantized input in.
fn stored_as(input: &PlannedInput) -> &'static str {
    input.quantized().map_or("quantized", |source| source.name)
}

fn says(plan: &Plan, rule: &Rule, input: &PlannedInput, too_late: bool) -> String {
    let quoted = |pattern: &Located<Pattern>| {
        format!("{} (line {})", shown(pattern.value.text()), line(&plan.recipe.text.text, pattern.span.start))
    };
    match judge(rule, input) {
        Ok(RuleVerdict::Takes(target)) if too_late => {
            format!("would take it by {}, but an earlier rule did", quoted(&rule.targets[target]))
        }
        Ok(RuleVerdict::Takes(target)) => format!("takes it by {}", quoted(&rule.targets[target])),
        Ok(RuleVerdict::Ignored(pattern)) => {
            format!("leaves it out by its `ignore` entry {}", quoted(&rule.ignore[pattern]))
        }
        Ok(RuleVerdict::WrongKind(target)) if input.kind() == LayerKind::Linear => format!(
            "{} matches the name, but takes no layer of the {}: {}",
            quoted(&rule.targets[target]),
            input.layer.part,
            input.layer.part.why()
        ),
        Ok(RuleVerdict::WrongKind(target)) => format!(
            "{} matches the name, but quantizes linear layers only, and this is a {}",
            quoted(&rule.targets[target]),
            input.kind()
        ),
        Ok(RuleVerdict::NoTarget) if rule.targets.iter().any(|target| matches!(target.value, Pattern::Class(_))) => {
            format!("no target matches; its kind is {}", input.kind())
        }
        Ok(RuleVerdict::NoTarget) => "no target matches its name".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}
