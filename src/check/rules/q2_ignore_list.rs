//! Q201 to Q209 and Q212: the ignore list against the tensors, as vLLM, SGLang and transformers read it.

use std::collections::{BTreeMap, BTreeSet};

use super::subject::{Subject, is_quantizable};
use crate::config::{DeclaredForm, EntryReading, IgnoreEntry, QuantMethod, ReferenceReading};
use crate::decode::{Module, WeightState};
use crate::report::Severity::{self, Error, Note, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::{self, LayerKind, Model, Part, expert_stack, layers_of_first_expert};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::{Sample, count, shown};

// Seen in vLLM 0.26 and 0.33: `There is no module or parameter named '...weight_scale_inv'`.
pub(crate) static LISTED_QUANTIZED: LintRule = LintRule {
    code: "Q201",
    name: "listed-but-quantized",
    severity: Error,
    strict: Error,
    title: "A module is in the ignore list, and its weight is quantized.",
    why: "vLLM builds it unquantized and refuses its scale.",
};

// The worst of all mistakes, since nothing fails: vLLM's check for uninitialised weights is off for quantized models.
// 0.33 logs a warning for the cast, but not for parts of fused layers; 0.26 is silent.
pub(crate) static UNLISTED_PLAIN: LintRule = LintRule {
    code: "Q202",
    name: "unquantized-but-not-listed",
    severity: Error,
    strict: Error,
    title: "A linear layer is not quantized, and the ignore list does not name it.",
    why: "vLLM casts its weight to FP8 without a scale and reports no error, or finds no codes.",
};

// `model.visual` is the usual one: SGLang and transformers take it for the whole tower, vLLM for nothing.
pub(crate) static PREFIX_ENTRY: LintRule = LintRule {
    code: "Q203",
    name: "prefix-entry",
    severity: Warning,
    strict: Error,
    title: "An entry of the ignore list is the beginning or another part of module names.",
    why: "vLLM compares whole names, so that the entry lists nothing.",
};

// vLLM compares entries of the `fp8` method with names and knows no `re:`.
pub(crate) static REGEX_ENTRY: LintRule = LintRule {
    code: "Q204",
    name: "regex-not-read",
    severity: Warning,
    strict: Error,
    title: "An entry of the ignore list is a regex, and the `fp8` method compares names only.",
    why: "The entry lists nothing.",
};

// `re:model.visual.*` lists the tower to llm-compressor, which sees the names of the file, and nothing to vLLM.
// `re:.*visual.*` works for both.
pub(crate) static REGEX_MISSES: LintRule = LintRule {
    code: "Q205",
    name: "regex-misses",
    severity: Warning,
    strict: Error,
    title: "A regex matches module names as the file spells them, and not as vLLM does.",
    why: "vLLM matches from the start of its own names, which begin with `visual.` and `language_model.`.",
};

// A warning, since recipes for a family of models name modules that some of them lack, and GLM's own files the name of a
// module of the training code: the layers that such an entry was to keep have an error of their own (Q202).
pub(crate) static UNKNOWN_ENTRY: LintRule = LintRule {
    code: "Q206",
    name: "entry-matches-nothing",
    severity: Warning,
    strict: Warning,
    title: "An entry of the ignore list names no module of the checkpoint.",
    why: "If it is misspelt, the module it was meant for is read as quantized.",
};

// vLLM refuses: `Detected some but not all shards of ...qkv_proj are quantized` (`fp8`), `Found different
// quantization schemes for the shards` (compressed-tensors).
pub(crate) static FUSED_DISAGREE: LintRule = LintRule {
    code: "Q207",
    name: "fused-parts-disagree",
    severity: Error,
    strict: Error,
    title: "Parts of a fused layer are not all quantized, or not all in the ignore list.",
    why: "A server builds one layer of them and stores it in one way; vLLM refuses to load it.",
};

// Qwen3.6's dense FP8 list has `mlp.gate`, which makes transformers skip `mlp.gate_proj` and run on raw FP8 bytes.
pub(crate) static ENTRY_HITS_QUANTIZED: LintRule = LintRule {
    code: "Q208",
    name: "entry-hits-quantized",
    severity: Warning,
    strict: Warning,
    title: "An entry of the ignore list matches a part of a quantized module's name.",
    why: "transformers and SGLang, which compare parts of names, would read the module's codes as weights.",
};

pub(crate) static BAD_ENTRY: LintRule = LintRule {
    code: "Q209",
    name: "bad-entry",
    severity: Error,
    strict: Error,
    title: "An entry of the ignore list is not text, or is a regex that does not parse or does not end.",
    why: "Nobody can tell which modules it lists.",
};

// vLLM imports `regex` in place of `re`: it takes flags in the middle, `\\p{L}` and `(?<n>…)`, which Python refuses, and
// reads `[[:alpha:]]` as a class, which is `[`, `:` and letters before a `]` to Python.
pub(crate) static READERS_DIFFER: LintRule = LintRule {
    code: "Q212",
    name: "regex-readers-differ",
    severity: Warning,
    strict: Error,
    title: "A regex of the ignore list means something else to Python's `re` than to vLLM.",
    why: "transformers, SGLang and llm-compressor match with `re`: they list other modules, or fail.",
};

/// Checks the ignore list. Entries that cannot be read (Q209) were found when it was.
pub(crate) fn check(subject: &Subject<'_, '_>, findings: &mut Vec<Finding>) {
    listed_but_quantized(subject, findings);
    let asks_for_routers = subject.checkpoint.model.asks_for_routers();
    let mut uncovered: BTreeSet<&str> = subject
        .modules
        .iter()
        .filter(|_| subject.declared.ignored.is_whole())
        .filter(|module| module.kind != LayerKind::Router || asks_for_routers)
        // vLLM merges these into a layer in BF16, which asks no list: DeepSeek's files have neither list nor codes for them.
        .filter(|module| subject.checkpoint.model.part(module.name) != Some(Part::Indexer))
        .filter(|module| {
            module.is(WeightState::Unquantized)
                && subject.declared.form(module.name, module.kind).is_some()
                && !is_listed_as_stack(subject, module)
        })
        .map(|module| module.name)
        .collect();
    let names = KnownNames::of(subject);
    for entry in &subject.declared.ignored.entries {
        futile(entry, &names, &mut uncovered, findings);
        readers_differ(entry, &names, findings);
    }
    for name in uncovered {
        let message = format!("{} is not quantized, and the ignore list does not name it", shown(name));
        let finding = Finding::new(&UNLISTED_PLAIN, message).config(&subject.declared.ignored.pointer).tensor(name);
        findings.push(finding.help("add its full name to the ignore list"));
    }
    fused_parts(subject, findings);
    other_readers(subject, findings);
}

/// Reports whether the list has a stack of experts under the name of its tensor, and nothing is known of the stack.
// Which name a server asks for is then not known either.
fn is_listed_as_stack(subject: &Subject<'_, '_>, module: &Module<'_>) -> bool {
    let stack = module.weight.filter(|_| module.kind == LayerKind::Experts).map(Tensor::target_name);
    stack.is_some_and(|stack| subject.checkpoint.model.stack(stack).is_none() && subject.declared.ignored.lists(stack))
}

fn listed_but_quantized(subject: &Subject<'_, '_>, findings: &mut Vec<Finding>) {
    for module in
        subject.modules.iter().filter(|module| module.is(WeightState::Quantized) && is_quantizable(module.kind))
    {
        if subject.declared.ignored.lists(module.name) {
            let message = format!("{} is in the ignore list and is quantized", shown(module.name));
            let finding = Finding::new(&LISTED_QUANTIZED, message);
            findings.push(finding.config(&subject.declared.ignored.pointer).tensor(module.name));
        }
    }
}

/// The names that an entry may mean.
struct KnownNames<'a> {
    /// Names as the file spells them.
    file: BTreeSet<&'a str>,
    /// Names as vLLM spells them.
    served: BTreeSet<String>,
    model: &'a Model,
}

