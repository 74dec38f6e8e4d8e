//! Warnings about the user's own file of the model's family: patterns in it that take nothing in the checkpoint.

use std::collections::BTreeSet;

use crate::checkpoint::models::catalogue::{
    FamilyFile, NamePattern, PlacedPattern, Takes, added, built_in_patterns, families, keys_of,
};
use crate::checkpoint::models::{Model, split_name, target_name};
use crate::checkpoint::text::{nearest_word, shown, shown_path};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::nearest_names;

use super::planned_input::PlannedInput;
use super::served::Served;

/// The letters by which a class of a file may differ from the one that was meant.
const MISSPELT: usize = 2;

/// The names of a checkpoint that patterns are held against.
struct Names<'a> {
    /// Modules that have a tensor, stacks of experts, and the matrices that these are split into.
    modules: BTreeSet<String>,
    /// Modules that hold those.
    parents: BTreeSet<String>,
    tensors: BTreeSet<&'a str>,
}

/// Returns a warning for each pattern of the user's file that takes nothing.
///
/// Only the file of this model is asked: one that it is like is for other checkpoints. So is what a file that is built in
/// says as well, and a copy of such a file may be corrected in one place.
pub(super) fn check(served: &Served<'_>) -> Vec<Diagnostic> {
    let family = match served.model.families().first() {
        Some(family) if !family.is_built_in => family,
        _ => return nearly_named(served).into_iter().collect(),
    };
    if family.optional {
        return Vec::new();
    }
    let names = Names::of(served);
    let built_in = built_in_patterns(family);
    let is_own = |placed: &&PlacedPattern<'_>| !built_in.contains(&(placed.list(), placed.pattern.text().to_owned()));
    let patterns = family.patterns();
    let missed = patterns.iter().filter(is_own).filter(|placed| !names.are_taken(placed));
    let mut warnings: Vec<Diagnostic> = missed
        .map(|placed| names.advise(placed, warning(served, family, &placed.pointer, placed.pattern.text(), "takes")))
        .collect();
    warnings.extend(fused_of_nothing(served, family, &names));
    warnings.extend(beginnings_of_nothing(served, family, &names));
    warnings
}

/// Warns of a file of the user's that no model is of, as it seems, since its class is nearly that of the checkpoint.
fn nearly_named(served: &Served<'_>) -> Option<Diagnostic> {
    let users = added();
    let classes = served.config.architectures();
    let mut named = users
        .iter()
        .flat_map(|family| family.architectures.iter().enumerate().map(move |(at, class)| (family, at, class)));
    // Classes of two models may differ in one letter as well: the numbers of versions tell them apart, and so does a file.
    let is_real = |class: &str| {
        families().iter().any(|family| family.is_built_in && family.architectures.iter().any(|c| c == class))
    };
    let (family, at, meant, class) = named.find_map(|(family, at, written)| {
        let class = classes.iter().find(|class| {
            strsim::damerau_levenshtein(class, written) <= MISSPELT && digits(class).eq(digits(written))
        })?;
        (!is_real(written)).then_some((family, at, class, written))
    })?;
    let place = place(family, &format!("/architectures/{at}"));
    let what = format!(
        "{} (`architectures`, {place}) is not the class of this checkpoint, and the file says nothing of it",
        shown(class)
    );
    Some(at_models(served, Diagnostic::warning(what)).help(format!("did you mean {}?", shown(meant))))
}

fn digits(class: &str) -> impl Iterator<Item = char> {
    class.chars().filter(char::is_ascii_digit)
}

/// The place in the user's file, as `models/mine.yaml:5`.
fn place(family: &FamilyFile, pointer: &str) -> String {
    let path = shown_path(family.origin.as_ref()).to_string();
    let path = path.trim_matches('`');
    family.lines.get(pointer).map_or_else(|| path.to_owned(), |line| format!("{path}:{line}"))
}

/// The diagnostic at the recipe's own line where it names the folder; else the command line does.
fn at_models(served: &Served<'_>, diagnostic: Diagnostic) -> Diagnostic {
    match &served.recipe.models {
        Some(models) => diagnostic.at(models.span.clone()),
        None => diagnostic,
    }
}

/// The warning of what stands at `pointer` of the family's file.
fn warning(served: &Served<'_>, family: &FamilyFile, pointer: &str, text: &str, verb: &str) -> Diagnostic {
    let place = place(family, pointer);
    let what = format!("{} (`{}`, {place}) {verb} nothing in the checkpoint", shown(text), keys_of(pointer));
    at_models(served, Diagnostic::warning(what))
}

/// What a user can do who means it so.
fn allowed(diagnostic: Diagnostic) -> Diagnostic {
    diagnostic
        .help("`optional: true` in that file allows what takes nothing, where it is for other checkpoints as well")
}

/// Warnings of fused layers none of whose parts is there.
fn fused_of_nothing(served: &Served<'_>, family: &FamilyFile, names: &Names<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (at, fused) in family.fused.iter().enumerate() {
        let holds = |parent: &&String| fused.is_within(parent);
        // Patterns that reach no module are told by themselves.
        if !names.parents.iter().any(|parent| holds(&parent)) {
            continue;
        }
        let is_there = |part: &String, parent: &str| {
            names.modules.contains(&format!("{parent}.{part}")) || parent.is_empty() && names.modules.contains(part)
        };
        let parts = || fused.parts.iter().chain(&fused.on_disk_as);
        if names.parents.iter().filter(holds).any(|parent| parts().any(|part| is_there(part, parent))) {
            continue;
        }
        let text = format!("{}: [{}]", fused.layer, fused.parts.join(", "));
        let mut diagnostic = warning(served, family, &format!("/fused/{at}/parts"), &text, "fuses");
        let last_parts: BTreeSet<&str> = names.modules.iter().map(|module| split_name(module).1).collect();
        for part in &fused.parts {
            if let Some(near) = nearest_word(part, last_parts.iter().copied()) {
                diagnostic = diagnostic.help(format!("did you mean {} for {}?", shown(near), shown(part)));
            }
        }
        warnings.push(allowed(diagnostic));
    }
    warnings
}

