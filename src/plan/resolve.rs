//! Resolves which rule takes which input: the first match wins, and a pattern that matches nothing is reported.

use std::collections::BTreeSet;

use crate::checkpoint::models::{LayerKind, Model};
use crate::checkpoint::pattern::{MatchError, Pattern};
use crate::checkpoint::text::count;
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{Dialect, Located, MisfitPolicy, Recipe, Rule};

use super::job::Decision;
use super::misfits::{self, Misfit, Misfits};
use super::planned_input::PlannedInput;
use super::unmatched::PatternScope;
use super::{alternatives, unmatched};

/// The verdict of one rule on one input, other rules aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// The rule takes the tensor by this one of its targets.
    Takes(usize),
    /// A target matches, and so does this one of the rule's `ignore` patterns.
    Ignored(usize),
    /// This target matches by name, but does not quantize a layer of this kind.
    WrongKind(usize),
    /// No target matches.
    NoTarget,
}

/// Returns the verdict of `rule` on `input`, other rules aside.
///
/// # Errors
/// A regex that gives up on this name.
pub fn judge(rule: &Rule, input: &PlannedInput) -> Result<RuleVerdict, MatchError> {
    let Some(target) = first_match(&rule.targets, input)? else {
        return Ok(RuleVerdict::NoTarget);
    };
    if let Some(pattern) = first_match(&rule.ignore, input)? {
        return Ok(RuleVerdict::Ignored(pattern));
    }
    if rule.scheme.is_none() {
        return Ok(RuleVerdict::Takes(target));
    }
    // Another target may be more explicit: `["re:.*", "lm_head"]` names `lm_head`.
    for (index, target) in rule.targets.iter().enumerate() {
        if quantizes(rule.linear_is_every_part, &target.value, input)
            && target.value.matches(input.target_name(), input.kind())?
        {
            return Ok(RuleVerdict::Takes(index));
        }
    }
    Ok(RuleVerdict::WrongKind(target))
}

/// The decisions about all inputs.
pub(super) struct Resolved {
    /// One per input, in their order.
    pub(super) decisions: Vec<Decision>,
    /// What each rule leaves to the rules after it, since its scheme does not fit it.
    pub(super) misfits: Vec<Misfits>,
}

impl Resolved {
    /// Returns the first rule that leaves this input to the rules after it, and why.
    pub(super) fn first_misfit(&self, input: usize) -> Option<(usize, Misfit)> {
        let mut rules = self.misfits.iter().enumerate();
        rules.find_map(|(rule, misfits)| Some((rule, misfits.get(&input)?.clone())))
    }
}

/// Decides every tensor, in the order of the checkpoint.
pub(super) fn resolve(
    recipe: &Recipe,
    model: &Model,
    inputs: &[PlannedInput],
    diagnostics: &mut Vec<Diagnostic>,
) -> Resolved {
    let mut resolved = Resolved { decisions: Vec::with_capacity(inputs.len()), misfits: Vec::new() };
    for rule in &recipe.rules {
        let is_taken = |input: &PlannedInput| Ok(matches!(judge(rule, input)?, RuleVerdict::Takes(_)));
        match misfits::of_rule(rule, model, inputs, is_taken) {
            Ok(misfits) => resolved.misfits.push(misfits),
            Err(error) => {
                diagnostics.push(gives_up(rule, &error));
                return resolved;
            }
        }
    }
    let mut usage: Vec<RuleUsage> = recipe.rules.iter().map(RuleUsage::new).collect();
    for (number, input) in inputs.iter().enumerate() {
        let mut decision = Decision { rule: None };
        for (index, rule) in recipe.rules.iter().enumerate() {
            if let Err(error) = usage[index].note(rule, number, input) {
                diagnostics.push(gives_up(rule, &error));
                return resolved;
            }
            match judge(rule, input) {
                Ok(RuleVerdict::Takes(_)) if resolved.misfits[index].contains_key(&number) => usage[index].misfits += 1,
                Ok(RuleVerdict::Takes(target)) => {
                    usage[index].would_take += 1;
                    if decision.rule.is_none() {
                        usage[index].took += 1;
                        decision.rule = Some((index, target));
                    } else {
                        usage[index].shadowed_by.extend(decision.rule.map(|(earlier, _)| earlier));
                    }
                }
                Ok(RuleVerdict::Ignored(_)) => usage[index].ignored += 1,
                Ok(RuleVerdict::WrongKind(_) | RuleVerdict::NoTarget) => {}
                Err(error) => {
                    diagnostics.push(gives_up(rule, &error));
                    return resolved;
                }
            }
        }
        resolved.decisions.push(decision);
    }
    // All rules are asked about every input, not only until one takes it: a rule whose inputs all went to earlier rules
    // can then be told from one that matches nothing.
    let takes_any = recipe.rules.iter().zip(&usage).any(|(rule, usage)| rule.scheme.is_some() && usage.took > 0);
    for (rule, usage) in recipe.rules.iter().zip(&usage) {
        // A result that is a copy after all is an error of each rule that was to quantize.
        let is_error = rule.scheme.is_some() && !rule.optional && !takes_any;
        let idle = if is_error { Level::Error } else { Level::Warning };
        usage.report(rule, &PatternScope { recipe, model, inputs }, idle, diagnostics);
    }
    resolved
}

