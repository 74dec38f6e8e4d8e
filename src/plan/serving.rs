//! Serving rules: output that vLLM, SGLang or transformers would refuse or, worse, load silently wrong, is refused
//! before anything is written.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::{Format, Strategy};

use crate::checkpoint::models::{FusedLayer, LayerKind, Part};
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{Dialect, ExpertsPolicy, Recipe, ServingPolicy};

use super::known::UnloadedLayer;
use super::misfits::{AllModules, CUTS, KERNEL_BLOCK};
use super::modules::Quantized;
use super::planned_input::PlannedInput;
use super::served::Served;
use super::served_form::ServedForm;
use super::transformers_list::TransformersList;
use super::{fixes, format, fused, kernels, known, misfits, own_families, unproven};

/// The parts of models that servers build unquantized, whatever a list says.
pub(super) const KEPT_PARTS: [Part; 7] =
    [Part::Vision, Part::Audio, Part::Projector, Part::Indexer, Part::ClassHead, Part::Transposed, Part::Unquantized];

/// Returns an error or warning for every serving rule that the plan breaks.
pub(super) fn check(served: &Served<'_>, not_loaded: &[UnloadedLayer<'_>]) -> Vec<Diagnostic> {
    let mut diagnostics = own_families::check(served);
    if served.modules.quantized.is_empty() {
        return diagnostics;
    }
    diagnostics.extend(format_holds_schemes(served.recipe));
    format_holds_one_scheme(served, &mut diagnostics);
    kept_parts_stay(served, &mut diagnostics);
    routers_and_embeddings_stay(served, &mut diagnostics);
    head_is_loaded(served, &mut diagnostics);
    fused_parts_agree(served, &mut diagnostics);
    stacked_experts_are_named(served, &mut diagnostics);
    blocks_fit(served, &mut diagnostics);
    head_is_there(served, &mut diagnostics);
    list_hits_no_quantized_module(served, &mut diagnostics);
    diagnostics.extend(kernels::check(served));
    diagnostics.extend(known::check(served, not_loaded));
    diagnostics.extend(unproven::check(served));
    diagnostics
}

/// Returns an error for each rule whose scheme the recipe's format cannot describe; no checkpoint is needed.
pub(super) fn format_holds_schemes(recipe: &Recipe) -> Vec<Diagnostic> {
    let wire = format::wire_format(recipe.format);
    let refused = recipe.rules.iter().filter_map(|rule| {
        let refusal = wire.admits(&ServedForm::of(rule.scheme.as_deref()?)).err()?;
        Some(Diagnostic::error(refusal.reason).at(rule.span.clone()).label(&rule.label).help(refusal.help))
    });
    refused.collect()
}

fn format_holds_one_scheme(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let groups = served.modules.groups();
    if let (Format::Fp8, [(_, first), (_, second), ..]) = (served.recipe.format, &groups[..]) {
        diagnostics.push(
            Diagnostic::error(format!(
                "`format: fp8` describes one scheme for all layers, and {} and {} have different ones",
                shown(first[0]),
                shown(second[0])
            ))
            .help("use `format: compressed-tensors`, or one scheme"),
        );
    }
}

/// Refuses to quantize layers that servers build unquantized, whatever the list says. Layers that the source has in FP8
/// are what its author's server loads.
fn kept_parts_stay(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for part in KEPT_PARTS {
        let is_of = |module: &Quantized<'_>| module.input.layer.part == part && module.input.quantized().is_none();
        for (rule, modules) in by_rule(served, is_of) {
            let words = modules.iter().map(|module| served.model.part_word(module.input.module()));
            let words: Option<BTreeSet<&str>> = words.collect();
            let what = format!("{} {} would be quantized", count(modules.len(), "layer"), part.place());
            let diagnostic = at_target(served, &modules, what).help(part.why()).help(
                match (nothing_else(served, rule, &modules), words) {
                    (Some(nothing), _) => nothing,
                    (None, Some(words)) => {
                        let patterns: Vec<String> = words.iter().map(|word| format!("re:.*{word}.*")).collect();
                        fixes::leave_out_patterns(served.recipe, rule, modules.len(), &patterns, true)
                    }
                    (None, None) => leave_out(served, rule, &modules),
                },
            );
            diagnostics.push(match served.recipe.serving {
                ServingPolicy::Enforce => diagnostic.help(
                    "for a server that builds them quantized all the same, `serving: warn` at the top lets this pass",
                ),
                ServingPolicy::Warn => diagnostic,
            });
        }
    }
}

