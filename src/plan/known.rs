//! Serving rules that follow from what is known of the model: formats that a server's class cannot load, and layers that
//! no list reaches.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Format, Strategy};
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::models::Model;
use crate::checkpoint::models::catalogue::{KnownScales, ListFormat, NotLoaded, NotLoadedLevel, server_name};
use crate::checkpoint::text::{Sample, count, shown};
use crate::recipe::MisfitPolicy;
use crate::recipe::diagnostic::{Diagnostic, Level};

use super::misfits;
use super::modules::Quantized;
use super::quantized_source::QuantizedTensors;
use super::served::Served;

/// A quantized layer that a server's class cannot load, the kind of its scales, and what is known of it.
pub(super) type UnloadedLayer<'a> = (&'a Quantized<'a>, KnownScales, &'a NotLoaded);

/// Returns the diagnostics of a plan that quantizes something.
pub(super) fn check(served: &Served<'_>, not_loaded: &[UnloadedLayer<'_>]) -> Vec<Diagnostic> {
    let mut diagnostics = cannot_be_loaded(served, not_loaded);
    diagnostics.extend(cannot_be_apart(served, not_loaded));
    diagnostics.extend(cannot_stay(served));
    diagnostics
}

/// The list format of a wire format.
fn list_format(format: Format) -> ListFormat {
    match format {
        Format::Fp8 => ListFormat::Fp8,
        Format::CompressedTensors => ListFormat::CompressedTensors,
    }
}

/// Returns the servers, without their versions, that have no class for this model or one that cannot load what the rules
/// write, each with the first reason.
pub(super) fn unserved(model: &Model, not_loaded: &[UnloadedLayer<'_>]) -> BTreeMap<String, String> {
    servers(model, not_loaded.iter().map(|&(_, _, not)| not))
}

/// Returns the servers, without their versions, that have no class for its model or one that cannot load this checkpoint, each
/// with the first reason. Nothing more is known of one that is quantized in another way than ours.
pub(crate) fn unserved_checkpoint(checkpoint: &Checkpoint) -> BTreeMap<String, String> {
    let model = &checkpoint.model;
    let Ok(quantized) = QuantizedTensors::find(checkpoint) else { return servers(model, [].into_iter()) };
    let config = checkpoint.config.quantization_config().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let format = match config.as_ref().and_then(|config| config.get("quant_method")?.as_str()) {
        Some("fp8") => ListFormat::Fp8,
        Some("compressed-tensors") => ListFormat::CompressedTensors,
        _ => return servers(model, [].into_iter()),
    };
    let forms = quantized.weights.values().filter_map(|input| Some((input, input.quantized()?.carried.as_ref().ok()?)));
    let not_loaded = forms.flat_map(|(input, carried)| {
        let scales = kind_of_scales(carried.form.weights.strategy);
        model.not_loaded(format, scales).filter(move |not| not.is_about(input.module()))
    });
    servers(model, not_loaded)
}

fn servers<'a>(model: &Model, not_loaded: impl Iterator<Item = &'a NotLoaded>) -> BTreeMap<String, String> {
    let none = model
        .unserved()
        .iter()
        .map(|server| (server.clone(), "no class for this family, or one that is known to fail".to_owned()));
    let mut servers: BTreeMap<String, String> = none.collect();
    for not in not_loaded {
        let why = || format!("its class for this model cannot load it: {}", not.because);
        servers.entry(server_name(&not.server).to_owned()).or_insert_with(why);
    }
    servers
}

/// The kind of scales that files of families speak of.
fn kind_of_scales(strategy: Strategy) -> KnownScales {
    match strategy {
        Strategy::Block(_) => KnownScales::Block,
        Strategy::Channel => KnownScales::Channel,
        Strategy::Tensor => KnownScales::Tensor,
        _ => KnownScales::Group,
    }
}

/// Reports whether the class of this server loads a layer with such scales in compressed-tensors, and no rule refuses it.
pub(crate) fn is_loaded_by(server: &str, model: &Model, module: &str, strategy: Strategy) -> bool {
    let mut not_loaded = model.not_loaded(ListFormat::CompressedTensors, kind_of_scales(strategy));
    !not_loaded
        .any(|not| not.is_about(module) && (not.level == NotLoadedLevel::Error || server_name(&not.server) == server))
}

/// The quantized layers that a server's class cannot load: one for each rule and reason.
pub(super) fn not_loaded<'a>(served: &Served<'a>) -> Vec<UnloadedLayer<'a>> {
    let format = list_format(served.recipe.format);
    let mut said = BTreeSet::new();
    let mut found = Vec::new();
    for module in &served.modules.quantized {
        let scales = kind_of_scales(module.form.weights.strategy);
        for not in served.model.not_loaded(format, scales) {
            if not.is_about(module.input.module()) && said.insert((module.rule, &not.because)) {
                found.push((module, scales, not));
            }
        }
    }
    found
}

