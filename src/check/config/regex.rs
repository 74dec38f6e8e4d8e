//! Regexes of a config, as their readers take them.

use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::pattern::Pattern;

/// A regex of a config. vLLM reads it with the package `regex`; compressed-tensors, with it transformers and
/// llm-compressor, and SGLang read it with Python's `re`.
#[derive(Debug)]
pub(crate) struct ConfigRegex {
    /// The regex as vLLM reads it.
    pub(crate) served: Pattern,
    pub(crate) reference: ReferenceReading,
}

/// The reading of a regex by Python's `re`.
#[derive(Debug)]
pub(crate) enum ReferenceReading {
    /// The same as vLLM's.
    Same,
    /// Another one.
    Other(Pattern),
    /// None, for this reason.
    Refused(String),
}

/// Parses a regex, and tries it: one that gives up on names is refused with the reason.
pub(super) fn regex(text: &str) -> Result<ConfigRegex, String> {
    let regex = match (Pattern::parse_upstream(text), Pattern::parse_served(text)) {
        (Ok(reference), Ok(Some(served))) => {
            ConfigRegex { served, reference: ReferenceReading::Other(tried(reference)?) }
        }
        // What vLLM's package has beyond Python, and is not known here, cannot be held against the entry.
        (Ok(served), _) => ConfigRegex { served, reference: ReferenceReading::Same },
        (Err(error), Ok(Some(served))) => {
            ConfigRegex { served, reference: ReferenceReading::Refused(error.to_string()) }
        }
        (Err(error), _) => return Err(error.to_string()),
    };
    Ok(ConfigRegex { served: tried(regex.served)?, ..regex })
}

/// Tries a regex where one that backtracks without end does so: on a long and regular name, here rather than at every
/// module.
fn tried(regex: Pattern) -> Result<Pattern, String> {
    let probe = "model.language_model.layers.0.mlp.experts.000000000000000000000000000.gate_proj";
    regex.matches(probe, LayerKind::Other).map_err(|error| error.to_string())?;
    Ok(regex)
}
