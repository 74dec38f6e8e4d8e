//! Q001 to Q004: shards, index and folder.

use serde::Deserialize;

use crate::report::Severity::{Error, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::index::MAX_INDEX;
use qwen_fp8_checkpoint::layout::{INDEX_FILE, SINGLE_FILE};
use qwen_fp8_checkpoint::text::{count, exact, shown};
use qwen_fp8_checkpoint::{Checkpoint, CheckpointError};

// What is loaded would depend on the reader, and nothing that follows could be believed.
pub(crate) static CONTAINER: LintRule = LintRule {
    code: "Q001",
    name: "container",
    severity: Error,
    strict: Error,
    title: "Shards, headers, index or config.json contradict each other or cannot be read.",
    why: "Different readers load different tensors, or none.",
};

pub(crate) static TOTAL_SIZE: LintRule = LintRule {
    code: "Q002",
    name: "index-total-size",
    severity: Warning,
    strict: Warning,
    title: "`metadata.total_size` of the index is not the size of the tensors.",
    why: "Whatever plans memory by it is misled; loaders work all the same.",
};

// Loaders that take `*.safetensors` of a folder, instead of the index, load tensors of it twice or of another model.
pub(crate) static STRAY_SHARD: LintRule = LintRule {
    code: "Q003",
    name: "stray-shard",
    severity: Warning,
    strict: Error,
    title: "A safetensors file lies beside the checkpoint and is no part of it.",
    why: "Some loaders read every such file of the folder.",
};

// Seen in transformers 5.17 and 5.24: where there is a `model.safetensors`, the index beside it is not opened. compressed-tensors
// 0.19 leaves such a folder behind when it carries draft layers over.
pub(crate) static FILE_BESIDE_INDEX: LintRule = LintRule {
    code: "Q004",
    name: "single-file-beside-index",
    severity: Warning,
    strict: Warning,
    title: "`model.safetensors` lies beside an index that names other files too.",
    why: "transformers reads that file alone, and vLLM and SGLang every file of the index.",
};

/// Returns the finding for a checkpoint that cannot be opened.
pub(crate) fn unreadable(error: &CheckpointError) -> Finding {
    let finding = Finding::new(&CONTAINER, error.to_string()).help(error.help().join("; "));
    match error {
        CheckpointError::Header { shard, .. } => finding.file(shard),
        _ => finding,
    }
}

/// Checks what lies around the tensors.
pub(crate) fn check(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    total_size(checkpoint, findings);
    single_file(checkpoint, findings);
    for (name, _) in checkpoint.left_out.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        let message = format!("{} is no part of the checkpoint", shown(name));
        findings.push(Finding::new(&STRAY_SHARD, message).file(name).help("move it away"));
    }
}

/// Reports shards that transformers never opens. One that the index does not name was refused when the checkpoint was opened.
fn single_file(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    let is_single = |name: &str| name == SINGLE_FILE;
    let others = || checkpoint.shards.iter().filter(|shard| !is_single(&shard.name));
    if checkpoint.shards.iter().any(|shard| is_single(&shard.name))
        && let Some(first) = others().next()
    {
        let files = count(others().count(), "file");
        let message = format!("the index names `{SINGLE_FILE}` and {files} more, such as {}", shown(&first.name));
        let finding = Finding::new(&FILE_BESIDE_INDEX, message).file(INDEX_FILE);
        findings.push(finding.help("give the file another name, here and in the index"));
    }
}

#[derive(Deserialize)]
struct IndexText {
    metadata: Option<WeightMapMetadata>,
}

#[derive(Deserialize)]
struct WeightMapMetadata {
    total_size: Option<serde_json::Value>,
}

fn total_size(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    // An index that cannot be read has been refused when the checkpoint was opened.
    let Ok(Some(text)) = checkpoint.read_small(INDEX_FILE, MAX_INDEX) else { return };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let Ok(index) = serde_json::from_slice::<IndexText>(text) else { return };
    // Read as a value: a size that is not an integer is a wrong size, and not an index that cannot be read.
    let Some(said) = index.metadata.and_then(|metadata| metadata.total_size) else { return };
    let actual: u64 = checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    if said.as_f64() != Some(actual as f64) {
        let message = format!("`total_size` is {}, and the tensors have {}", shown(&said.to_string()), exact(actual));
        let mut finding = Finding::new(&TOTAL_SIZE, message).file(INDEX_FILE);
        finding.place.pointer = Some("/metadata/total_size".to_owned());
        findings.push(finding);
    }
}
