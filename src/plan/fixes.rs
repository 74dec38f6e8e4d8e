//! The lines that a diagnostic asks people to type: patterns that select given modules and no others, and rules that
//! leave them unquantized.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::models::Model;
use crate::recipe::{Dialect, Recipe};

use super::fused;
use super::job::Decision;
use super::planned_input::PlannedInput;

/// Returns the help that leaves these modules, and the other parts of their fused layers, out of `rule`; `decisions` are
/// those of the inputs.
pub(super) fn leave_out(
    recipe: &Recipe,
    model: &Model,
    (inputs, decisions): (&[PlannedInput], &[Decision]),
    rule: usize,
    modules: &[&str],
) -> String {
    let modules = fused::with_fused(model, inputs, modules);
    if let Some(help) = takes_nothing_else(recipe, (inputs, decisions), rule, &modules) {
        return help;
    }
    let is_among = |input: &&PlannedInput| input.quantized().is_some() && modules.contains(&input.module());
    let leave_out = LeaveOut { recipe, rule, count: modules.len(), optional: false };
    match inputs.iter().find(is_among) {
        // In `ignore` they would be left without a rule, which is an error where they are quantized.
        Some(_) => leave_out.by_rule("DEQUANTIZE", &patterns(&modules, inputs)),
        None => leave_out.by_patterns(&patterns(&modules, inputs)),
    }
}

/// Returns the help for a rule that would take nothing if these modules were left out of it; a rule or an `ignore` entry for
/// them would lead to the error that says so.
pub(super) fn takes_nothing_else(
    recipe: &Recipe,
    (inputs, decisions): (&[PlannedInput], &[Decision]),
    rule: usize,
    modules: &[&str],
) -> Option<String> {
    let modules: BTreeSet<&str> = modules.iter().copied().collect();
    let is_taken = |decision: &Decision| decision.rule.is_some_and(|(taker, _)| taker == rule);
    let mut taken = inputs.iter().zip(decisions).filter(|(_, decision)| is_taken(decision));
    // What the source has quantized needs a rule all the same.
    let is_all = taken.all(|(input, _)| input.quantized().is_none() && modules.contains(input.module()));
    let label = &recipe.rules[rule].label;
    is_all.then(|| match recipe.rules.len() {
        1 => format!("{label} takes nothing else: `targets` has to name other layers"),
        _ => format!("{label} takes nothing else: leave the rule out"),
    })
}

/// Returns the help that leaves `count` modules, which these patterns match, out of `rule`; `optional` allows patterns
/// that match nothing.
pub(super) fn leave_out_patterns(
    recipe: &Recipe,
    rule: usize,
    count: usize,
    patterns: &[String],
    optional: bool,
) -> String {
    LeaveOut { recipe, rule, count, optional }.by_patterns(patterns)
}

/// Layers that a rule is to leave out.
struct LeaveOut<'a> {
    recipe: &'a Recipe,
    rule: usize,
    count: usize,
    /// Allows patterns that match nothing.
    optional: bool,
}

impl LeaveOut<'_> {
    fn these(&self) -> &'static str {
        if self.count == 1 { "it" } else { "them" }
    }

    fn by_patterns(&self, patterns: &[String]) -> String {
        // With a single rule, `ignore` says the same in every form of a recipe.
        if self.recipe.rules.len() == 1 || self.recipe.dialect == Dialect::LlmCompressor {
            return format!("to leave {} unquantized, add to `ignore`: {}", self.these(), list(patterns));
        }
        self.by_rule("PASSTHROUGH", patterns)
    }

    fn by_rule(&self, scheme: &str, patterns: &[String]) -> String {
        let (recipe, list) = (self.recipe, list(patterns));
        let rule = &recipe.rules[self.rule].label;
        let before = format!("to leave {} unquantized, put this rule before {rule}", self.these());
        match (recipe.text.is_toml(), self.optional) {
            (true, false) => format!("{before}:\n[[rules]]\nscheme = \"{scheme}\"\ntargets = [{list}]"),
            (true, true) => format!("{before}:\n[[rules]]\nscheme = \"{scheme}\"\ntargets = [{list}]\noptional = true"),
            (false, false) => format!("{before}:\n- {{scheme: {scheme}, targets: [{list}]}}"),
            (false, true) => format!("{before}:\n- {{scheme: {scheme}, targets: [{list}], optional: true}}"),
        }
    }
}

fn list(patterns: &[String]) -> String {
    let quoted: Vec<String> = patterns.iter().map(|pattern| quoted(pattern)).collect();
    quoted.join(", ")
}

/// Returns patterns that match these modules and no others of the inputs.
pub(crate) fn patterns(modules: &[&str], inputs: &[PlannedInput]) -> Vec<String> {
    let mut wanted: BTreeMap<Vec<&str>, BTreeSet<Vec<u64>>> = BTreeMap::new();
    let mut plain = Vec::new();
    for module in modules {
        if modules.len() > 1 {
            let (words, numbers) = take_apart(module);
            wanted.entry(words).or_default().insert(numbers);
        } else {
            plain.push((*module).to_owned());
        }
    }
    let mut there: BTreeMap<Vec<&str>, BTreeSet<Vec<u64>>> = BTreeMap::new();
    for tensor in inputs {
        let (words, numbers) = take_apart(tensor.target_name());
        if wanted.contains_key(&words) {
            there.entry(words).or_default().insert(numbers);
        }
    }
    for (words, wanted) in &wanted {
        let nothing = BTreeSet::new();
        plain.extend(of_one_form(words, wanted, there.get(words).unwrap_or(&nothing)));
    }
    plain
}

