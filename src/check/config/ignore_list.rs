//! The ignore list: modules that stay unquantized, read as vLLM reads the list.

use serde_json::Value;

use super::fault::{ConfigFault, FaultKind};
use super::method::QuantMethod;
use super::regex::{ConfigRegex, regex};
use qwen_fp8_checkpoint::models::{LayerKind, Model, expert_stack, split_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::shown;

/// The modules that `quantization_config` lists as unquantized.
#[derive(Debug)]
pub(crate) struct IgnoreList {
    /// JSON pointer of the list below `quantization_config`.
    pub(crate) pointer: String,
    pub(crate) entries: Vec<IgnoreEntry>,
    method: QuantMethod,
    model: Model,
    names: std::collections::HashSet<String>,
}

/// An entry of the ignore list.
#[derive(Debug)]
pub(crate) struct IgnoreEntry {
    pub(crate) text: String,
    /// JSON pointer below `quantization_config`.
    pub(crate) pointer: String,
    pub(crate) reading: EntryReading,
}

/// The meaning of an entry to vLLM.
#[derive(Debug)]
pub(crate) enum EntryReading {
    /// One whole name, here as vLLM spells it.
    Name(String),
    /// A part of names, as the file and as vLLM spells it: vLLM's readers of ModelOpt, MXFP8 and AWQ compare so.
    Part([String; 2]),
    /// A regex over the names that vLLM uses.
    Regex(ConfigRegex),
    /// A name, though it is written as a regex: the `fp8` method knows none.
    RegexAsName(Option<Pattern>),
}

impl EntryReading {
    /// Reports whether the entry is compared with parts of names, and is one of this name.
    pub(crate) fn is_part_of(&self, name: &str) -> bool {
        matches!(self, Self::Part(spellings) if spellings.iter().any(|part| name.contains(part.as_str())))
    }
}

impl IgnoreList {
    /// Reads the list under `key`; without one, nothing is listed.
    pub(super) fn read(
        method: QuantMethod,
        model: &Model,
        list: Option<(&str, &Value)>,
        faults: &mut Vec<ConfigFault>,
    ) -> Self {
        let mut read = Self {
            pointer: String::new(),
            entries: Vec::new(),
            method,
            model: model.clone(),
            names: Default::default(),
        };
        let Some((key, list)) = list else { return read };
        read.pointer = format!("/{key}");
        let Some(list) = list.as_array() else {
            let message = format!("`{key}` is not a list");
            faults.push(ConfigFault::new(FaultKind::BadEntry, message, &read.pointer));
            return read;
        };
        for (index, entry) in list.iter().enumerate() {
            let pointer = format!("{}/{index}", read.pointer);
            let Some(text) = entry.as_str() else {
                let message = format!("{} is not text", shown(&entry.to_string()));
                faults.push(ConfigFault::new(FaultKind::BadEntry, message, &pointer));
                continue;
            };
            // ModelOpt writes globs, which servers read as such.
            if matches!(method, QuantMethod::ModelOpt | QuantMethod::Mxfp8) && text.contains('*') {
                let pattern = format!("re:{}$", text.split('*').map(escaped).collect::<Vec<_>>().join(".*"));
                if let Ok(regex) = regex(&pattern) {
                    read.entries.push(IgnoreEntry {
                        text: text.to_owned(),
                        pointer,
                        reading: EntryReading::Regex(regex),
                    });
                    continue;
                }
            }
            let reading = match (method, text.starts_with("re:")) {
                // vLLM maps an entry to its own spelling before it compares names, so that both spellings list a
                // module. A regex is not mapped: it sees the names that vLLM uses.
                (QuantMethod::Awq, _) | (QuantMethod::ModelOpt | QuantMethod::Mxfp8, false) => {
                    EntryReading::Part([text.to_owned(), model.served_name(text).into_owned()])
                }
                (_, false) => EntryReading::Name(model.served_name(text).into_owned()),
                (QuantMethod::Fp8 | QuantMethod::Mxfp8 | QuantMethod::ModelOpt, true) => {
                    EntryReading::RegexAsName(Pattern::parse_upstream(text).ok())
                }
                (QuantMethod::CompressedTensors | QuantMethod::Gptq, true) => match regex(text) {
                    Ok(regex) => EntryReading::Regex(regex),
                    Err(reason) => {
                        let message = format!("{}: {reason}", shown(text));
                        faults.push(ConfigFault::new(FaultKind::BadEntry, message, &pointer));
                        continue;
                    }
                },
            };
            if let EntryReading::Name(name) = &reading {
                read.names.insert(name.clone());
            }
            read.entries.push(IgnoreEntry { text: text.to_owned(), pointer, reading });
        }
        read
    }

    /// Reports whether vLLM takes every linear layer that is not listed as quantized. It takes the layers of AWQ without a
    /// list and those of GPTQ from the dtypes in the files.
    pub(crate) fn is_whole(&self) -> bool {
        match self.method {
            QuantMethod::Awq => !self.entries.is_empty(),
            QuantMethod::Gptq => false,
            QuantMethod::Fp8 | QuantMethod::Mxfp8 | QuantMethod::ModelOpt | QuantMethod::CompressedTensors => true,
        }
    }

    /// Reports whether vLLM leaves the module, here as the file spells it, unquantized.
    pub(crate) fn lists(&self, module: &str) -> bool {
        let hits = |name: &str| {
            self.names.contains(name)
                || self.entries.iter().any(|entry| match &entry.reading {
                    EntryReading::Regex(regex) => regex.served.matches(name, LayerKind::Other).unwrap_or(false),
                    EntryReading::Part(_) => entry.reading.is_part_of(name),
                    EntryReading::Name(_) | EntryReading::RegexAsName(_) => false,
                })
        };
        // Stacked experts are asked for by the module of all experts.
        let experts = self.model.stack(module).map(|(_, names)| names.experts);
        let module = experts.as_deref().unwrap_or(module);
        let asked = self.model.asked_name(module, self.method.into());
        let served = self.model.served_name(asked.as_deref().unwrap_or(module));
        // vLLM takes the name of a fused layer for all of its parts; a regex it holds against the parts.
        let (parent, _) = split_name(&served);
        let mut fused = self.model.fused_names(&served);
        // A stack of experts is one layer, and its own name stands for all of them.
        hits(&served)
            || fused.any(|fused| {
                let fused = format!("{parent}.{fused}");
                self.names.contains(&fused) || self.entries.iter().any(|entry| entry.reading.is_part_of(&fused))
            })
            || expert_stack(&served).is_some_and(hits)
    }
}

/// Escapes what a regex would not take for itself.
fn escaped(text: &str) -> String {
    text.chars().flat_map(|char| char.is_ascii_punctuation().then_some('\\').into_iter().chain([char])).collect()
}