impl<'a> KnownNames<'a> {
    fn of(subject: &Subject<'_, 'a>) -> Self {
        let mut file = BTreeSet::new();
        for tensor in &subject.checkpoint.tensors {
            file.insert(tensor.module());
            file.insert(tensor.target_name());
            file.extend(expert_stack(tensor.module()));
        }
        let model = &subject.checkpoint.model;
        let mut served: BTreeSet<String> = file.iter().map(|name| model.served_name(name).into_owned()).collect();
        let format = subject.declared.method.into();
        // Of stacked experts vLLM asks for the module of all, or for the layers of the first.
        let known = file.iter().filter_map(|name| model.stack(name)).map(|(_, names)| names.experts);
        let kept = subject.checkpoint.tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Experts);
        let kept = kept.map(|tensor| model.experts_of_stack(&tensor.name).into_owned());
        let experts: Vec<String> = known.chain(kept).collect();
        let of_first = |experts: &String| layers_of_first_expert(experts);
        let stacked: BTreeSet<String> = experts.iter().flat_map(of_first).chain(experts.iter().cloned()).collect();
        let names = file.iter().copied().chain(stacked.iter().map(String::as_str));
        let asked = names.filter_map(|name| model.asked_name(name, format));
        let asked = asked.chain(file.iter().filter_map(|name| model.asked_for_next_tokens(name, format)));
        let lacking = file.iter().flat_map(|name| model.lacking_parts(name, format, |part| file.contains(part)));
        served.extend(stacked.iter().map(|name| model.served_name(name).into_owned()));
        served.extend(asked.chain(lacking).map(|name| model.served_name(&name).into_owned()));
        // A tied head has no tensor, and every list may name it, as Qwen's do.
        served.insert(model.served_name("lm_head").into_owned());
        Self { file, served, model }
    }

    /// Reports whether the name is a fused one whose parts are there under their own names.
    // vLLM 0.26 and SGLang take fused names in the list.
    fn is_fused(&self, name: &str) -> bool {
        let (parent, _) = models::split_name(name);
        let is_here = |part: &String| self.served.contains(&format!("{parent}.{part}"));
        self.model.fused_as(name).is_some_and(|fused| fused.parts.iter().chain(&fused.on_disk_as).any(is_here))
    }
}

