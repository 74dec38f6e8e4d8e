//! Warnings about kernels that a server lacks for what a rule writes, although it loads it.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Format, MissingKernel, Registration, Scheme, registered};

use crate::recipe::diagnostic::Diagnostic;

use super::modules::Quantized;
use super::served::Served;

/// Returns the warnings of each rule that quantizes a module: one at most of each kind.
pub(super) fn check(served: &Served<'_>) -> Vec<Diagnostic> {
    let rules: BTreeMap<usize, &Quantized<'_>> =
        served.modules.quantized.iter().rev().map(|module| (module.rule, module)).collect();
    let warnings = rules.into_iter().flat_map(|(rule, module)| {
        let rule = &served.recipe.rules[rule];
        let server = missing_server(rule.registration, module.scheme);
        let kernel = module.scheme.and_then(|scheme| missing_kernel(rule.registration, scheme));
        server.into_iter().chain(kernel).map(|warning| warning.at(rule.span.clone()).label(&rule.label))
    });
    warnings.collect()
}

/// Returns a warning where vLLM or SGLang has no kernels for the scheme.
fn missing_server(registration: &Registration, scheme: Option<&dyn Scheme>) -> Option<Diagnostic> {
    let Registration { name, servers, .. } = registration;
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
            let warning = Diagnostic::warning(message);
            Some(match scheme.and_then(nearest_served) {
                Some(instead) => warning.help(instead),
                None => warning,
            })
        }
    }
}

/// Names the schemes that vLLM serves and that come nearest: of numbers of the same kind, quantized activations or none, next
/// in bits below and above.
fn nearest_served(scheme: &dyn Scheme) -> Option<String> {
    let (wanted, inputs) = (scheme.weights(), scheme.input_activations());
    let served = registered().into_iter().filter(|it| it.servers.servers.contains(&"vLLM"));
    let mut alike: Vec<_> = served
        .filter_map(|it| {
            let other = it.build(serde_json::json!({}), Format::CompressedTensors).ok()??;
            let weights = other.weights();
            let is_alike = (weights.kind, weights.symmetric) == (wanted.kind, wanted.symmetric)
                && other.input_activations().is_some() == inputs.is_some();
            let differs = (weights.strategy != wanted.strategy, other.input_activations() != inputs);
            is_alike.then_some((weights.num_bits, differs, it.name))
        })
        .collect();
    // Of as many bits, those come first that differ least.
    alike.sort_by_key(|&(bits, differs, name)| (bits.abs_diff(wanted.num_bits), differs, name));
    let first =
        |is_wanted: &dyn Fn(u8) -> bool| alike.iter().find(|(bits, ..)| is_wanted(*bits)).map(|(.., name)| *name);
    let smaller = first(&|bits| bits < wanted.num_bits).map(|name| format!("`{name}`, which is smaller"));
    let larger = first(&|bits| bits > wanted.num_bits).map(|name| format!("`{name}`, which is larger"));
    let named: Vec<String> = smaller.into_iter().chain(larger).collect();
    (!named.is_empty()).then(|| format!("vLLM serves {}", named.join(", and ")))
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
