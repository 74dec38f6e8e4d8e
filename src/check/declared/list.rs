//! The list of modules that stay as they are, read as vLLM does.

use serde_json::Value;

use super::Method;
use super::compressed_tensors::regex;
use crate::finding::Finding;
use crate::rules;
use qwen_fp8_checkpoint::models::{LayerKind, expert_stack, served_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::shown;

/// The list of modules that stay as they are.
#[derive(Debug)]
pub(crate) struct IgnoreList {
    /// Pointer of the list below `quantization_config`.
    pub(crate) pointer: String,
    pub(crate) entries: Vec<Entry>,
    names: std::collections::HashSet<String>,
}

/// One entry of the list.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) text: String,
    /// Below `quantization_config`.
    pub(crate) pointer: String,
    pub(crate) reads: Reads,
}

/// How an entry is understood.
#[derive(Debug)]
pub(crate) enum Reads {
    /// As one whole name, here as vLLM spells it.
    Name(String),
    /// As a regex over the names that vLLM uses.
    Regex(Pattern),
    /// As a name, though it is written as a regex: this method knows none.
    RegexAsName(Option<Pattern>),
}

impl IgnoreList {
    /// Reads the list under `key`; without one, nothing is listed.
    pub(super) fn read(method: Method, list: Option<(&str, &Value)>, findings: &mut Vec<Finding>) -> Self {
        let mut read = Self { pointer: String::new(), entries: Vec::new(), names: Default::default() };
        let Some((key, list)) = list else { return read };
        read.pointer = format!("/{key}");
        let Some(list) = list.as_array() else {
            let message = format!("`{key}` is not a list");
            findings.push(Finding::new(&rules::BAD_ENTRY, message).config(&read.pointer));
            return read;
        };
        for (index, entry) in list.iter().enumerate() {
            let pointer = format!("{}/{index}", read.pointer);
            let Some(text) = entry.as_str() else {
                let message = format!("{} is not text", shown(&entry.to_string()));
                findings.push(Finding::new(&rules::BAD_ENTRY, message).config(&pointer));
                continue;
            };
            let reads = match (method, text.starts_with("re:")) {
                (_, false) => Reads::Name(served_name(text).into_owned()),
                (Method::Fp8, true) => Reads::RegexAsName(regex(text).ok()),
                (Method::CompressedTensors, true) => match regex(text) {
                    Ok(regex) => Reads::Regex(regex),
                    Err(reason) => {
                        let message = format!("{}: {reason}", shown(text));
                        findings.push(Finding::new(&rules::BAD_ENTRY, message).config(&pointer));
                        continue;
                    }
                },
            };
            if let Reads::Name(name) = &reads {
                read.names.insert(name.clone());
            }
            read.entries.push(Entry { text: text.to_owned(), pointer, reads });
        }
        read
    }

    /// Whether vLLM leaves the module, here as the file spells it, unquantized.
    pub(crate) fn lists(&self, module: &str) -> bool {
        let hits = |name: &str| {
            self.names.contains(name)
                || self.entries.iter().any(|entry| match &entry.reads {
                    Reads::Regex(regex) => regex.matches(name, LayerKind::Other).unwrap_or(false),
                    Reads::Name(_) | Reads::RegexAsName(_) => false,
                })
        };
        let served = served_name(module);
        // A stack of experts is one layer, and its own name stands for all of them.
        hits(&served) || expert_stack(&served).is_some_and(hits)
    }
}
