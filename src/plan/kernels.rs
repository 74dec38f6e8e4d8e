//! Which servers have kernels for what a rule writes, where it loads and is not refused: warnings.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Registration, Scheme, Strategy};

use crate::recipe::diagnostic::Diagnostic;

use super::modules::Quantized;
use super::served::Served;

/// The columns under one scale for which vLLM has kernels of packed integers.
const PACKED_GROUPS: [usize; 3] = [32, 64, 128];

/// One warning at most for each rule that quantizes something.
pub(super) fn check(served: &Served<'_>) -> Vec<Diagnostic> {
    let rules: BTreeMap<usize, &Quantized<'_>> =
        served.modules.quantized.iter().rev().map(|module| (module.rule, module)).collect();
    let warnings = rules.into_iter().filter_map(|(rule, module)| {
        let rule = &served.recipe.rules[rule];
        let warning = missing_server(rule.registration).or_else(|| missing_kernel(rule.registration, module.scheme))?;
        Some(warning.at(rule.span.clone()).label(&rule.label))
    });
    warnings.collect()
}

/// Of the servers that run without a word, one that has no kernels for the scheme.
fn missing_server(scheme: &Registration) -> Option<Diagnostic> {
    let Registration { name, servers, .. } = scheme;
    let has = |server| servers.servers.contains(&server);
    match (has("vLLM"), has("SGLang")) {
        // Who registers no server says nothing of any.
        _ if servers.servers.is_empty() => None,
        (true, true) => None,
        (true, false) => Some(Diagnostic::warning(format!("vLLM serves `{name}`; SGLang does not"))),
        (false, true) => Some(Diagnostic::warning(format!("SGLang serves `{name}`; vLLM does not"))),
        (false, false) => {
            let others = servers.servers.join(" and ");
            Some(Diagnostic::warning(format!("neither vLLM nor SGLang serves `{name}`: it is for {others}")))
        }
    }
}

/// Groups for which vLLM has no kernel, under a scheme that it serves.
fn missing_kernel(registration: &Registration, scheme: &dyn Scheme) -> Option<Diagnostic> {
    if !registration.servers.servers.contains(&"vLLM") {
        return None;
    }
    let found = match scheme.weights().strategy {
        Strategy::Group(columns) => format!("a scale per {columns} columns"),
        Strategy::Tensor => "one scale for the tensor".to_owned(),
        _ => return None,
    };
    match (scheme.storage_format(), scheme.weights().strategy) {
        ("pack-quantized", Strategy::Group(columns)) if PACKED_GROUPS.contains(&columns) => None,
        ("pack-quantized", _) => Some(
            Diagnostic::warning(format!("vLLM has no kernel for packed integers with {found}"))
                .help("it has some for `group_size: 32`, `64`, `128` and `channel`"),
        ),
        ("int-quantized", Strategy::Group(_)) => Some(
            Diagnostic::warning(format!("vLLM has no kernel for INT8 with {found}"))
                .help("it has some for `group_size: channel` and `tensor`"),
        ),
        _ => None,
    }
}
