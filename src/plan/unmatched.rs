//! The diagnostics for a pattern that matches nothing, each with what it may have meant.

use std::collections::BTreeMap;

use crate::checkpoint::models::{Layer, LayerKind, Part};
use crate::checkpoint::pattern::Pattern;
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{Dialect, Located, nearest};

use super::planned_input::PlannedInput;

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

/// The diagnostic for a pattern of a quantizing rule that matches `tensors` tensors by name, none of a kind that it
/// quantizes; `layer` is that of the first.
pub(super) fn matches_other_kinds(pattern: &Located<Pattern>, layer: Layer, tensors: usize) -> Diagnostic {
    let text = pattern.value.text();
    if layer.kind == LayerKind::Linear && matches!(pattern.value, Pattern::Class(_)) {
        let layers = count(tensors, "linear layer");
        let diagnostic = Diagnostic::error(format!("{} takes none of the {layers} of this checkpoint", shown(text)))
            .at(pattern.span.clone())
            .label(format!("all belong to other parts, such as the {}", layer.part))
            .help(layer.part.why())
            .help("name the layers by a pattern, such as 're:.*mlp.*', to have them quantized all the same");
        return match layer.part {
            Part::Outside | Part::Unrecognized => diagnostic.help(
                "or say in a file of your own what the layers are:\n\
                 mkdir -p models && qwen-fp8 models --draft DIR > models/my_model.yaml\n\
                 put those that your server builds quantized under `decoder:`, and add `--models ./models` to this command",
            ),
            _ => diagnostic,
        };
    }
    let kind = layer.kind;
    Diagnostic::error(format!("{} matches only tensors that a pattern does not quantize", shown(text)))
        .at(pattern.span.clone())
        .label(format!("matches {}, such as one of class `{kind}`", count(tensors, "tensor")))
        .help("a regex or glob quantizes linear layers only; name another layer exactly to have it quantized")
}

/// The diagnostic for a pattern that matches no name: the pattern or the names that were meant, else what the names
/// look like.
pub(super) fn matches_nothing(pattern: &Located<Pattern>, inputs: &[PlannedInput], dialect: Dialect) -> Diagnostic {
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
