//! The schemes that a recipe by budget chooses among.

use qwen_fp8_schemes::{Format, Scheme, Strategy, find};
use serde_json::Value;

use crate::fit::has_kernels;
use crate::plan::ServedForm;

/// A scheme with options, as a rule of the recipe has them.
#[derive(Debug)]
pub(super) struct SchemeCandidate {
    name: &'static str,
    option: Option<(&'static str, &'static str)>,
    pub(super) scheme: Box<dyn Scheme>,
    /// Set where another scheme is meant instead, wherever a server loads that one.
    pub(super) is_substitute: bool,
}

/// Names, and the option of each that differs from its default. What loses less at the same size stands first.
//
// `W8A8`, `NVFP4` and others have the weights of one that is listed, and quantize activations besides, which nobody
// measures here.
const CANDIDATES: [(&str, Option<(&str, &str)>); 12] = [
    ("W8A16", None),
    ("W8A16", Some(("group_size", "channel"))),
    ("FP8_DYNAMIC", None),
    ("FP8_DYNAMIC", Some(("block_size", "128"))),
    ("FP8", None),
    ("MXFP8A16", None),
    ("W4A16_ASYM", Some(("group_size", "32"))),
    ("W4A16", Some(("group_size", "32"))),
    ("NVFP4A16", None),
    ("W4A16_ASYM", None),
    ("W4A16", None),
    ("MXFP4A16", None),
];

/// Returns the schemes that this server has kernels for on such GPUs.
pub(super) fn of_server(server: &str, generation: Option<&str>) -> Vec<SchemeCandidate> {
    let candidates = CANDIDATES.iter().filter_map(|&(name, option)| {
        let registration = find(name).filter(|it| it.servers.servers.contains(&server))?;
        let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        let options = option.iter().map(|&(key, text)| (key.to_owned(), value(text)));
        let scheme = registration.build(Value::Object(options.collect()), Format::CompressedTensors).ok()??;
        // transformers decodes weights where there are no kernels.
        let runs = server == "transformers"
            || scheme.missing_kernel().is_none() && has_kernels(server, &ServedForm::of(&*scheme), generation);
        let is_substitute = matches!(scheme.weights().strategy, Strategy::Block(_));
        runs.then_some(SchemeCandidate { name, option, scheme, is_substitute })
    });
    candidates.collect()
}

impl SchemeCandidate {
    /// The name for people: `W4A16` or `W4A16 (group_size: 32)`.
    pub(super) fn label(&self) -> String {
        match self.option {
            None => self.name.to_owned(),
            Some((key, value)) => format!("{} ({key}: {value})", self.name),
        }
    }

    /// The lines of a rule that name it.
    pub(super) fn lines(&self) -> String {
        let option = self.option.map_or_else(String::new, |(key, value)| format!("    {key}: {value}\n"));
        format!("  - scheme: {}\n{option}", self.name)
    }
}