/// A regex of the rule that takes too long, at the place where it stands.
fn gives_up(rule: &Rule, error: &MatchError) -> Diagnostic {
    let mut patterns = rule.targets.iter().chain(&rule.ignore);
    let span = patterns.find(|pattern| pattern.value.text() == error.pattern).map_or(&rule.span, |found| &found.span);
    Diagnostic::error(format!("{}: {error}", rule.label)).at(span.clone())
}

/// Reports whether a target of a quantizing rule quantizes an input of this kind when it matches by name;
/// `linear_is_every_part` as rules have it.
///
/// Classes and exact names mean what they say; a regex or glob takes the modules that are linear layers in the
/// reference too (the head among them), so that `re:.*layers.*` leaves norms, routers and embeddings alone.
pub(super) fn quantizes(linear_is_every_part: bool, target: &Pattern, input: &PlannedInput) -> bool {
    match target {
        Pattern::Exact(_) => input.parameter() != "bias",
        // Towers, projectors and other parts that servers build unquantized are linear layers too: who wants them names
        // them. What the source has in FP8 a server reads.
        Pattern::Class(LayerKind::Linear) => {
            linear_is_every_part || input.layer.is_quantizable() || input.quantized().is_some()
        }
        Pattern::Class(_) => true,
        // What is quantized in the source is a weight, stacks of experts included.
        Pattern::Regex { .. } | Pattern::Glob { .. } => {
            matches!(input.kind(), LayerKind::Linear | LayerKind::LmHead) || input.quantized().is_some()
        }
    }
}

