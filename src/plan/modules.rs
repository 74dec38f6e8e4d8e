//! The modules of the output: those that are quantized, with their schemes, and those that servers must be told are
//! not.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use qwen_fp8_schemes::Scheme;

use crate::checkpoint::models::catalogue::ListFormat;
use crate::checkpoint::models::{LayerKind, Model, Part, layers_of_first_expert};
use crate::checkpoint::pattern::Pattern;
use crate::recipe::Recipe;

use super::job::{Decision, Job};
use super::planned_input::PlannedInput;
use super::served_form::ServedForm;

/// The modules of a plan.
pub(crate) struct Modules<'a> {
    /// The quantized modules in natural order of their names.
    pub(super) quantized: Vec<Quantized<'a>>,
    unquantized: Vec<&'a str>,
    /// Names that a server asks the list for beside those of `unquantized`, with the format whose list it is.
    asked: Vec<(ListFormat, String)>,
    /// Patterns that reach what stays unquantized under other spellings.
    listed_patterns: Vec<String>,
}

/// A module whose weight is quantized in the output.
#[derive(Clone)]
pub(super) struct Quantized<'a> {
    pub(super) input: &'a PlannedInput,
    /// One for all modules of a form: a model may have 70,000.
    pub(super) form: Arc<ServedForm>,
    /// The scheme that writes it; `None` where it passes through.
    pub(super) scheme: Option<&'a dyn Scheme>,
    /// The rule that took it.
    pub(super) rule: usize,
    /// The index of the rule's target that matched.
    pub(super) target: usize,
}

impl<'a> Modules<'a> {
    pub(super) fn of(
        recipe: &'a Recipe,
        model: &Model,
        inputs: &'a [PlannedInput],
        decisions: &[Decision],
        jobs: &[Job],
    ) -> Self {
        let of_scheme = |scheme: &dyn Scheme| Arc::new(ServedForm::of(scheme));
        let written: Vec<Option<Arc<ServedForm>>> =
            recipe.rules.iter().map(|rule| rule.scheme.as_deref().map(of_scheme)).collect();
        let mut carried_forms = Vec::new();
        let mut quantized = Vec::new();
        let mut unquantized = Vec::new();
        let mut stacked_experts = Vec::new();
        for ((input, decision), job) in inputs.iter().zip(decisions).zip(jobs) {
            match (job, decision.rule) {
                (&Job::Quantize { rule, .. }, Some((_, target))) => {
                    let form = written[rule].clone().zip(recipe.rules[rule].scheme.as_deref());
                    quantized.extend(form.map(|(form, scheme)| Quantized {
                        input,
                        form,
                        scheme: Some(scheme),
                        rule,
                        target,
                    }));
                }
                (&Job::PassThrough { scales, .. }, Some((rule, target))) => {
                    let carried = input.quantized().and_then(|source| source.carried.as_ref().ok());
                    // The source's own config, which stays, speaks of them.
                    let carried = carried.filter(|carried| !carried.keeps_config);
                    quantized.extend(carried.map(|carried| Quantized {
                        input,
                        form: shared(&mut carried_forms, &scales.served(&carried.form)),
                        scheme: None,
                        rule,
                        target,
                    }));
                }
                _ if is_listed(input) => unquantized.push(listed_as(model, input)),
                _ => {}
            }
            if input.kind() == LayerKind::Experts {
                stacked_experts.push(model.experts_of_stack(&input.name));
            }
        }
        // A tied head has no tensor of its own, and a server builds it all the same.
        if !inputs.iter().any(|input| input.kind() == LayerKind::LmHead) {
            unquantized.push("lm_head");
        }
        unquantized.sort_by(|a, b| natural(a, b));
        unquantized.dedup();
        stacked_experts.sort_by(|a, b| natural(a, b));
        stacked_experts.dedup();
        quantized.sort_by(|a, b| natural(&a.input.name, &b.input.name));
        let asked = asked(model, &unquantized, &stacked_experts, inputs);
        let listed_patterns = listed_patterns(model, &unquantized, &quantized);
        Self { quantized, unquantized, asked, listed_patterns }
    }

    /// The list of unquantized modules as a format has it: the names on disk, then those that a server asks for instead.
    pub(super) fn listed(&self, format: ListFormat) -> Vec<String> {
        let mut names: Vec<String> = self.unquantized.iter().map(|name| (*name).to_owned()).collect();
        names.extend(self.asked.iter().filter(|(of, _)| *of == format).map(|(_, name)| name.clone()));
        if format == ListFormat::CompressedTensors {
            names.extend(self.listed_patterns.iter().cloned());
        }
        names
    }

    /// Full names of the unquantized modules of every kind that a server would otherwise build
    /// quantized or that the official lists name; the head first, the rest in natural order.
    pub(super) fn unquantized(&self) -> &[&'a str] {
        &self.unquantized
    }

    pub(super) fn forms(&self) -> impl Iterator<Item = &ServedForm> {
        self.quantized.iter().map(|module| &*module.form)
    }