fn routers_and_embeddings_stay(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (kinds, what, why) in [
        (&[LayerKind::Router][..], "router", "servers build routers in BF16"),
        (&[LayerKind::Embedding, LayerKind::PositionEmbedding], "embedding", "no server reads a quantized embedding"),
    ] {
        for (rule, modules) in by_rule(served, |module| kinds.contains(&module.input.kind())) {
            diagnostics.push(
                at_target(served, &modules, format!("{} would be quantized", count(modules.len(), what)))
                    .help(why)
                    .help(leave_out(served, rule, &modules)),
            );
        }
    }
}

fn head_is_loaded(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let tied = served.config.tie_word_embeddings() == Some(true);
    for (rule, modules) in by_rule(served, |module| module.input.kind() == LayerKind::LmHead) {
        let diagnostic = at_target(served, &modules, "the output head would be quantized".to_owned());
        diagnostics.push(match served.recipe.format {
            Format::Fp8 => {
                diagnostic.help("`format: fp8` never loads a quantized head").help(leave_out(served, rule, &modules))
            }
            Format::CompressedTensors if tied => diagnostic
                .help("config.json ties it to the embedding, which stays as it is")
                .help(leave_out(served, rule, &modules)),
            // vLLM finds it through the group's `re:.*lm_head` target.
            Format::CompressedTensors => {
                Diagnostic { level: Level::Warning, ..diagnostic }.help("vLLM serves it; SGLang does not")
            }
        });
    }
}

/// Checks that the parts of each fused layer have one scheme, or none.
fn fused_parts_agree(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let quantized: BTreeMap<&str, &Quantized<'_>> =
        served.modules.quantized.iter().map(|module| (module.input.name.as_str(), module)).collect();
    let quantized_as = |tensor: &PlannedInput| quantized.get(tensor.name.as_str()).copied();
    let differ = |a: &PlannedInput, b: &PlannedInput| match (quantized_as(a), quantized_as(b)) {
        (Some(a), Some(b)) => a.form != b.form,
        (a, b) => a.is_some() != b.is_some(),
    };
    let sets = fused::sets(served.model, served.inputs);
    let mixed: Vec<_> = sets.iter().filter(|(_, parts)| parts.iter().any(|part| differ(parts[0], part))).collect();
    let Some((layer, parts)) = mixed.first() else { return };

    // One diagnostic for all of them: they were mixed by the same rules.
    let other = parts.iter().find(|part| differ(parts[0], part)).unwrap_or(&parts[0]);
    let says = |part: &PlannedInput| match quantized_as(part) {
        Some(quantized) => {
            format!("{} goes to {}", shown(part.module()), served.recipe.rules[quantized.rule].label)
        }
        None if part.shape.len() != 2 => {
            format!("{} stays unquantized, since its shape {:?} is no matrix", shown(part.module()), part.shape)
        }
        None => format!("{} stays unquantized", shown(part.module())),
    };
    let why = match layer {
        FusedLayer::Experts(_) => "servers run the experts of a layer as one, with one scheme",
        FusedLayer::Parts { .. } => "servers fuse them into one layer, which has one scheme",
    };
    let mut diagnostic = Diagnostic::error(format!("{}, and {}", says(parts[0]), says(other))).help(why);
    if mixed.len() > 1 {
        diagnostic = diagnostic.label(format!("and {} like it", count(mixed.len() - 1, "more layer")));
    }
    let all = || mixed.iter().flat_map(|(_, parts)| parts.iter().copied());
    let takers: BTreeMap<usize, usize> =
        all().filter_map(quantized_as).map(|module| (module.rule, module.target)).collect();
    let Some((&first, &target)) = takers.first_key_value() else { return };
    diagnostic = diagnostic.at(served.recipe.rules[first].targets[target].span.clone());
    let modules: Vec<&str> = fixes::modules(all());
    let leaves_out = all().any(|part| quantized_as(part).is_none());
    diagnostics.push(match served.recipe.dialect {
        _ if leaves_out => {
            diagnostic.help(fixes::leave_out(served.recipe, served.model, served.decided(), first, &modules))
        }
        Dialect::LlmCompressor => diagnostic.help("give all of them to one group"),
        Dialect::Native => {
            let all = fused::with_fused(served.model, served.inputs, &modules);
            let patterns = fixes::patterns(&all, served.inputs);
            let patterns: Vec<String> = patterns.iter().map(|pattern| fixes::quoted(pattern)).collect();
            diagnostic.help(format!(
                "add to `targets` of {}: {}",
                served.recipe.rules[first].label,
                patterns.join(", ")
            ))
        }
    });
}

