//! What becomes of a file beside the weights, decided from its name.

use super::listed::Listed;
use crate::hf_quant_config::HF_QUANT_CONFIG;
use crate::layout::INDEX_FILE;

/// The file in which sentence-transformers lists the modules of a model and their folders.
pub(super) const MODULES_FILE: &str = "modules.json";

/// Reasons for which weights are left out.
const NO_PART: &str = "weights that are no part of the model";
const OTHER_FORMAT: &str = "weights in another format";

/// Reports whether a file that is left out for this reason holds weights.
pub(crate) fn is_of_weights(why: &str) -> bool {
    [NO_PART, OTHER_FORMAT].contains(&why)
}

/// The fate of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Copy,
    CopyCode,
    /// Written anew, so that neither copy nor notice is due.
    Replace,
    LeaveOut(&'static str),
}

/// The fate of a file of the checkpoint's directory itself.
pub(super) fn in_checkpoint(file: &Listed) -> Fate {
    let lower = file.name.to_lowercase();
    if ["config.json", HF_QUANT_CONFIG, INDEX_FILE].contains(&file.name.as_str()) {
        return Fate::Replace;
    }
    if let Some(fate) = of_any(file, &lower) {
        return fate;
    }
    let (stem, extension) = lower.rsplit_once('.').unwrap_or((&lower, ""));
    match extension {
        "safetensors" => return Fate::LeaveOut(NO_PART),
        _ if is_other_weights(extension) => return Fate::LeaveOut(OTHER_FORMAT),
        _ => {}
    }
    // vLLM takes it for the config wherever Mistral's own weights, `consolidated*.safetensors`, lie beside it.
    if lower == "params.json" {
        return Fate::LeaveOut("describes Mistral's own form of the weights, which is left out");
    }
    if is_tokenizer(stem, extension) || is_processor(&lower) || is_of_embedding_model(&lower) || is_document(&lower) {
        Fate::Copy
    } else {
        Fate::LeaveOut("not a file that models are known to need")
    }
}

/// The fate of a file in the folder of a module that `modules.json` names: all that its loader may read.
///
/// `has_safetensors` says that the module's weights are there as safetensors too, which loaders prefer.
pub(super) fn in_module(file: &Listed, has_safetensors: bool) -> Fate {
    let name = file.name.rsplit('/').next().unwrap_or(&file.name).to_lowercase();
    if let Some(fate) = of_any(file, &name) {
        return fate;
    }
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "json" | "txt" | "safetensors" | "model" | "jinja" => Fate::Copy,
        // sentence-transformers and vLLM read a dense module's weights from here where there is nothing else.
        "bin" if name == "pytorch_model.bin" && !has_safetensors => Fate::Copy,
        extension if is_other_weights(extension) => Fate::LeaveOut(OTHER_FORMAT),
        _ if is_document(&name) => Fate::Copy,
        _ => Fate::LeaveOut("not a file that models are known to need"),
    }
}

/// The fate of a file in the folder of chat templates.
pub(super) fn in_chat_templates(file: &Listed) -> Fate {
    let name = file.name.rsplit('/').next().unwrap_or(&file.name).to_lowercase();
    match of_any(file, &name) {
        Some(fate) => fate,
        None if name.ends_with(".jinja") => Fate::Copy,
        None => Fate::LeaveOut("not a file that models are known to need"),
    }
}

/// The fate that a file has wherever it lies.
fn of_any(file: &Listed, lower: &str) -> Option<Fate> {
    if !file.is_utf8 {
        return Some(Fate::LeaveOut("its name is not UTF-8"));
    }
    if lower.starts_with('.') {
        return Some(Fate::LeaveOut("a hidden file"));
    }
    if file.is_dir() {
        return Some(Fate::LeaveOut("a folder"));
    }
    match lower.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "pem" | "key" | "p12" | "pfx" | "crt" => Some(Fate::LeaveOut("may be a secret")),
        "py" => Some(Fate::CopyCode),
        _ => None,
    }
}

fn is_other_weights(extension: &str) -> bool {
    matches!(
        extension,
        "bin" | "pt" | "pth" | "ckpt" | "pkl" | "pickle" | "h5" | "msgpack" | "onnx" | "gguf" | "npz" | "npy"
    )
}

fn is_tokenizer(stem: &str, extension: &str) -> bool {
    let family = ["tokenizer", "vocab", "merges", "special_tokens_map", "added_tokens", "chat_template"];
    match extension {
        // `tekken` is Mistral's, `normalizer` Whisper's.
        "json" => matches!(stem, "tekken" | "normalizer") || family.iter().any(|start| stem.starts_with(start)),
        "txt" | "bpe" => stem == "system_prompt" || family.iter().any(|start| stem.starts_with(start)),
        "model" | "tiktoken" | "jinja" => true,
        // Mistral's SentencePiece models are numbered: `tokenizer.model.v3`.
        _ => stem == "tokenizer.model" && extension.starts_with('v'),
    }
}

fn is_processor(name: &str) -> bool {
    matches!(
        name,
        "generation_config.json"
            | "configuration.json"
            | "preprocessor_config.json"
            | "video_preprocessor_config.json"
            | "image_processor_config.json"
            | "processor_config.json"
    )
}

/// How sentence-transformers and vLLM pool, normalize and prompt; without them vLLM pools by its default.
fn is_of_embedding_model(name: &str) -> bool {
    name == MODULES_FILE
        || name == "config_sentence_transformers.json"
        || name.starts_with("sentence_") && name.ends_with("_config.json")
}

/// Reports whether the name is that of a text for people, which no server reads.
pub(super) fn is_document(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let family = ["license", "licence", "notice", "readme", "use_policy"];
    matches!(extension, "" | "md" | "txt" | "rst" | "pdf" | "html")
        && family.iter().any(|start| stem.starts_with(start))
}