/// Reports an entry that lists nothing, and takes out of `uncovered` the modules that it was meant for.
fn futile(entry: &IgnoreEntry, names: &KnownNames<'_>, uncovered: &mut BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let Some(Futile { rule, what, severity }) = why_futile(entry, names) else { return };
    let exposed: Vec<&str> = uncovered.iter().copied().filter(|module| is_meant(names.model, entry, module)).collect();
    // One finding for the entry and what it fails to list, instead of one more for each of a hundred layers.
    uncovered.retain(|module| !is_meant(names.model, entry, module));
    let finding = Finding::new(rule, format!("{} {what}", shown(&entry.text))).config(&entry.pointer);
    findings.push(if !exposed.is_empty() {
        let sample: Sample = exposed.iter().collect();
        let layers = count(exposed.len(), "layer");
        let message = format!("{}; {layers} would be read as quantized: {sample}", finding.message);
        Finding { message, ..finding }.severity(Error).help("list the full names")
    } else {
        finding.severity(severity)
    });
}

/// Reports a regex that Python's `re` refuses, or by which it takes other modules than vLLM.
fn readers_differ(entry: &IgnoreEntry, names: &KnownNames<'_>, findings: &mut Vec<Finding>) {
    let EntryReading::Regex(regex) = &entry.reading else { return };
    let what = match &regex.reference {
        ReferenceReading::Same => return,
        ReferenceReading::Refused(reason) => format!("is read by vLLM and by nobody else: {reason}"),
        ReferenceReading::Other(reference) => {
            let all = names.served.iter().map(String::as_str).chain(names.file.iter().copied());
            let mut differing = all.filter(|name| is_match(&regex.served, name) != is_match(reference, name));
            let Some(name) = differing.next() else { return };
            let (takes, not) =
                if is_match(reference, name) { ("Python's `re`", "vLLM") } else { ("vLLM", "Python's `re`") };
            format!("matches {} for {takes} and not for {not}", shown(name))
        }
    };
    let finding = Finding::new(&READERS_DIFFER, format!("{} {what}", shown(&entry.text))).config(&entry.pointer);
    findings.push(finding.help("write it so that Python's `re` reads it, or list the full names"));
}

