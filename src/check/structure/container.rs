//! What can be wrong around tensors that are read all the same.

use serde::Deserialize;

use crate::finding::Finding;
use crate::rules;
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::index::MAX_INDEX;
use qwen_fp8_checkpoint::layout::INDEX_FILE;
use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::source::SourceFile;
use qwen_fp8_checkpoint::text::shown;

pub(super) fn check(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    total_size(checkpoint, findings);
    for (name, _) in checkpoint.left_out.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        let message = format!("{} is no part of the checkpoint", shown(name));
        findings.push(Finding::new(&rules::STRAY_SHARD, message).file(name).help("move it away"));
    }
    head(checkpoint, findings);
}

#[derive(Deserialize)]
struct Index {
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    total_size: Option<serde_json::Value>,
}

fn total_size(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    // An index that cannot be read has been refused when the checkpoint was opened.
    let Ok(file) = SourceFile::open(&checkpoint.dir.join(INDEX_FILE)) else { return };
    let Ok(text) = file.read_small(MAX_INDEX) else { return };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let Ok(index) = serde_json::from_slice::<Index>(text) else { return };
    let Some(said) = index.metadata.and_then(|metadata| metadata.total_size) else { return };
    let actual: u64 = checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    if said.as_f64() != Some(actual as f64) {
        let message = format!("`total_size` is {}, and the tensors have {actual} bytes", shown(&said.to_string()));
        let mut finding = Finding::new(&rules::TOTAL_SIZE, message).file(INDEX_FILE);
        finding.place.pointer = Some("/metadata/total_size".to_owned());
        findings.push(finding);
    }
}

fn head(checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
    let has_head =
        checkpoint.tensors.iter().any(|tensor| tensor.kind() == LayerKind::LmHead || tensor.module() == "lm_head");
    let generates = checkpoint
        .config
        .architectures()
        .iter()
        .any(|name| name.ends_with("ForCausalLM") || name.ends_with("ForConditionalGeneration"));
    if !has_head && generates && checkpoint.config.tie_word_embeddings() == Some(false) {
        let message = "`tie_word_embeddings` is false, and there is no `lm_head.weight`";
        findings.push(Finding::new(&rules::NO_HEAD, message).file("config.json"));
    }
}
