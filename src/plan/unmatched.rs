//! The diagnostics for a pattern that matches nothing, each with what it may have meant.

use std::collections::BTreeMap;

use crate::checkpoint::models::{LayerKind, Model, Part, target_name};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{agree, count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Dialect, Located, Recipe, ServingPolicy, nearest};

use super::fixes;
use super::inputs::never_loaded_apart;
use super::planned_input::PlannedInput;
use super::serving::KEPT_PARTS;

/// The number of forms of names that are shown where no name is near.
const FORMS: usize = 5;

/// Reports whether a pattern that matches nothing in a checkpoint names the head, which it may lack.
pub(super) fn names_head(pattern: &Pattern) -> bool {
    pattern.matches("lm_head", LayerKind::LmHead).unwrap_or(false)
}

/// The pattern with `lm_head` in place of a last word that is nearly that.
fn head_meant(pattern: &Pattern) -> Option<String> {
    let text = pattern.text();
    let word = text.trim_end_matches(['*', '.', '$']).rsplit(['.', '*', ':']).next()?;
    let is_near = strsim::damerau_levenshtein(&word.to_lowercase(), "lm_head") <= 2 && word != "lm_head";
    is_near.then(|| text.replacen(word, "lm_head", 1))
}

/// What a pattern was held against.
pub(super) struct PatternScope<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) model: &'a Model,
    pub(super) inputs: &'a [PlannedInput],
}

impl PatternScope<'_> {
    /// The diagnostic for a pattern of a quantizing rule that matches `tensors` tensors by name, none of a kind that it
    /// quantizes, of which this is the first.
    pub(super) fn matches_other_kinds(
        &self,
        pattern: &Located<Pattern>,
        first: &PlannedInput,
        tensors: usize,
    ) -> Diagnostic {
        let text = pattern.value.text();
        if first.kind() == LayerKind::Linear && matches!(pattern.value, Pattern::Class(_)) {
            return self.takes_no_linear(pattern, first, tensors);
        }
        let kind = first.kind();
        let diagnostic =
            Diagnostic::error(format!("{} matches only tensors that a pattern does not quantize", shown(text)))
                .at(pattern.span.clone())
                .label(format!("matches {}, such as one of class `{kind}`", count(tensors, "tensor")));
        if kind != LayerKind::Experts {
            return diagnostic
                .help("a regex or glob quantizes linear layers only; name another layer exactly to have it quantized");
        }
        let diagnostic = diagnostic
            .help(format!("{} is a stack of experts, of which rules take the matrices", shown(first.target_name())));
        let others =
            "`experts: keep` at the top leaves the stacks as they are, and `targets: Linear` takes the other layers";
        if let Some(not) = never_loaded_apart(self.model, &first.name) {
            return diagnostic.help(format!("{} loads no single ones: {}", not.server, not.because)).help(others);
        }
        match self.model.stack(&first.name) {
            Some(_) => {
                diagnostic.help("`experts: split` at the top makes matrices of them, such as `experts.0.down_proj`")
            }
            None => diagnostic
                .help("`stacks` in a file of your own says how they lie: `qwen-fp8 models --schema`")
                .help(others),
        }
    }

    /// The diagnostic for `Linear` where all linear layers are of parts that it leaves out.
    fn takes_no_linear(&self, pattern: &Located<Pattern>, first: &PlannedInput, tensors: usize) -> Diagnostic {
        let part = first.layer.part;
        let layers = count(tensors, "linear layer");
        let text = shown(pattern.value.text());
        let diagnostic = Diagnostic::error(format!("{text} takes none of the {layers} of this checkpoint"))
            .at(pattern.span.clone())
            .label(format!("all belong to other parts, such as the {part}"))
            .help(part.why());
        // The last two parts of the name, without the layer's number.
        let mut words = first.module().rsplit('.').take_while(|word| word.parse::<u64>().is_err()).take(2);
        let last = words.next().unwrap_or_default();
        let such = words.next().map_or_else(|| last.to_owned(), |above| format!(r"{above}\.{last}"));
        let by_pattern = format!("by a pattern, such as 're:.*{such}$'");
        match part {
            _ if KEPT_PARTS.contains(&part) && self.recipe.serving == ServingPolicy::Enforce => diagnostic.help(format!(
                "for a server that builds them quantized all the same, name the layers {by_pattern}, with `serving: warn` \
                 at the top"
            )),
            Part::Outside | Part::Unrecognized => {
                diagnostic.help(format!("name the layers {by_pattern}, to have them quantized all the same")).help(
                    "or say in a file of your own what the layers are:\n\
                     mkdir -p models && qwen-fp8 models --draft DIR > models/my_model.yaml\n\
                     put those that your server builds quantized under `decoder:`, and add `--models ./models` to this command",
                )
            }
            _ => diagnostic.help(format!("name the layers {by_pattern}, to have them quantized all the same")),
        }
    }

    /// The diagnostic for a pattern that names a stack of experts which was taken apart: its matrices have other names.
    fn names_stack_apart(&self, pattern: &Located<Pattern>) -> Option<Diagnostic> {
        let is_stack = |input: &&PlannedInput| {
            input.part_of.as_deref().is_some_and(|stack| {
                let names = [stack, target_name(stack)];
                names.into_iter().any(|name| pattern.value.matches(name, LayerKind::Experts).unwrap_or(false))
            })
        };
        let matrices: Vec<&PlannedInput> = self.inputs.iter().filter(is_stack).collect();
        let stack = matrices.first()?.part_of.as_deref()?;
        let modules = fixes::modules(matrices.iter().copied());
        let patterns: Vec<String> =
            fixes::patterns(&modules, self.inputs).iter().map(|pattern| fixes::quoted(pattern)).collect();
        let text = shown(pattern.value.text());
        let named = if pattern.value.text() == target_name(stack) { "is" } else { "matches" };
        Some(
            Diagnostic::error(format!(
                "{text} {named} a stack of experts, which is split into {}",
                matrices_of(modules.len())
            ))
            .at(pattern.span.clone())
            .help(format!("in its place, write {}", patterns.join(", "))),
        )
    }

    /// The diagnostic for a pattern that matches no name: the pattern or the names that were meant, else what the names
    /// look like.
    pub(super) fn matches_nothing(&self, pattern: &Located<Pattern>) -> Diagnostic {
        let &Self { inputs, recipe, .. } = self;
        let dialect = recipe.dialect;
        if let Some(diagnostic) = self.names_stack_apart(pattern) {
            return diagnostic;
        }
        let text = pattern.value.text();
        let diagnostic =
            Diagnostic::error(format!("{} matches nothing in the checkpoint", shown(text))).at(pattern.span.clone());
        if names_head(&pattern.value) && !inputs.iter().any(|input| input.kind() == LayerKind::LmHead) {
            return diagnostic
                .help("the head of this checkpoint is its token embedding, which has no tensor of its own to quantize")
                .help(format!("take {} out of `targets`: the head then stays as it is", shown(text)));
        }
        if let Some(head) =
            head_meant(&pattern.value).filter(|_| !inputs.iter().any(|input| input.kind() == LayerKind::LmHead))
        {
            return diagnostic.help(format!("did you mean {}?", shown(&head))).help(
                "the head of this checkpoint is its token embedding; `lm_head` in `ignore` is right for any checkpoint",
            );
        }
        let names: Vec<&str> = inputs.iter().map(PlannedInput::target_name).collect();
        let near: Vec<String> = nearest(&pattern.value, &names).iter().map(|near| shown(near).to_string()).collect();
        let diagnostic = match &near[..] {
            // llm-compressor's files hold patterns for several models: one without a likeness here is for another.
            [] if dialect == Dialect::LlmCompressor => diagnostic,
            [] => diagnostic.help(format!("the checkpoint's names are {}", forms(&pattern.value, inputs))),
            [only] => diagnostic.help(format!("did you mean {only}?")),
            several => diagnostic.help(format!("the nearest names are {}", several.join(", "))),
        };
        match dialect {
            Dialect::Native => diagnostic.help("`optional: true` on the rule allows patterns that match nothing"),
            Dialect::LlmCompressor => diagnostic,
        }
    }
}