fn first_match(patterns: &[Located<Pattern>], input: &PlannedInput) -> Result<Option<usize>, MatchError> {
    for (index, pattern) in patterns.iter().enumerate() {
        if pattern.value.matches(input.target_name(), input.kind())? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// The matches of a rule and its patterns in the checkpoint.
struct RuleUsage {
    targets: Vec<PatternUsage>,
    ignore: Vec<PatternUsage>,
    would_take: usize,
    took: usize,
    shadowed_by: BTreeSet<usize>,
    ignored: usize,
    misfits: usize,
}

/// The matches of one pattern: inputs by name, and the number of the first that it cannot quantize.
#[derive(Clone, Default)]
struct PatternUsage {
    by_name: usize,
    useful: usize,
    wrong_kind: Option<usize>,
}

impl RuleUsage {
    fn new(rule: &Rule) -> Self {
        Self {
            targets: vec![PatternUsage::default(); rule.targets.len()],
            ignore: vec![PatternUsage::default(); rule.ignore.len()],
            would_take: 0,
            took: 0,
            shadowed_by: BTreeSet::new(),
            ignored: 0,
            misfits: 0,
        }
    }

    fn note(&mut self, rule: &Rule, number: usize, input: &PlannedInput) -> Result<(), MatchError> {
        let (name, kind) = (input.target_name(), input.kind());
        for (met, pattern) in self.targets.iter_mut().zip(&rule.targets) {
            if pattern.value.matches(name, kind)? {
                met.by_name += 1;
                if rule.scheme.is_none() || quantizes(rule.linear_is_every_part, &pattern.value, input) {
                    met.useful += 1;
                } else {
                    met.wrong_kind.get_or_insert(number);
                }
            }
        }
        for (met, pattern) in self.ignore.iter_mut().zip(&rule.ignore) {
            if pattern.value.matches(name, kind)? {
                met.by_name += 1;
                met.useful += 1;
            }
        }
        Ok(())
    }

    /// `idle` is how much it weighs that the rule takes nothing.
    fn report(&self, rule: &Rule, scope: &PatternScope<'_>, idle: Level, diagnostics: &mut Vec<Diagnostic>) {
        let &PatternScope { recipe, inputs, .. } = scope;
        let unmatched = match recipe.dialect {
            Dialect::Native => Level::Error,
            Dialect::LlmCompressor => Level::Warning,
        };
        if !rule.optional {
            let targets = self.targets.iter().zip(&rule.targets).map(|met| (met, unmatched.min(idle)));
            let ignore = self.ignore.iter().zip(&rule.ignore).map(|met| (met, unmatched));
            for ((met, pattern), level) in targets.chain(ignore) {
                if met.useful == 0 && !(self.may_lack_head(rule, pattern) && unmatched::names_head(&pattern.value)) {
                    let diagnostic = match met.wrong_kind {
                        Some(first) => scope.matches_other_kinds(pattern, &inputs[first], met.by_name),
                        None => scope.matches_nothing(pattern),
                    };
                    diagnostics.push(Diagnostic { level, ..diagnostic });
                } else if met.by_name > 0 {
                    diagnostics.extend(alternatives::warnings(pattern, inputs));
                }
            }
        }
        let is_left_to = |&rule: &usize| recipe.rules[rule].on_misfit == MisfitPolicy::Leave;
        if self.took > 0 || rule.optional && self.would_take > 0 && self.shadowed_by.iter().all(is_left_to) {
            return;
        }
        if self.would_take > 0 {
            let earlier: Vec<&str> = self.shadowed_by.iter().map(|&rule| recipe.rules[rule].label.as_str()).collect();
            diagnostics.push(
                Diagnostic {
                    level: idle,
                    ..Diagnostic::warning(format!(
                        "{} takes nothing: {} went to {}",
                        rule.label,
                        if self.would_take == 1 {
                            "its one tensor".to_owned()
                        } else {
                            format!("all of its {}", count(self.would_take, "tensor"))
                        },
                        earlier.join(" and "),
                    ))
                }
                .at(rule.span.clone())
                .help("the first rule that matches decides: put the narrower rule first"),
            );
        } else if self.misfits > 0 {
            let what = match self.misfits {
                1 => "its one tensor".to_owned(),
                misfits => format!("any of its {}", count(misfits, "tensor")),
            };
            diagnostics.push(
                Diagnostic {
                    level: idle,
                    ..Diagnostic::warning(format!("{} takes nothing: its scheme does not fit {what}", rule.label))
                }
                .at(rule.span.clone())
                .help(misfits::way_out(rule, recipe.format)),
            );
        } else if self.ignored > 0 {
            let mut ignoring = self.ignore.iter().zip(&rule.ignore).filter(|(met, _)| met.by_name > 0);
            let at = ignoring.next().map_or(&rule.span, |(_, pattern)| &pattern.span);
            diagnostics.push(
                Diagnostic {
                    level: idle,
                    ..Diagnostic::warning(format!(
                        "{} takes nothing: its `ignore` leaves out {}",
                        rule.label,
                        if self.ignored == 1 {
                            "its one tensor".to_owned()
                        } else {
                            format!("all of its {}", count(self.ignored, "tensor"))
                        },
                    ))
                }
                .at(at.clone())
                .help("`optional: true` on the rule allows that it takes nothing"),
            );
        }
    }

    /// Reports whether a pattern may name `lm_head` where the checkpoint ties it to the embedding and has no such
    /// tensor: a rule may leave it unquantized all the same, but not quantize it.
    fn may_lack_head(&self, rule: &Rule, pattern: &Located<Pattern>) -> bool {
        rule.scheme.is_none() || rule.ignore.iter().any(|ignored| ignored.span == pattern.span)
    }
}
