//! The list of what stays against the tensors, as vLLM, SGLang and transformers read it.

use std::collections::{BTreeMap, BTreeSet};

use super::{View, count, is_quantizable};
use crate::check::declared::{Entry, Method, Reads};
use crate::check::finding::Finding;
use crate::check::modules::Stored;
use crate::check::names::{self, expert_stack, is_dotted_prefix, served_name};
use crate::check::rules::{self, Rule, Severity};
use crate::layer::{self, LayerKind};
use crate::shown::{Sample, shown};

pub(super) fn check(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    listed_but_quantized(view, findings);
    let mut uncovered: BTreeSet<&str> = view
        .modules
        .iter()
        .filter(|module| module.is(Stored::Plain) && view.declared.grid(module.name, module.kind).is_some())
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
    for module in view.modules.iter().filter(|module| module.is(Stored::Float8) && is_quantizable(module.kind)) {
        if view.declared.list.lists(module.name) {
            let message = format!("{} is listed as unquantized and is FP8", shown(module.name));
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
        let (parent, last) = layer::split_name(name);
        let merged = names::MERGED.iter().find(|(merged, _)| *merged == last);
        merged.is_some_and(|(_, parts)| parts.iter().any(|part| self.served.contains(&format!("{parent}.{part}"))))
    }
}

/// Reports an entry that lists nothing, and takes out of `uncovered` the modules that it was meant for.
fn futile(entry: &Entry, names: &Names<'_>, uncovered: &mut BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let (rule, meant): (&'static Rule, Box<dyn Fn(&str) -> bool + '_>) = match &entry.reads {
        Reads::Name(name) => {
            if names.served.contains(name) || names.is_merged(name) {
                return;
            }
            let under =
                |module: &str| is_dotted_prefix(&entry.text, module) || is_dotted_prefix(name, &served_name(module));
            if names.file.iter().any(|module| under(module)) {
                (&rules::PREFIX_ENTRY, Box::new(under))
            } else {
                (&rules::UNKNOWN_ENTRY, Box::new(|_| false))
            }
        }
        Reads::RegexAsName(None) => (&rules::REGEX_ENTRY, Box::new(|_| false)),
        Reads::RegexAsName(Some(regex)) => {
            let hit = |module: &str| {
                [module, &served_name(module)].iter().any(|name| regex.matches(name, LayerKind::Other).unwrap_or(false))
            };
            (&rules::REGEX_ENTRY, Box::new(hit))
        }
        Reads::Regex(regex) => {
            let hits = |name: &str| regex.matches(name, LayerKind::Other).unwrap_or(false);
            if names.served.iter().any(|name| hits(name)) {
                return;
            }
            if names.file.iter().any(|name| hits(name)) {
                (&rules::REGEX_MISSES, Box::new(hits))
            } else {
                // A list that serves several models names what this one lacks.
                let message = format!("{} matches nothing", shown(&entry.text));
                let finding = Finding::new(&rules::UNKNOWN_ENTRY, message).config(&entry.pointer);
                findings.push(Finding { severity: Severity::Note, ..finding });
                return;
            }
        }
    };
    let exposed: Vec<&str> = uncovered.iter().copied().filter(|module| meant(module)).collect();
    exposed.iter().for_each(|module| {
        uncovered.remove(module);
    });
    let what = if std::ptr::eq(rule, &rules::UNKNOWN_ENTRY) {
        "names no module"
    } else if std::ptr::eq(rule, &rules::PREFIX_ENTRY) {
        "is no module but a prefix of some, and vLLM compares whole names"
    } else if std::ptr::eq(rule, &rules::REGEX_ENTRY) {
        "is read as a name, not as a regex"
    } else {
        "matches the file's names, and vLLM matches its own, which begin with `visual.` or `language_model.`"
    };
    let mut finding = Finding::new(rule, format!("{} {what}", shown(&entry.text))).config(&entry.pointer);
    if !exposed.is_empty() {
        let sample: Sample = exposed.iter().collect();
        let message = format!(
            "{}; {} would be cast to FP8 without a scale: {sample}",
            finding.message,
            count(exposed.len(), "layer")
        );
        finding = Finding { message, ..finding }.severity(Severity::Error).help("list the full names");
    }
    findings.push(finding);
}

/// Parts of one server layer: all quantized or none, all listed or none.
fn fused_parts(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    let mut layers: BTreeMap<(&str, usize), Vec<(&str, bool, bool)>> = BTreeMap::new();
    for module in view.modules.iter().filter(|module| module.weight.is_some()) {
        let (parent, last) = layer::split_name(module.name);
        if let Some(set) = names::FUSED.iter().position(|set| set.contains(&last)) {
            let wanted = view.declared.grid(module.name, module.kind).is_some();
            layers.entry((parent, set)).or_default().push((module.name, module.is(Stored::Float8), wanted));
        }
    }
    for parts in layers.values() {
        let (first, is_quantized, wanted) = parts[0];
        let other = parts.iter().find(|part| part.1 != is_quantized || part.2 != wanted);
        if let Some((other, other_quantized, _)) = other {
            let says = |quantized| if quantized { "FP8" } else { "not quantized" };
            let how = match is_quantized == *other_quantized {
                true => "config.json lists only one of them".to_owned(),
                false => format!("the first is {}, the second {}", says(is_quantized), says(*other_quantized)),
            };
            let message = format!("{} and {} are one layer to a server, and {how}", shown(first), shown(other));
            findings.push(Finding::new(&rules::FUSED_DISAGREE, message).tensor(first));
        }
    }
}

/// Entries that hit a quantized module in readers which match prefixes.
fn other_readers(view: &View<'_, '_>, findings: &mut Vec<Finding>) {
    if view.declared.method != Method::Fp8 {
        return;
    }
    let quantized: Vec<&str> =
        view.modules.iter().filter(|module| module.is(Stored::Float8)).map(|module| module.name).collect();
    for entry in view.declared.list.entries.iter().filter(|entry| matches!(entry.reads, Reads::Name(_))) {
        let text = entry.text.as_str();
        // transformers: `re.match(entry)` or `endswith`. SGLang: between dots, anywhere.
        let hit = |name: &&&str| {
            (name.starts_with(text) || name.ends_with(text) || format!(".{name}.").contains(&format!(".{text}.")))
                && !view.declared.list.lists(name)
        };
        if let Some(module) = quantized.iter().find(hit) {
            let message =
                format!("{} also hits {}, which is FP8, where names are matched by prefix", shown(text), shown(module));
            findings.push(Finding::new(&rules::ENTRY_HITS_QUANTIZED, message).config(&entry.pointer).tensor(module));
        }
    }
}