/// The rule that an entry breaks which lists nothing, and how.
struct Futile {
    rule: &'static LintRule,
    what: &'static str,
    /// The weight of it where no layer is exposed.
    severity: Severity,
}

/// Returns the rule that an entry breaks because it lists nothing; `None` for an entry that lists something.
fn why_futile(entry: &IgnoreEntry, names: &KnownNames<'_>) -> Option<Futile> {
    const MISSES: &str =
        "matches the file's names, and vLLM matches its own, which begin with `visual.` or `language_model.`";
    let futile = |rule: &'static LintRule, what| Some(Futile { rule, what, severity: rule.severity });
    let unknown = || futile(&UNKNOWN_ENTRY, "names no module");
    let means_some = || names.file.iter().any(|module| is_meant(names.model, entry, module));
    match &entry.reading {
        EntryReading::Name(name) if names.served.contains(name) || names.is_fused(name) => None,
        EntryReading::Name(_) if names.file.iter().any(|module| is_beginning(names.model, entry, module)) => {
            futile(&PREFIX_ENTRY, "is a prefix of module names, and vLLM compares whole names")
        }
        // transformers compares the ends of names: MiniMax-M2 lists its routers as `gate`.
        EntryReading::Name(_) if means_some() => {
            let what = "is a part of module names, and vLLM compares whole names";
            Some(Futile { rule: &PREFIX_ENTRY, what, severity: Note })
        }
        EntryReading::Name(_) => unknown(),
        EntryReading::Part(_) if names.served.iter().any(|name| entry.reading.is_part_of(name)) => None,
        EntryReading::Part(_) => unknown(),
        EntryReading::RegexAsName(_) => futile(&REGEX_ENTRY, "is read as a name, not as a regex"),
        EntryReading::Regex(regex) if names.served.iter().any(|name| is_match(&regex.served, name)) => None,
        EntryReading::Regex(_) if means_some() => futile(&REGEX_MISSES, MISSES),
        // A regex of a recipe for several models may name what this one lacks, such as a router.
        EntryReading::Regex(_) => unknown().map(|futile| Futile { severity: Note, ..futile }),
    }
}

/// Reports whether the entry is the beginning of a module's name, as the file, vLLM or transformers spells it.
fn is_beginning(model: &Model, entry: &IgnoreEntry, module: &str) -> bool {
    let EntryReading::Name(name) = &entry.reading else { return false };
    // transformers builds `model.vision_tower` of what a file calls `vision_tower`.
    let inner = entry.text.strip_prefix("model.");
    is_dotted_prefix(&entry.text, module)
        || is_dotted_prefix(name, &model.served_name(module))
        || inner.is_some_and(|inner| is_dotted_prefix(inner, module))
}

/// Reports whether the entry was meant for the module, here as the file spells it.
fn is_meant(model: &Model, entry: &IgnoreEntry, module: &str) -> bool {
    match &entry.reading {
        EntryReading::Name(_) => {
            is_beginning(model, entry, module) || format!(".{module}.").contains(&format!(".{}.", entry.text))
        }
        EntryReading::Part(_) => entry.reading.is_part_of(&model.served_name(module)),
        EntryReading::Regex(regex) => is_match(&regex.served, module),
        EntryReading::RegexAsName(Some(regex)) => {
            is_match(regex, module) || is_match(regex, &model.served_name(module))
        }
        EntryReading::RegexAsName(None) => false,
    }
}