/// Checks that the recipe says so where stacks of experts stay unquantized.
fn stacked_experts_are_named(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    // Under `split_or_keep` a note says why they stay.
    if matches!(served.recipe.experts, ExpertsPolicy::Keep | ExpertsPolicy::SplitOrKeep) {
        return;
    }
    let is_ignored = |tensor: &PlannedInput| {
        let mut ignores = served.recipe.rules.iter().flat_map(|rule| &rule.ignore);
        ignores.any(|pattern| pattern.value.matches(tensor.target_name(), tensor.kind()).unwrap_or(false))
    };
    let silent: Vec<&PlannedInput> = served
        .inputs
        .iter()
        .zip(served.decisions)
        .filter(|(tensor, decision)| tensor.kind() == LayerKind::Experts && decision.rule.is_none())
        .map(|(tensor, _)| tensor)
        .filter(|tensor| !is_ignored(tensor))
        .collect();
    let (Some(first), Some(quantized)) = (silent.first(), served.modules.quantized.first()) else { return };
    let experts = [LayerKind::Experts.name().to_owned()];
    diagnostics.push(
        Diagnostic::error(format!(
            "{} of stacked experts would stay unquantized, such as {}",
            count(silent.len(), "tensor"),
            shown(&first.name)
        ))
        .help("they are most of the model; `experts: split_or_keep` at the top makes matrices of them that the rules take, where \
             servers load such")
        .help(fixes::leave_out_patterns(served.recipe, quantized.rule, silent.len(), &experts, false)),
    );
}

fn blocks_fit(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let all = AllModules::of(served.model, served.inputs);
    for (why, is_cut) in CUTS {
        // Of the vision tower it is enough to say that it must not be quantized at all.
        let stays = |module: &Quantized<'_>| module.input.layer.part == Part::Vision;
        let wrong = by_rule(served, |module| {
            !stays(module) && block(module).is_some_and(|size| is_cut(module.input, size, &all))
        });
        for (rule, modules) in wrong {
            let shape = &modules[0].input.shape;
            let n = count(modules.len(), "layer");
            let diagnostic = at_target(served, &modules, format!("{n} would be cut inside a block"))
                .label(format!("shape {shape:?}"))
                .help(why)
                .help(leave_out(served, rule, &modules));
            let may_leave = served.recipe.dialect == Dialect::Native && served.recipe.rules[rule].scheme.is_some();
            diagnostics.push(match may_leave {
                // It would leave all that it takes.
                true if nothing_else(served, rule, &modules).is_some() => {
                    diagnostic.help(misfits::way_out(&served.recipe.rules[rule], served.recipe.format))
                }
                true => diagnostic.help(misfits::LEAVE),
                false => diagnostic,
            });
        }
    }
    let other = |module: &Quantized<'_>| block(module).is_some_and(|block| block != KERNEL_BLOCK);
    // `format: fp8` refuses them altogether.
    let other = by_rule(served, |module| served.recipe.format == Format::CompressedTensors && other(module));
    for (rule, modules) in other {
        let [rows, columns] = block(modules[0]).unwrap_or(KERNEL_BLOCK);
        diagnostics.push(
            Diagnostic::warning(format!("servers have fast kernels for blocks of 128 × 128, not {rows} × {columns}"))
                .at(served.recipe.rules[rule].span.clone())
                .help("write `block_size: 128`"),
        );
    }
}

