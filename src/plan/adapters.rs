//! Adapters and the inputs that they are merged into: found by name, held against each other by shape.

use std::collections::HashMap;

use qwen_fp8_schemes::SourceDtype;

use super::job::Job;
use super::planned_input::{Merge, PlannedInput};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::adapter::{Adapter, AdapterChange, ChangeKind};
use crate::checkpoint::text::{Sample, agree, count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{ExpertsPolicy, Recipe, nearest_names};

/// Adds to each input what the checkpoint's adapters change of it, in their order. Returns what finds no input or fits none.
//
// An error for each, where PEFT leaves tensors that it finds no module for out without a word: a model that looks
// fine-tuned and is not would be published.
pub(super) fn attach(recipe: &Recipe, checkpoint: &Checkpoint, inputs: &mut [PlannedInput]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if recipe.adapters.len() != checkpoint.adapters.len() {
        let [named, open] = [recipe.adapters.len(), checkpoint.adapters.len()].map(|number| count(number, "adapter"));
        found.push(Diagnostic::error(format!("the recipe names {named}, and {open} of the checkpoint are open")));
        return found;
    }
    let names: HashMap<String, usize> =
        inputs.iter().enumerate().map(|(index, input)| (input.name.clone(), index)).collect();
    for (number, adapter) in checkpoint.adapters.iter().enumerate() {
        let at = |diagnostic: Diagnostic| diagnostic.at(recipe.adapters[number].span.clone());
        let (mut homeless, mut unfit) = (Vec::new(), None);
        for change in &adapter.changes {
            if checkpoint.is_cut_away(&change.tensor) {
                continue;
            }
            let places = change.places(|name| names.contains_key(name));
            match places.as_slice() {
                [] => homeless.push(change),
                [place] => {
                    let input = &mut inputs[names[place]];
                    match fits(input, &change.kind) {
                        Ok(()) => input.merged.push(Merge { adapter: number, change: change.kind.clone() }),
                        Err(why) => drop(unfit.get_or_insert(why)),
                    }
                }
                several => {
                    let message = format!(
                        "{} of the adapter {} may be one of several tensors: {}",
                        shown(&change.tensor),
                        shown(&adapter.name.name),
                        several.iter().collect::<Sample>()
                    );
                    found.push(at(Diagnostic::error(message)));
                }
            }
        }
        if let Some(why) = unfit {
            let message = format!("the adapter {} does not fit the checkpoint: {why}", shown(&adapter.name.name));
            found.push(at(Diagnostic::error(message)).help(trained_on(adapter)));
        }
        if !homeless.is_empty() {
            found.push(at(nowhere(recipe, checkpoint, adapter, &homeless, inputs)));
        }
    }
    found
}

/// Returns the errors of inputs that pass through as they are quantized, which leaves nothing to merge into.
pub(super) fn refusals(inputs: &[PlannedInput], jobs: &[Job]) -> Option<Diagnostic> {
    let of_codes =
        |(input, job): &(&PlannedInput, &Job)| !input.merged.is_empty() && matches!(job, Job::PassThrough { .. });
    let mut passed = inputs.iter().zip(jobs).filter(of_codes).map(|(input, _)| input.name.as_str()).peekable();
    let first = *passed.peek()?;
    let more = passed.count() - 1;
    let more = if more == 0 { String::new() } else { format!("; {} like it", count(more, "more tensor")) };
    let message =
        format!("{} passes through as it is quantized, and an adapter is to be merged into it{more}", shown(first));
    Some(
        Diagnostic::error(message)
            .help("a rule that takes it with `DEQUANTIZE`, or with a scheme and `requantize: true`, decodes it first"),
    )
}

/// Checks that a change has the shape of an input.
fn fits(input: &PlannedInput, change: &ChangeKind) -> Result<(), String> {
    if SourceDtype::try_from(input.dtype).is_err() {
        return Err(format!(
            "{} is {:?}, and what is merged into is BF16, F16 or F32",
            shown(&input.name),
            input.dtype
        ));
    }
    match change.misfit(&input.shape) {
        None => Ok(()),
        Some(tensor) => Err(format!(
            "{} of shape {:?} does not go with {} of shape {:?}",
            shown(&tensor.name),
            tensor.shape,
            shown(&input.name),
            input.shape
        )),
    }
}

/// The error of changes that find no tensor.
fn nowhere(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    changes: &[&AdapterChange],
    inputs: &[PlannedInput],
) -> Diagnostic {
    let first = &changes[0].tensor;
    let message = format!(
        "{} of the adapter {} {} no tensor of the checkpoint: {}",
        count(changes.len(), "change"),
        shown(&adapter.name.name),
        agree(changes.len(), "finds", "find"),
        changes.iter().map(|change| &change.tensor).collect::<Sample>()
    );
    let diagnostic = Diagnostic::error(message);
    let is_tied = checkpoint.config.tie_word_embeddings() == Some(true);
    if first.ends_with("lm_head.weight") && is_tied {
        return diagnostic.help(
            "the head shares the embedding (`tie_word_embeddings`): merge with PEFT, untie the two, and give the result as `model`",
        );
    }
    if first.contains(".experts.") && checkpoint.has_stacked_experts() && recipe.experts != ExpertsPolicy::Split {
        return diagnostic.help(
            "the experts are stacked: `experts: split` at the top makes matrices of them, which are merged into",
        );
    }
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    match nearest_names(first, &names).first() {
        Some(near) => diagnostic.help(format!("the nearest is {}", shown(near))).help(trained_on(adapter)),
        None => diagnostic.help(trained_on(adapter)),
    }
}

fn trained_on(adapter: &Adapter) -> String {
    match &adapter.base {
        Some(base) => format!("it was trained on {}, says `adapter_config.json`: give that as `model`", shown(base)),
        None => "give the model that it was trained on as `model`".to_owned(),
    }
}
