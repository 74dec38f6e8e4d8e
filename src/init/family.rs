//! The text of a family's file for a checkpoint's model, where nothing is known of it, or nobody has seen it loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::catalogue::{FamilyFile, parse};
use crate::checkpoint::models::{LayerKind, Part};
use crate::checkpoint::text::unquoted;
use crate::plan::numbers_starred;

use super::error::InitError;
use super::text::{scalar, visible};

/// The number of forms of names that a comment shows.
const SHOWN: usize = 12;

/// Drafts the file of the family of this checkpoint's model, in YAML: with it, a plan finds a family that is known, and
/// takes by `Linear` what it took without it.
///
/// # Errors
/// config.json names no class and no model type that a file could be about.
pub fn draft_family(checkpoint: &Checkpoint) -> Result<String, InitError> {
    let config = &checkpoint.config;
    let (classes, model_type) = (config.architectures(), config.model_type());
    let Some(class) = classes.first().or(model_type.as_ref()) else { return Err(InitError::Nameless) };
    let mut text = format!(
        "# What is known of {}, drafted by `qwen-fp8 models --draft` from config.json and the names of the tensors.\n\
         # Correct it, keep it in a directory of its own, and give that with `--models DIR`, or in the recipe by `models: DIR`.\n\
         # `qwen-fp8 models --schema` prints the JSON Schema of such a file.\n",
        unquoted(class)
    );
    let name = ["ForCausalLM", "ForConditionalGeneration", "Model"].iter().find_map(|end| class.strip_suffix(end));
    let list = |names: &[String]| names.iter().map(|name| visible(name)).collect::<Vec<_>>().join(", ");
    text.push_str(&format!("name: {}\n", scalar(name.filter(|name| !name.is_empty()).unwrap_or(class))));
    if !classes.is_empty() {
        text.push_str(&format!("architectures: [{}]\n", list(&classes)));
    }
    text.push_str(&model_type.map(|model| format!("model_types: [{}]\n", list(&[model]))).unwrap_or_default());
    match checkpoint.model.families().first() {
        Some(known) => text.push_str(&like(known)),
        None => text.push_str(&parts(checkpoint)),
    }
    text.push_str(
        "# asked: # Where vLLM asks the list of unquantized layers for other names than those on disk.\n\
         #   - {on_disk: [\"**.attention.query\"], asked: \"**.attn.q_proj\"}\n",
    );
    parse("the drafted file", &text).map_err(|error| InitError::Family { reason: error.reason })?;
    Ok(text)
}

/// The lines that take over a family that is built in, which nobody has seen loaded.
fn like(known: &FamilyFile) -> String {
    let stem = Path::new(&known.origin).file_stem().map(|stem| stem.to_string_lossy());
    let stem = stem.unwrap_or_default();
    let unserved = match &known.unserved[..] {
        [] => String::new(),
        servers => format!("unserved: [{}] # Leave out a server that you have seen load it.\n", servers.join(", ")),
    };
    format!("like: {} # All of that file holds here too, but for its `unproven`.\n{unserved}", scalar(&stem))
}

/// The linear layers of a model of no known family by what `Linear` makes of them: forms of names, with `*` for numbers.
fn parts(checkpoint: &Checkpoint) -> String {
    let mut forms: BTreeMap<Part, BTreeSet<String>> = BTreeMap::new();
    for tensor in checkpoint.tensors.iter().filter(|tensor| tensor.layer.kind == LayerKind::Linear) {
        forms.entry(tensor.layer.part).or_default().insert(numbers_starred(tensor.module()));
    }
    let taken = forms.remove(&Part::Decoder).unwrap_or_default();
    let more = taken.len().saturating_sub(SHOWN);
    let shown: Vec<String> = taken.iter().take(SHOWN).map(|form| unquoted(form).to_string()).collect();
    let mut text = String::from("# `Linear` takes every linear layer that is named under no part but `decoder`");
    match &shown[..] {
        [] => text.push_str(": so far none.\n"),
        _ => {
            text.push_str(":\n");
            shown.iter().for_each(|form| text.push_str(&format!("#   {form}\n")));
        }
    }
    if more > 0 {
        text.push_str(&format!("#   and {more} more\n"));
    }
    let kept = [
        (Part::Unrecognized, "unrecognized", "In the layers of the language model, by names that say nothing"),
        (Part::Outside, "outside", "Outside of the layers of the language model"),
    ];
    let kept: Vec<_> = kept.iter().filter_map(|(part, key, what)| Some((*key, *what, forms.remove(part)?))).collect();
    if kept.is_empty() {
        return text;
    }
    text.push_str("parts:\n  # decoder: # Put here what your server builds quantized.\n");
    for (key, what, forms) in kept {
        text.push_str(&format!("  {key}: # {what}.\n"));
        forms.iter().for_each(|form| text.push_str(&format!("    - {}\n", visible(form))));
    }
    text
}