/// Matches a regex; one that gives up, which was reported when it was read, matches nothing.
fn is_match(regex: &Pattern, name: &str) -> bool {
    regex.matches(name, LayerKind::Other).unwrap_or(false)
}

/// A part of a fused layer.
struct FusedPart<'a> {
    name: &'a str,
    is_quantized: bool,
    /// The form that config.json declares of it.
    declared: Option<DeclaredForm>,
}

/// Reports fused layers whose parts are not all stored and declared alike.
fn fused_parts(subject: &Subject<'_, '_>, findings: &mut Vec<Finding>) {
    let mut layers: BTreeMap<(&str, &str), Vec<FusedPart<'_>>> = BTreeMap::new();
    for module in subject.modules.iter().filter(|module| module.stored().is_some()) {
        let (parent, _) = models::split_name(module.name);
        if let Some(fused) = subject.checkpoint.model.fused(module.name) {
            let declared = subject.declared.form(module.name, module.kind);
            let part = FusedPart { name: module.name, is_quantized: module.is(WeightState::Quantized), declared };
            layers.entry((parent, &fused.layer)).or_default().push(part);
        }
    }
    for parts in layers.values() {
        let first = &parts[0];
        let differs =
            |part: &&FusedPart<'_>| part.is_quantized != first.is_quantized || part.declared != first.declared;
        if let Some(other) = parts.iter().find(differs) {
            let says = |part: &FusedPart<'_>| if part.is_quantized { "quantized" } else { "not quantized" };
            let how = match (first.is_quantized == other.is_quantized, first.declared, other.declared) {
                (false, ..) => format!("the first is {}, the second {}", says(first), says(other)),
                (true, Some(_), Some(_)) => "config.json declares them differently".to_owned(),
                (true, ..) => "config.json lists only one of them".to_owned(),
            };
            let message =
                format!("{} and {} are parts of one fused layer, and {how}", shown(first.name), shown(other.name));
            findings.push(Finding::new(&FUSED_DISAGREE, message).tensor(first.name));
        }
    }
}

/// Reports entries that hit a quantized module in servers which compare parts of names.
fn other_readers(subject: &Subject<'_, '_>, findings: &mut Vec<Finding>) {
    if subject.declared.method != QuantMethod::Fp8 {
        return;
    }
    let quantized: Vec<&str> =
        subject.modules.iter().filter(|module| module.is(WeightState::Quantized)).map(|module| module.name).collect();
    for entry in subject.declared.ignored.entries.iter().filter(|entry| matches!(entry.reading, EntryReading::Name(_)))
    {
        let text = entry.text.as_str();
        // transformers uses `re.match(entry)` and `endswith`, SGLang compares between dots, anywhere. The list of a
        // dense Qwen3.6 has `mlp.gate`, which hits `mlp.gate_proj` this way.
        let hit = |name: &&&str| {
            (name.starts_with(text) || name.ends_with(text) || format!(".{name}.").contains(&format!(".{text}.")))
                && !subject.declared.ignored.lists(name)
        };
        if let Some(module) = quantized.iter().find(hit) {
            let message =
                format!("{} matches a part of the name of {}, which is quantized", shown(text), shown(module));
            findings.push(Finding::new(&ENTRY_HITS_QUANTIZED, message).config(&entry.pointer).tensor(module));
        }
    }
}

/// Reports whether `prefix` ends at a dot of `name` or at its end.
fn is_dotted_prefix(prefix: &str, name: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotted_prefix_ends_at_a_dot_or_at_the_end() {
        assert!(is_dotted_prefix("a.b", "a.b.c") && is_dotted_prefix("a.b", "a.b") && !is_dotted_prefix("a.b", "a.bc"));
    }
}
