//! What stands beside the weights: config.json and the side files, against the source's.

use serde_json::Value;

use crate::finding::Finding;
use crate::rules::{self, Severity};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::side_files::SideFile;
use qwen_fp8_checkpoint::source::{SourceError, SourceFile};
use qwen_fp8_checkpoint::text::shown;

/// Keys that say how a checkpoint was made or what it was loaded as, not what the model is.
const NEUTRAL: [&str; 4] = ["transformers_version", "torch_dtype", "dtype", "_name_or_path"];

/// The key that a quantized checkpoint adds.
const QUANTIZATION_CONFIG: &str = "quantization_config";

/// Bytes read at a time.
const PIECE: u64 = 1 << 20;

pub(super) fn check(output: &Checkpoint, source: &Checkpoint, findings: &mut Vec<Finding>) -> Result<(), SourceError> {
    config(output, source, findings);
    for original in &source.side_files {
        let Some(copy) = output.side_files.iter().find(|file| file.name == original.name) else {
            let message = format!("{} of the source is missing", shown(&original.name));
            let finding = Finding::new(&rules::SIDE_FILE_LOST, message).file(&original.name);
            // Words for people do no server harm.
            let is_document = !original.name.ends_with(".json") && !original.name.ends_with(".jinja");
            findings.push(if is_document { finding.severity(Severity::Warning) } else { finding });
            continue;
        };
        if !is_same(copy, original)? {
            let message = format!("{} is not the file of the source", shown(&original.name));
            findings.push(Finding::new(&rules::SIDE_FILE_DIFFERS, message).file(&original.name));
        }
    }
    Ok(())
}

fn config(output: &Checkpoint, source: &Checkpoint, findings: &mut Vec<Finding>) {
    for key in source.config.keys().filter(|key| *key != QUANTIZATION_CONFIG) {
        let (ours, theirs) = (output.config.get(key), source.config.get(key));
        if ours == theirs {
            continue;
        }
        let parse = |text: Option<&str>| text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut changes = Vec::new();
        changed(&format!("/{key}"), parse(ours).as_ref(), parse(theirs).as_ref(), &mut changes);
        for (pointer, message) in changes {
            let mut finding = Finding::new(&rules::CONFIG_CHANGED, message).file("config.json");
            finding.place.pointer = Some(pointer);
            findings.push(finding);
        }
    }
    for key in output.config.keys().filter(|key| *key != QUANTIZATION_CONFIG && source.config.get(key).is_none()) {
        if !NEUTRAL.contains(&key) {
            let message = format!("{} is not in the source's config.json", shown(key));
            let finding = Finding::new(&rules::CONFIG_CHANGED, message).file("config.json").severity(Severity::Warning);
            findings.push(finding);
        }
    }
}

/// Keys of the source that are gone or have another value; keys that were added below the top level are defaults that a
/// tool wrote out.
fn changed(pointer: &str, ours: Option<&Value>, theirs: Option<&Value>, changes: &mut Vec<(String, String)>) {
    if NEUTRAL.contains(&pointer.rsplit('/').next().unwrap_or_default()) {
        return;
    }
    match (ours, theirs) {
        (Some(Value::Object(ours)), Some(Value::Object(theirs))) => {
            for (key, value) in theirs {
                changed(&format!("{pointer}/{key}"), ours.get(key), Some(value), changes);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (None, _) => changes.push((pointer.to_owned(), format!("{} is gone", shown(pointer)))),
        (Some(ours), theirs) => {
            let text = |value: Option<&Value>| value.map_or_else(String::new, Value::to_string);
            let (ours, theirs) = (ours.to_string(), text(theirs));
            changes.push((
                pointer.to_owned(),
                format!("{} is {}, and was {}", shown(pointer), shown(&ours), shown(&theirs)),
            ));
        }
    }
}

fn is_same(copy: &SideFile, original: &SideFile) -> Result<bool, SourceError> {
    let (copy, original) = (SourceFile::open(&copy.path)?, SourceFile::open(&original.path)?);
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
