//! Warnings about kernels that a server lacks for what a rule writes, although it loads it.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{MissingKernel, Registration, Scheme};

use crate::recipe::diagnostic::Diagnostic;

use super::modules::Quantized;
use super::served::Served;

/// Returns at most one warning for each rule that quantizes a module.
pub(super) fn check(served: &Served<'_>) -> Vec<Diagnostic> {
    let rules: BTreeMap<usize, &Quantized<'_>> =
        served.modules.quantized.iter().rev().map(|module| (module.rule, module)).collect();
    let warnings = rules.into_iter().filter_map(|(rule, module)| {
        let rule = &served.recipe.rules[rule];
        let warning =
            missing_server(rule.registration).or_else(|| missing_kernel(rule.registration, module.scheme?))?;
        Some(warning.at(rule.span.clone()).label(&rule.label))
    });
    warnings.collect()
}

/// Returns a warning where vLLM or SGLang has no kernels for the scheme.
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
            let message = format!("neither vLLM nor SGLang serves `{name}` on NVIDIA GPUs: it is for {others}");
            Some(Diagnostic::warning(message))
        }
    }
}

/// Returns a warning for a configuration that vLLM has no kernel for, under a scheme that it serves.
fn missing_kernel(registration: &Registration, scheme: &dyn Scheme) -> Option<Diagnostic> {
    if !registration.servers.servers.contains(&"vLLM") {
        return None;
    }
    let MissingKernel { weights, served } = scheme.missing_kernel()?;
    let warning = Diagnostic::warning(format!("vLLM has no kernel for {weights}"));
    Some(warning.help(format!("it has some for {served}")))
}