/// Reports servers whose class for this model cannot load what a rule writes.
fn cannot_be_loaded(served: &Served<'_>, not_loaded: &[UnloadedLayer<'_>]) -> Vec<Diagnostic> {
    let all = not_loaded;
    not_loaded
        .iter()
        .map(|&(module, scales, not)| {
            let is_general = not.layers.is_empty() && served.model.refuses_scales(scales).is_some();
            // Where another server loads them, they may well stay so.
            let too = match (not.format, not.level) {
                (None, NotLoadedLevel::Note | NotLoadedLevel::Warning) => {
                    let loads = if is_seen_loading(served, all) { "vLLM loads them; " } else { "" };
                    format!("{loads}for {}, too, ", server_name(&not.server))
                }
                _ => String::new(),
            };
            let other = match (&module.input.part_of, not.format) {
                _ if is_general && scales == KnownScales::Block => {
                    "one scale per row is loaded: write `format: compressed-tensors`, and leave `block_size` out"
                }
                (Some(_), None) => "`experts: keep` at the top leaves the stacks of experts as they are",
                (None, None) => "leave these layers out",
                (_, Some(_)) if is_general => "leave these layers out",
                (_, Some(ListFormat::Fp8)) => "`format: compressed-tensors` with the same scheme is loaded",
                (_, Some(ListFormat::CompressedTensors)) => "`format: fp8` is loaded",
            };
            let what = match not.layers[..] {
                [] => "this".to_owned(),
                _ => shown(module.input.module()).to_string(),
            };
            let message = format!("{} cannot load {what} for {}: {}", not.server, served.class(), not.because);
            let rule = &served.recipe.rules[module.rule];
            let help = not.instead.clone().unwrap_or_else(|| format!("{too}{other}"));
            Diagnostic { level: level(not), ..Diagnostic::error(message).at(rule.span.clone()).help(help) }
        })
        .collect()
}

/// Reports whether vLLM was seen to load what is written.
fn is_seen_loading(served: &Served<'_>, not_loaded: &[UnloadedLayer<'_>]) -> bool {
    let is_seen = served.model.family().is_some() && served.model.unproven().is_none();
    is_seen && !unserved(served.model, not_loaded).contains_key("vLLM")
}

/// Reports servers that load none of the matrices that a stack of experts was taken apart into and no rule quantizes: those
/// that read no such names at all, whatever the scales are.
fn cannot_be_apart(served: &Served<'_>, not_loaded: &[UnloadedLayer<'_>]) -> Vec<Diagnostic> {
    let mut said: BTreeSet<&str> = not_loaded.iter().map(|(_, _, not)| &*not.because).collect();
    let mut diagnostics = Vec::new();
    for (input, decision) in served.inputs.iter().zip(served.decisions) {
        if input.part_of.is_none() || decision.is_quantized(served.recipe) {
            continue;
        }
        for not in served.model.loads_no_single(input.module()) {
            if said.insert(&not.because) {
                let module = shown(input.module());
                let message = format!("{} cannot load {module} for {}: {}", not.server, served.class(), not.because);
                let help = "nothing of the stack is quantized: `experts: split_or_keep` at the top leaves it as it is";
                diagnostics.push(Diagnostic { level: level(not), ..Diagnostic::error(message).help(help) });
            }
        }
    }
    diagnostics
}

/// The level of the diagnostic about a server that cannot load a layer.
fn level(not: &NotLoaded) -> Level {
    match not.level {
        NotLoadedLevel::Error => Level::Error,
        NotLoadedLevel::Warning => Level::Warning,
        NotLoadedLevel::Note => Level::Note,
    }
}

/// Refuses to leave layers unquantized that vLLM builds quantized whatever the list says.
fn cannot_stay(served: &Served<'_>) -> Option<Diagnostic> {
    let unquantized = served.modules.unquantized().iter().copied();
    let names: Vec<&str> = unquantized.filter(|module| served.model.is_always_quantized(module)).collect();
    let first = served.modules.quantized.first()?;
    if names.is_empty() {
        return None;
    }
    let sample: Sample = names.iter().collect();
    let layers = count(names.len(), "layer");
    let message = format!("{layers} would stay unquantized, and no list tells vLLM so: {sample}");
    let rule = &served.recipe.rules[first.rule];
    let error = Diagnostic::error(message)
        .at(rule.span.clone())
        .help("vLLM builds them quantized, and would cast their weights without a scale: let a rule take them");
    let leaving = served.recipe.rules.iter().find(|rule| rule.on_misfit == MisfitPolicy::Leave);
    Some(match leaving {
        Some(rule) => error.help(misfits::way_out(rule, served.recipe.format)),
        None => error,
    })
}