fn block(module: &Quantized<'_>) -> Option<[usize; 2]> {
    match module.form.weights.strategy {
        Strategy::Block(block) => Some(block),
        _ => None,
    }
}

fn head_is_there(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let config = &served.config;
    let has_head = served.inputs.iter().any(|tensor| tensor.kind() == LayerKind::LmHead);
    let generates = |name: &String| name.ends_with("ForCausalLM") || name.ends_with("ForConditionalGeneration");
    if !has_head && config.tie_word_embeddings() == Some(false) && config.architectures().iter().any(generates) {
        diagnostics.push(
            Diagnostic::error(
                "config.json says `tie_word_embeddings: false`, and the checkpoint has no `lm_head.weight`",
            )
            .help("vLLM would load it with an uninitialised head: get the missing shard, or correct config.json"),
        );
    }
}

/// transformers matches a list entry as a prefix or suffix of a name, and would then read FP8 bytes as weights.
fn list_hits_no_quantized_module(served: &Served<'_>, diagnostics: &mut Vec<Diagnostic>) {
    if served.recipe.format != Format::Fp8 {
        return;
    }
    let entries = served.modules.unquantized();
    let list = TransformersList::new(entries);
    for module in &served.modules.quantized {
        let name = module.input.module();
        let Some(entry) = list.hit(name) else { continue };
        let entry = entries[entry];
        diagnostics.push(
            Diagnostic::error(format!("{} is quantized, and transformers takes {} for it", shown(name), shown(entry)))
                .help(
                    "it matches the entries of the list as prefixes and suffixes, and would read FP8 bytes as weights",
                )
                .help("use `format: compressed-tensors`"),
        );
        return;
    }
}

fn leave_out(served: &Served<'_>, rule: usize, modules: &[&Quantized<'_>]) -> String {
    let names = fixes::modules(modules.iter().map(|module| module.input));
    let leave_out = fixes::leave_out(served.recipe, served.model, served.decided(), rule, &names);
    // They were so in the source, which may run somewhere all the same.
    let passes_through = modules.iter().all(|module| module.scheme.is_none());
    let anyway =
        if passes_through { "\nto pass them through all the same, write `serving: warn` at the top" } else { "" };
    leave_out + anyway
}

/// The help for a rule that takes nothing but these modules and those that servers fuse with them.
fn nothing_else(served: &Served<'_>, rule: usize, modules: &[&Quantized<'_>]) -> Option<String> {
    let names = fixes::modules(modules.iter().map(|module| module.input));
    let names = fused::with_fused(served.model, served.inputs, &names);
    fixes::takes_nothing_else(served.recipe, served.decided(), rule, &names)
}

/// The modules that `wrong` picks, by the rule that took them.
fn by_rule<'a>(served: &Served<'a>, wrong: impl Fn(&Quantized<'_>) -> bool) -> BTreeMap<usize, Vec<&'a Quantized<'a>>> {
    let mut found: BTreeMap<usize, Vec<&Quantized<'_>>> = BTreeMap::new();
    for module in served.modules.quantized.iter().filter(|module| wrong(module)) {
        found.entry(module.rule).or_default().push(module);
    }
    found
}

/// An error about modules of one rule, at the target that took the first, which it names.
fn at_target(served: &Served<'_>, modules: &[&Quantized<'_>], what: String) -> Diagnostic {
    let first = modules[0];
    let such = if modules.len() == 1 { ":" } else { ", such as" };
    Diagnostic::error(format!("{what}{such} {}", shown(first.input.module())))
        .at(served.recipe.rules[first.rule].targets[first.target].span.clone())
}
