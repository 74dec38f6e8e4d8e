//! Why one tensor fares as it does: what every rule says of it, in order.

use serde::Serialize;

use super::resolve::{Verdict, judge};
use super::{Job, Plan};
use crate::checkpoint::Tensor;
use crate::recipe::{Located, Rule, pattern::Pattern};

/// One tensor, what becomes of it, and what each rule says.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub tensor: String,
    pub kind: &'static str,
    pub dtype: String,
    pub shape: Vec<usize>,
    /// What becomes of it, in one sentence.
    pub outcome: String,
    pub rules: Vec<Said>,
}

/// What one rule says of the tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Said {
    pub rule: String,
    /// The line of the recipe where the rule stands.
    pub line: usize,
    pub decides: bool,
    pub says: String,
}

/// Explains every tensor that `name` means: a tensor, or all tensors of a module.
///
/// # Errors
/// Nothing is called that; the nearest names.
pub fn explain(plan: &Plan, name: &str) -> Result<Vec<Explanation>, Vec<String>> {
    let found: Vec<usize> = (0..plan.checkpoint.tensors.len())
        .filter(|&index| {
            let tensor = &plan.checkpoint.tensors[index];
            tensor.name == name || tensor.module() == name
        })
        .collect();
    if found.is_empty() {
        let mut near: Vec<(f64, &str)> = plan
            .checkpoint
            .tensors
            .iter()
            .map(|tensor| {
                (
                    strsim::normalized_levenshtein(name, &tensor.name).max(ends_alike(name, &tensor.name)),
                    tensor.name.as_str(),
                )
            })
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        return Err(near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect());
    }
    Ok(found.into_iter().map(|index| one(plan, index)).collect())
}

fn ends_alike(typed: &str, name: &str) -> f64 {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    if module.ends_with(typed) || name.ends_with(typed) { 0.99 } else { 0.0 }
}

fn one(plan: &Plan, index: usize) -> Explanation {
    let tensor = &plan.checkpoint.tensors[index];
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
            says: says(plan, rule, tensor, decision.is_some_and(|earlier| earlier < at)),
        })
        .collect();
    let outcome = match (&plan.jobs[index], decision) {
        (Job::Quantize { rule, outputs }, _) => {
            let parts: Vec<String> = outputs
                .iter()
                .map(|(_, slot)| {
                    let entry = &plan.shards[slot.shard].tensors[slot.tensor].entry;
                    format!("`{}` {:?} {:?}", crate::layer::split_name(&entry.name).1, entry.dtype, entry.shape)
                })
                .collect();
            format!("quantized by {}: {}", plan.recipe.rules[*rule].label, parts.join(", "))
        }
        (Job::Copy { .. }, Some(rule)) => format!("copied unchanged: {} says so", plan.recipe.rules[rule].label),
        (Job::Copy { .. }, None) => "copied unchanged: no rule takes it".to_owned(),
    };
    Explanation {
        tensor: tensor.name.clone(),
        kind: tensor.kind().name(),
        dtype: format!("{:?}", tensor.dtype),
        shape: tensor.shape.clone(),
        outcome,
        rules,
    }
}

fn says(plan: &Plan, rule: &Rule, tensor: &Tensor, too_late: bool) -> String {
    let quoted = |pattern: &Located<Pattern>| {
        format!("`{}` (line {})", pattern.value.text(), line(&plan.recipe.text.text, pattern.span.start))
    };
    match judge(rule, tensor) {
        Ok(Verdict::Takes(target)) if too_late => {
            format!("would take it by {}, but an earlier rule did", quoted(&rule.targets[target]))
        }
        Ok(Verdict::Takes(target)) => format!("takes it by {}", quoted(&rule.targets[target])),
        Ok(Verdict::Ignored(pattern)) => {
            format!("leaves it out by its `ignore` entry {}", quoted(&rule.ignore[pattern]))
        }
        Ok(Verdict::WrongKind(target)) => format!(
            "{} matches the name, but quantizes linear layers only, and this is a {}",
            quoted(&rule.targets[target]),
            tensor.kind()
        ),
        Ok(Verdict::NoTarget) if rule.targets.iter().any(|target| matches!(target.value, Pattern::Class(_))) => {
            format!("no target matches; its kind is {}", tensor.kind())
        }
        Ok(Verdict::NoTarget) => "no target matches its name".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn line(text: &str, offset: usize) -> usize {
    text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1)
}
