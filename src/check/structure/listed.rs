//! The list of what stays against the tensors, as vLLM, SGLang and transformers read it.

use std::collections::{BTreeMap, BTreeSet};

use super::{View, count, is_quantizable};
use crate::declared::{Entry, Form, Method, Reads};
use crate::finding::Finding;
use crate::modules::Stored;
use crate::names::is_dotted_prefix;
use crate::rules::{self, Rule, Severity};
use qwen_fp8_checkpoint::models::{self, LayerKind, expert_stack, served_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::{Sample, shown};

pub(super) fn check(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    listed_but_quantized(view, findings);
    let mut uncovered: BTreeSet<&str> = view
        .modules
        .iter()
        .filter(|module| module.is(Stored::Plain) && view.declared.form(module.name, module.kind).is_some())
        .map(|module| module.name)
        .collect();
    let names = Names::of(view);
    for entry in &view.declared.list.entries {
        futile(entry, &names, &mut uncovered, findings);
    }
    for name in uncovered {
        let message = format!("{} is not quantized, and nothing in config.json says so", shown(name));
        let finding = Finding::new(&rules::UNLISTED_PLAIN, message).config(&view.declared.list.pointer).tensor(name);
        findings.push(finding.help("add its full name to the list"));
    }
    fused_parts(view, findings);
    other_readers(view, findings);
}

fn listed_but_quantized(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    for module in view.modules.iter().filter(|module| module.is(Stored::Coded) && is_quantizable(module.kind)) {
        if view.declared.list.lists(module.name) {
            let message = format!("{} is listed as unquantized and is quantized", shown(module.name));
            let finding = Finding::new(&rules::LISTED_QUANTIZED, message);
            findings.push(finding.config(&view.declared.list.pointer).tensor(module.name));
        }
    }
}

/// All names that an entry may mean.
struct Names<'a> {
    /// As the file spells them.
    file: BTreeSet<&'a str>,
    served: BTreeSet<String>,
}

impl<'a> Names<'a> {
    fn of(view: &View<'_, 'a>) -> Self {
        let mut file = BTreeSet::new();
        for tensor in &view.checkpoint.tensors {
            file.insert(tensor.module());
            file.insert(tensor.target_name());
            file.extend(expert_stack(tensor.module()));
        }
        let mut served: BTreeSet<String> = file.iter().map(|name| served_name(name).into_owned()).collect();
        // A tied head has no tensor, and every list may name it.
        served.insert(served_name("lm_head").into_owned());
        Self { file, served }
    }

    /// Whether the name is that of merged parts that are there under their own names.
    fn is_merged(&self, name: &str) -> bool {
        let (parent, last) = models::split_name(name);
        let merged = models::FUSED_NAMES.iter().find(|(merged, _)| *merged == last);
        merged.is_some_and(|(_, parts)| parts.iter().any(|part| self.served.contains(&format!("{parent}.{part}"))))
    }
}

/// Reports an entry that lists nothing, and takes out of `uncovered` the modules that it was meant for.
fn futile(entry: &Entry, names: &Names<'_>, uncovered: &mut BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let Some((rule, what)) = why_futile(entry, names) else { return };
    let exposed: Vec<&str> = uncovered.iter().copied().filter(|module| is_meant(entry, module)).collect();
    uncovered.retain(|module| !is_meant(entry, module));
    let finding = Finding::new(rule, format!("{} {what}", shown(&entry.text))).config(&entry.pointer);
    findings.push(if !exposed.is_empty() {
        let sample: Sample = exposed.iter().collect();
        let layers = count(exposed.len(), "layer");
        let message = format!("{}; {layers} would be read as quantized: {sample}", finding.message);
        Finding { message, ..finding }.severity(Severity::Error).help("list the full names")
    } else if matches!(entry.reads, Reads::Regex(_)) && std::ptr::eq(rule, &rules::UNKNOWN_ENTRY) {
        // A recipe for several models names what this one lacks.
        finding.severity(Severity::Note)
    } else {
        finding
    });
}