/// Warnings of beginnings of names with which no name begins.
fn beginnings_of_nothing(served: &Served<'_>, family: &FamilyFile, names: &Names<'_>) -> Vec<Diagnostic> {
    let mut warnings = Vec::new();
    for (at, served_as) in family.served.iter().enumerate() {
        let beginning = &served_as.on_disk;
        if names.tensors.iter().any(|name| name.starts_with(beginning)) {
            continue;
        }
        let diagnostic = warning(served, family, &format!("/served/{at}/on_disk"), beginning, "begins");
        warnings.push(allowed(names.advise_by_text(beginning.trim_end_matches('.'), diagnostic)));
    }
    warnings
}

impl<'a> Names<'a> {
    fn of(served: &Served<'a>) -> Self {
        let mut names = Self { modules: BTreeSet::new(), parents: BTreeSet::new(), tensors: BTreeSet::new() };
        for input in served.inputs {
            names.add(served.model, input);
        }
        names
    }

    fn add(&mut self, model: &Model, input: &'a PlannedInput) {
        self.tensors.insert(&input.name);
        let stack = input.part_of.as_deref();
        self.tensors.extend(stack);
        for name in [Some(input.name.as_str()), stack].into_iter().flatten() {
            self.add_module(target_name(name));
            self.add_module(split_name(name).0);
            // Where a stack stays whole, some patterns are about the matrices that it would be split into.
            if let Some((known, names)) = model.stack(name) {
                known.holds.iter().for_each(|projection| self.add_module(&names.matrix(0, projection)));
            }
        }
        // A name may be asked for that only the other blocks have.
        let module = input.module();
        let (parent, _) = split_name(module);
        for part in model.fused(module).into_iter().flat_map(|fused| &fused.parts) {
            let sibling = format!("{parent}.{part}");
            if model.may_lack(&sibling) {
                self.add_module(&sibling);
            }
        }
    }

    fn add_module(&mut self, module: &str) {
        if module.is_empty() || !self.modules.insert(module.to_owned()) {
            return;
        }
        let mut below = module;
        loop {
            let (parent, _) = split_name(below);
            if !self.parents.insert(parent.to_owned()) || parent.is_empty() {
                return;
            }
            below = parent;
        }
    }

    /// Reports whether the pattern takes one of the names that it is for.
    fn are_taken(&self, placed: &PlacedPattern<'_>) -> bool {
        self.takes_any(placed.takes, placed.pattern)
    }

    fn takes_any(&self, takes: Takes, pattern: &NamePattern) -> bool {
        match takes {
            Takes::Modules => self.modules.iter().any(|name| pattern.matches(name)),
            Takes::Parents => self.parents.iter().any(|name| pattern.matches(name)),
            Takes::Tensors => self.tensors.iter().any(|name| pattern.matches(name)),
            Takes::Absent => true,
        }
    }

    /// Adds what the pattern may have meant: itself with an end or a word otherwise, else the nearest names.
    fn advise(&self, placed: &PlacedPattern<'_>, diagnostic: Diagnostic) -> Diagnostic {
        let text = placed.pattern.text();
        let meant = self.meant(text).into_iter().find(|text| self.takes_any(placed.takes, &text.clone().into()));
        allowed(match meant {
            Some(meant) => diagnostic.help(format!("did you mean {}?", shown(&meant))),
            None => self.advise_by_text(text.trim_matches(['*', '.']), diagnostic),
        })
    }

    /// Adds the names nearest to the text, each by as many of its last parts as the text has.
    fn advise_by_text(&self, text: &str, diagnostic: Diagnostic) -> Diagnostic {
        let parts = text.split('.').count();
        let tails: BTreeSet<&str> = self.modules.iter().map(|name| tail(name, parts)).collect();
        let tails: Vec<&str> = tails.into_iter().collect();
        match &nearest_names(text, &tails)[..] {
            [] => diagnostic.help("`qwen-fp8 inspect DIR` shows the checkpoint's names"),
            near => {
                let near: Vec<String> = near.iter().map(|name| shown(name).to_string()).collect();
                diagnostic.help(format!("the nearest names end in {}", near.join(", ")))
            }
        }
    }

    /// The texts that may have been meant, the likeliest first.
    fn meant(&self, text: &str) -> Vec<String> {
        let words: BTreeSet<&str> = self.modules.iter().flat_map(|name| name.split('.')).collect();
        let respelt = text.split('.').map(|part| match part.contains('*') || words.contains(part) {
            true => part,
            false => nearest_word(part, words.iter().copied()).unwrap_or(part),
        });
        let respelt = respelt.collect::<Vec<_>>().join(".");
        let with_ends = |text: &str| {
            let (bare, all) = (text.trim_start_matches("**."), text.trim_end_matches(".**"));
            [
                text.to_owned(),
                format!("**.{bare}"),
                format!("{all}.**"),
                format!("**.{}.**", all.trim_start_matches("**.")),
            ]
        };
        with_ends(text).into_iter().skip(1).chain(with_ends(&respelt)).collect()
    }
}

/// The last parts of a name, as many as there are.
fn tail(name: &str, parts: usize) -> &str {
    let dots = name.rmatch_indices('.').nth(parts.saturating_sub(1));
    dots.map_or(name, |(at, _)| &name[at + 1..])
}
