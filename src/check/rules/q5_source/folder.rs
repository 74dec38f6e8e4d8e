//! Q508 to Q510, and Q512: config.json and the side files against the source's.

use serde_json::Value;

use crate::report::Severity::{Error, Note, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::model_card::{MODEL_CARD, parts};
use qwen_fp8_checkpoint::side_files::SideFile;
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;

// Keys that were added are a warning: tools write out their defaults.
pub(crate) static CONFIG_CHANGED: LintRule = LintRule {
    code: "Q508",
    name: "config-changed",
    severity: Error,
    strict: Error,
    title: "A key of config.json other than `quantization_config` is missing or has another value than in the source.",
    why: "Servers would build another model.",
};

// Missing processor files are among the known complaints (llm-compressor issue 1305).
pub(crate) static SIDE_FILE_LOST: LintRule = LintRule {
    code: "Q509",
    name: "side-file-lost",
    severity: Error,
    strict: Error,
    title: "A file of the source that servers need is missing in the output.",
    why: "They refuse to load, or tokenize and prompt differently.",
};

// llm-compressor saves the tokenizer anew, once with truncation on, which broke serving.
pub(crate) static SIDE_FILE_DIFFERS: LintRule = LintRule {
    code: "Q510",
    name: "side-file-differs",
    severity: Warning,
    strict: Warning,
    title: "A file is not the same as the source's.",
    why: "Tokens, prompts or images may be prepared differently.",
};

// A template or code that was put beside the weights changes every answer, and no weight.
pub(crate) static SIDE_FILE_ADDED: LintRule = LintRule {
    code: "Q512",
    name: "side-file-added",
    severity: Warning,
    strict: Warning,
    title: "A file that servers read is not in the source.",
    why: "Tokens, prompts or images may be prepared differently, or other code may run.",
};

/// Keys that say how a checkpoint was made or what it was loaded as, not what the model is.
// `save_pretrained` writes them anew, so that results of llm-compressor differ here from any source.
const NEUTRAL: [&str; 4] = ["transformers_version", "torch_dtype", "dtype", "_name_or_path"];

/// The key that a quantized checkpoint adds.
const QUANTIZATION_CONFIG: &str = "quantization_config";

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

/// Compares config.json and every side file of the source with the result's.
pub(crate) fn check(output: &Checkpoint, source: &Checkpoint, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    config(output, source, findings);
    for original in &source.side_files {
        let Some(copy) = output.side_files.iter().find(|file| file.name == original.name) else {
            let message = format!("{} of the source is missing in the output", shown(&original.name));
            let finding = Finding::new(&SIDE_FILE_LOST, message).file(&original.name);
            // A README or a license is for people; no server misses it.
            findings.push(if original.is_document() { finding.severity(Warning) } else { finding });
            continue;
        };
        if original.name == MODEL_CARD && keeps_card(output, source) {
            continue;
        }
        if !is_same(copy, original)? {
            let message = format!("{} is not the same as in the source", shown(&original.name));
            let finding = Finding::new(&SIDE_FILE_DIFFERS, message).file(&original.name);
            // Who publishes a result writes a model card of their own.
            findings.push(if original.is_document() { finding.severity(Note) } else { finding });
        }
    }
    let is_new = |file: &&SideFile| !source.side_files.iter().any(|original| original.name == file.name);
    // A model card is for people, and every publisher writes one.
    for file in output.side_files.iter().filter(is_new).filter(|file| !file.is_document()) {
        let message = format!("{} is not in the source", shown(&file.name));
        findings.push(Finding::new(&SIDE_FILE_ADDED, message).file(&file.name));
    }
    Ok(())
}

/// Reports whether the output's model card has the text of the source's after what was added to it.
fn keeps_card(output: &Checkpoint, source: &Checkpoint) -> bool {
    let text = |checkpoint: &Checkpoint| {
        checkpoint.card.as_deref().map(|card| parts(card).1.trim_start_matches(['\r', '\n']).to_owned())
    };
    text(output).zip(text(source)).is_some_and(|(output, source)| output.ends_with(&source))
}

fn config(output: &Checkpoint, source: &Checkpoint, findings: &mut Vec<Finding>) {
    for key in source.config.keys().filter(|key| *key != QUANTIZATION_CONFIG) {
        // Texts are compared, which is exact for numbers of any length; only where they differ are they parsed.
        let (ours, theirs) = (output.config.get(key), source.config.get(key));
        if ours == theirs {
            continue;
        }
        let parse = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut changes = Vec::new();
        changed(&format!("/{key}"), parse(ours).as_ref(), parse(theirs).as_ref(), &mut changes);
        for (pointer, message) in changes {
            let mut finding = Finding::new(&CONFIG_CHANGED, message).file("config.json");
            finding.place.pointer = Some(pointer);
            findings.push(finding);
        }
    }
    // A key that was added changes no model by itself, and tools write out their defaults.
    for key in output.config.keys().filter(|key| *key != QUANTIZATION_CONFIG && source.config.get(key).is_none()) {
        if !NEUTRAL.contains(&key) {
            let message = format!("{} is not in the source's config.json", shown(key));
            let finding = Finding::new(&CONFIG_CHANGED, message).file("config.json").severity(Warning);
            findings.push(finding);
        }
    }
}

/// Collects the keys of the source that are missing or have another value. Keys that were added below the top level
/// are defaults that a tool wrote out.
fn changed(pointer: &str, ours: Option<&Value>, theirs: Option<&Value>, changes: &mut Vec<(String, String)>) {
    if NEUTRAL.contains(&pointer.rsplit('/').next().unwrap_or_default()) {
        return;
    }
    match (ours, theirs) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            for (key, value) in theirs.iter().filter(|(key, _)| *key != QUANTIZATION_CONFIG) {
                changed(&format!("{pointer}/{key}"), ours.get(key), Some(value), changes);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (None, _) => changes.push((pointer.to_owned(), format!("{} is missing", shown(pointer)))),
        (Some(ours), theirs) => {
            let text = |value: Option<&Value>| value.map_or_else(String::new, Value::to_string);
            let (ours, theirs) = (ours.to_string(), text(theirs));
            changes.push((
                pointer.to_owned(),
                format!("{} is {}, and {} in the source", shown(pointer), shown(&ours), shown(&theirs)),
            ));
        }
    }
}

fn is_same(copy: &SideFile, original: &SideFile) -> Result<bool, SourceError> {
    let (copy, original) = (copy.open()?, original.open()?);
    if copy.size() != original.size() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for from in (0..copy.size()).step_by(PIECE as usize) {
        let len = PIECE.min(copy.size() - from) as usize;
        ours.resize(len, 0);
        theirs.resize(len, 0);
        copy.read_exact_at(&mut ours, from)?;
        original.read_exact_at(&mut theirs, from)?;
        if ours != theirs {
            return Ok(false);
        }
    }
    Ok(true)
}