/// The rule that an entry breaks which lists nothing, and how.
fn why_futile(entry: &Entry, names: &Names<'_>) -> Option<(&'static Rule, &'static str)> {
    const UNKNOWN: (&Rule, &str) = (&rules::UNKNOWN_ENTRY, "names no module");
    const MISSES: &str =
        "matches the file's names, and vLLM matches its own, which begin with `visual.` or `language_model.`";
    let means_some = || names.file.iter().any(|module| is_meant(entry, module));
    match &entry.reads {
        Reads::Name(name) if names.served.contains(name) || names.is_merged(name) => None,
        Reads::Name(_) if means_some() => {
            Some((&rules::PREFIX_ENTRY, "is no module but a prefix of some, and vLLM compares whole names"))
        }
        Reads::Name(_) => Some(UNKNOWN),
        Reads::RegexAsName(_) => Some((&rules::REGEX_ENTRY, "is read as a name, not as a regex")),
        Reads::Regex(regex) if names.served.iter().any(|name| is_match(regex, name)) => None,
        Reads::Regex(_) if means_some() => Some((&rules::REGEX_MISSES, MISSES)),
        Reads::Regex(_) => Some(UNKNOWN),
    }
}

/// Whether whoever wrote the entry had the module, here as the file spells it, in mind.
fn is_meant(entry: &Entry, module: &str) -> bool {
    match &entry.reads {
        Reads::Name(name) => is_dotted_prefix(&entry.text, module) || is_dotted_prefix(name, &served_name(module)),
        Reads::Regex(regex) => is_match(regex, module),
        Reads::RegexAsName(Some(regex)) => is_match(regex, module) || is_match(regex, &served_name(module)),
        Reads::RegexAsName(None) => false,
    }
}

/// A regex that gives up is reported where it is read.
fn is_match(regex: &Pattern, name: &str) -> bool {
    regex.matches(name, LayerKind::Other).unwrap_or(false)
}

/// A part of one server layer.
struct Part<'a> {
    name: &'a str,
    is_quantized: bool,
    /// What config.json says of it.
    declared: Option<Form>,
}

/// Parts of one server layer: all quantized or none, all listed or none.
fn fused_parts(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    let mut layers: BTreeMap<(&str, usize), Vec<Part<'_>>> = BTreeMap::new();
    for module in view.modules.iter().filter(|module| module.stored().is_some()) {
        let (parent, last) = models::split_name(module.name);
        if let Some(set) = models::FUSED.iter().position(|set| set.contains(&last)) {
            let declared = view.declared.form(module.name, module.kind);
            let part = Part { name: module.name, is_quantized: module.is(Stored::Coded), declared };
            layers.entry((parent, set)).or_default().push(part);
        }
    }
    for parts in layers.values() {
        let first = &parts[0];
        let differs = |part: &&Part<'_>| part.is_quantized != first.is_quantized || part.declared != first.declared;
        if let Some(other) = parts.iter().find(differs) {
            let says = |part: &Part<'_>| if part.is_quantized { "quantized" } else { "not quantized" };
            let how = match (first.is_quantized == other.is_quantized, first.declared, other.declared) {
                (false, ..) => format!("the first is {}, the second {}", says(first), says(other)),
                (true, Some(_), Some(_)) => "config.json declares them differently".to_owned(),
                (true, ..) => "config.json lists only one of them".to_owned(),
            };
            let message =
                format!("{} and {} are one layer to a server, and {how}", shown(first.name), shown(other.name));
            findings.push(Finding::new(&rules::FUSED_DISAGREE, message).tensor(first.name));
        }
    }
}

/// Entries that hit a quantized module in readers which match prefixes.
fn other_readers(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    if view.declared.method != Method::Fp8 {
        return;
    }
    let quantized: Vec<&str> =
        view.modules.iter().filter(|module| module.is(Stored::Coded)).map(|module| module.name).collect();
    for entry in view.declared.list.entries.iter().filter(|entry| matches!(entry.reads, Reads::Name(_))) {
        let text = entry.text.as_str();
        // transformers: `re.match(entry)` or `endswith`. SGLang: between dots, anywhere.
        let hit = |name: &&&str| {
            (name.starts_with(text) || name.ends_with(text) || format!(".{name}.").contains(&format!(".{text}.")))
                && !view.declared.list.lists(name)
        };
        if let Some(module) = quantized.iter().find(hit) {
            let message = format!(
                "{} also hits {}, which is quantized, where names are matched by prefix",
                shown(text),
                shown(module)
            );
            findings.push(Finding::new(&rules::ENTRY_HITS_QUANTIZED, message).config(&entry.pointer).tensor(module));
        }
    }
}