/// Returns a pattern in quotes that YAML and TOML both read.
pub(crate) fn quoted(pattern: &str) -> String {
    if pattern.contains('\'') || pattern.contains(char::is_control) {
        serde_json::Value::from(pattern).to_string()
    } else {
        format!("'{pattern}'")
    }
}

/// Returns patterns for names that have the same words and these numbers.
fn of_one_form(words: &[&str], wanted: &BTreeSet<Vec<u64>>, there: &BTreeSet<Vec<u64>>) -> Vec<String> {
    let slots = words.iter().filter(|word| word.is_empty()).count();
    // After so many numbers that are spelt out, any others are wanted.
    let spelt = (0..slots)
        .find(|&spelt| {
            let starts: BTreeSet<&[u64]> = wanted.iter().map(|numbers| &numbers[..spelt]).collect();
            there.iter().filter(|numbers| starts.contains(&numbers[..spelt])).all(|numbers| wanted.contains(numbers))
        })
        .unwrap_or(slots);
    if spelt == slots && (slots == 0 || wanted.len() == 1) {
        return wanted.iter().map(|numbers| put_together(words, numbers, str::to_owned)).collect();
    }
    let mut texts: BTreeMap<&[u64], Vec<String>> = BTreeMap::new();
    for numbers in wanted {
        let (last, before) =
            numbers[..spelt].split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
        let lasts = texts.entry(before).or_default();
        lasts.extend(last.map(u64::to_string));
        lasts.dedup();
    }
    texts
        .into_iter()
        .map(|(before, lasts)| {
            let mut numbers: Vec<String> = before.iter().map(u64::to_string).collect();
            match &lasts[..] {
                [] => {}
                [only] => numbers.push(only.clone()),
                several => numbers.push(format!("({})", several.join("|"))),
            }
            numbers.resize(slots, r"\d+".to_owned());
            format!("re:{}$", put_together(words, &numbers, regex::escape))
        })
        .collect()
}

/// Splits a name at its dots into words, empty where a number stands, and the numbers.
fn take_apart(name: &str) -> (Vec<&str>, Vec<u64>) {
    let mut numbers = Vec::new();
    let words = name.split('.').map(|part| match part.parse::<u64>() {
        // A sign or a leading zero would not come back.
        Ok(number) if number.to_string() == part => {
            numbers.push(number);
            ""
        }
        _ => part,
    });
    (words.collect(), numbers)
}

fn put_together(words: &[&str], numbers: &[impl ToString], spell: impl Fn(&str) -> String) -> String {
    let mut numbers = numbers.iter();
    let parts: Vec<String> =
        words
            .iter()
            .map(|word| {
                if word.is_empty() { numbers.next().map_or_else(String::new, ToString::to_string) } else { spell(word) }
            })
            .collect();
    parts.join(&spell("."))
}

/// Returns the distinct modules of these inputs, in their order.
pub(super) fn modules<'a>(tensors: impl IntoIterator<Item = &'a PlannedInput>) -> Vec<&'a str> {
    let mut modules: Vec<&str> = tensors.into_iter().map(PlannedInput::target_name).collect();
    modules.dedup();
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str], wanted: &[&str]) -> Vec<String> {
        let (words, _) = take_apart(wanted[0]);
        let numbers = |names: &[&str]| names.iter().map(|name| take_apart(name).1).collect();
        of_one_form(&words, &numbers(wanted), &numbers(names))
    }

    #[test]
    fn patterns_are_as_short_as_they_can_be() {
        let layers = ["a.0.b", "a.1.b", "a.2.b"];
        assert_eq!(of(&layers, &layers), [r"re:a\.\d+\.b$"]);
        assert_eq!(of(&layers, &layers[1..]), [r"re:a\.(1|2)\.b$"]);
        assert_eq!(of(&layers, &layers[..1]), ["a.0.b"]);
        assert_eq!(of(&["head"], &["head"]), ["head"]);
        let experts = ["a.0.e.0.b", "a.0.e.1.b", "a.1.e.0.b", "a.1.e.1.b"];
        assert_eq!(of(&experts, &experts), [r"re:a\.\d+\.e\.\d+\.b$"]);
        assert_eq!(of(&experts, &experts[2..]), [r"re:a\.1\.e\.\d+\.b$"]);
        assert_eq!(of(&experts, &experts[1..3]), [r"re:a\.0\.e\.1\.b$", r"re:a\.1\.e\.0\.b$"]);
        assert_eq!(of(&experts, &experts[1..]), [r"re:a\.0\.e\.1\.b$", r"re:a\.1\.e\.(0|1)\.b$"]);
        assert_eq!(quoted("a'b\n"), r#""a'b\n""#);
    }
}