/// `1 matrix`, `8 matrices`
fn matrices_of(number: usize) -> String {
    format!("{number} {}", agree(number, "matrix", "matrices"))
}

/// The forms of the checkpoint's module names that most bytes have, as globs with `*` for each number; linear layers before others.
fn forms(pattern: &Pattern, inputs: &[PlannedInput]) -> String {
    let mut bytes: BTreeMap<(bool, String), u64> = BTreeMap::new();
    for input in inputs.iter().filter(|input| input.kind() != LayerKind::Bias) {
        let parts = input.module().split('.').map(|part| if part.parse::<u64>().is_ok() { "*" } else { part });
        let other = input.kind() != LayerKind::Linear;
        *bytes.entry((other, parts.collect::<Vec<_>>().join("."))).or_default() += input.len;
    }
    let mut forms: Vec<_> = bytes.into_iter().collect();
    forms.sort_by(|((a_other, a), a_bytes), ((b_other, b), b_bytes)| (a_other, b_bytes, a).cmp(&(b_other, a_bytes, b)));
    let more = forms.len().saturating_sub(FORMS);
    let shown_forms: Vec<String> = forms.iter().take(FORMS).map(|((_, form), _)| shown(form).to_string()).collect();
    let mut text = shown_forms.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {}", count(more, "other")));
    }
    match pattern {
        Pattern::Class(kind) => format!("{text}: none is a `{kind}`"),
        _ => text,
    }
}