    /// The distinct forms as a server reads them, each with its modules in natural order.
    pub(super) fn groups(&self) -> Vec<(&ServedForm, Vec<&'a str>)> {
        let mut groups: Vec<(&ServedForm, Vec<&str>)> = Vec::new();
        for module in &self.quantized {
            let name = module.input.module();
            match groups.iter_mut().find(|(form, _)| **form == *module.form) {
                Some((_, names)) => names.push(name),
                None => groups.push((&*module.form, vec![name])),
            }
        }
        groups
    }
}

/// Returns the one of these forms that is equal, which is added where there is none.
fn shared(forms: &mut Vec<Arc<ServedForm>>, form: &ServedForm) -> Arc<ServedForm> {
    if let Some(known) = forms.iter().find(|known| ***known == *form) {
        return known.clone();
    }
    let new = Arc::new(form.clone());
    forms.push(new.clone());
    new
}

/// Returns the names that vLLM asks for in place of these, in natural order for each format, and those of parts of fused
/// layers that a block lacks: vLLM wants the same answer for all parts. Experts that stay stacked are asked for by their
/// module.
fn asked(
    model: &Model,
    unquantized: &[&str],
    stacked_experts: &[Cow<'_, str>],
    inputs: &[PlannedInput],
) -> Vec<(ListFormat, String)> {
    let there: BTreeSet<&str> = inputs.iter().map(PlannedInput::module).collect();
    let mut asked = Vec::new();
    for format in [ListFormat::Fp8, ListFormat::CompressedTensors] {
        let mut names: Vec<String> = unquantized.iter().filter_map(|module| model.asked_name(module, format)).collect();
        let of_stacks = stacked_experts.iter().flat_map(|experts| experts_asked(experts, format));
        names.extend(of_stacks.flat_map(|name| [model.asked_name(&name, format), Some(name)]).flatten());
        names.extend(unquantized.iter().filter_map(|module| model.asked_for_next_tokens(module, format)));
        names.extend(
            unquantized.iter().flat_map(|module| model.lacking_parts(module, format, |name| there.contains(name))),
        );
        names.sort_by(|a, b| natural(a, b));
        names.dedup();
        names.retain(|name| !unquantized.contains(&name.as_str()));
        asked.extend(names.into_iter().map(|name| (format, name)));
    }
    asked
}

/// Returns the names by which vLLM asks for experts that stay stacked: compressed-tensors has no layer for all of them,
/// and takes the answer for the first expert's.
fn experts_asked(experts: &str, format: ListFormat) -> Vec<String> {
    let mut names = vec![experts.to_owned()];
    if format == ListFormat::CompressedTensors {
        names.extend(layers_of_first_expert(experts));
    }
    names
}

/// Returns the catalogue's patterns for lists that match a module which stays unquantized, and none that does not.
fn listed_patterns(model: &Model, unquantized: &[&str], quantized: &[Quantized<'_>]) -> Vec<String> {
    let patterns = model.listed_patterns().filter(|text| {
        let Ok(pattern) = Pattern::parse_upstream(text) else { return false };
        let takes = |module: &str| pattern.matches(module, LayerKind::Other).unwrap_or(true);
        unquantized.iter().any(|module| takes(module)) && !quantized.iter().any(|module| takes(module.input.module()))
    });
    patterns.map(str::to_owned).collect()
}

/// The module that servers know: a stack belongs to its experts, whether its name ends in `.weight` or not.
fn listed_as<'i>(model: &Model, input: &'i PlannedInput) -> &'i str {
    if input.kind() != LayerKind::Experts {
        return input.module();
    }
    match model.experts_of_stack(&input.name) {
        Cow::Borrowed(experts) => experts,
        // Servers build them under a name that the file has nowhere.
        Cow::Owned(_) => input.target_name(),
    }
}

fn is_listed(input: &PlannedInput) -> bool {
    let module = input.module();
    match input.kind() {
        LayerKind::Linear | LayerKind::LmHead | LayerKind::Router | LayerKind::Experts => true,
        LayerKind::Conv | LayerKind::PositionEmbedding => true,
        // The official lists name the norms of the mergers, though no server would quantize them.
        LayerKind::Norm => {
            input.parameter() == "weight" && input.layer.part == Part::Vision && module.contains("merger")
        }
        LayerKind::Embedding | LayerKind::Bias | LayerKind::Other => false,
    }
}

/// Orders `layers.2` before `layers.10`, and the head before everything.
fn natural(a: &str, b: &str) -> Ordering {
    let is_head = |name: &str| name == "lm_head" || name == "lm_head.weight";
    // Numbers come before words, so that the order is one whatever stands beside them.
    fn part(text: &str) -> (bool, u64, &str) {
        text.parse().map_or((true, 0, text), |number| (false, number, text))
    }
    is_head(b).cmp(&is_head(a)).then_with(|| a.split('.').map(part).cmp(b.split('.').map(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_natural_and_total() {
        let names = ["lm_head", "a", "a.1", "a.9", "a.10", "a.10.b", "a.1a", "a.b", "b", "b.01", "b.1"];
        for (i, a) in names.iter().enumerate() {
            for (j, b) in names.iter().enumerate() {
                assert_eq!(natural(a, b), i.cmp(&j), "{a} {b}");
            }
        }
    }
}
