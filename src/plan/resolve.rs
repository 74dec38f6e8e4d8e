//! Which rule takes which tensor: first match wins, and a pattern that matches nothing is said, not swallowed.

use std::collections::BTreeSet;

use crate::checkpoint::models::LayerKind;
use crate::checkpoint::pattern::{MatchError, Pattern};
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{Dialect, Located, Recipe, Rule, nearest};

use super::job::Decision;
use super::planned_input::PlannedInput;

/// What one rule says of one tensor, taken by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule takes the tensor by this one of its targets.
    Takes(usize),
    /// A target matches, and so does this one of the rule's `ignore` patterns.
    Ignored(usize),
    /// This target matches by name, but does not quantize a layer of this kind.
    WrongKind(usize),
    /// No target matches.
    NoTarget,
}

/// What `rule` says of `input`, whatever the rules before it say.
///
/// # Errors
/// A regex that gives up on this name.
pub fn judge(rule: &Rule, input: &PlannedInput) -> Result<Verdict, MatchError> {
    let Some(target) = first_match(&rule.targets, input)? else {
        return Ok(Verdict::NoTarget);
    };
    if let Some(pattern) = first_match(&rule.ignore, input)? {
        return Ok(Verdict::Ignored(pattern));
    }
    if rule.scheme.is_none() {
        return Ok(Verdict::Takes(target));
    }
    // Another target may be more explicit: `["re:.*", "lm_head"]` names `lm_head`.
    for (index, target) in rule.targets.iter().enumerate() {
        if quantizes(&target.value, input) && target.value.matches(input.target_name(), input.kind())? {
            return Ok(Verdict::Takes(index));
        }
    }
    Ok(Verdict::WrongKind(target))
}

/// Decides every tensor, in the order of the checkpoint.
pub(super) fn resolve(recipe: &Recipe, inputs: &[PlannedInput], diagnostics: &mut Vec<Diagnostic>) -> Vec<Decision> {
    let mut usage: Vec<Usage> = recipe.rules.iter().map(Usage::new).collect();
    let mut decisions = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut decision = Decision { rule: None };
        for (index, rule) in recipe.rules.iter().enumerate() {
            if let Err(error) = usage[index].note(rule, input) {
                diagnostics.push(gives_up(rule, &error));
                return decisions;
            }
            match judge(rule, input) {
                Ok(Verdict::Takes(target)) => {
                    usage[index].would_take += 1;
                    if decision.rule.is_none() {
                        usage[index].took += 1;
                        decision.rule = Some((index, target));
                    } else {
                        usage[index].shadowed_by.extend(decision.rule.map(|(earlier, _)| earlier));
                    }
                }
                Ok(Verdict::Ignored(_)) => usage[index].ignored += 1,
                Ok(Verdict::WrongKind(_) | Verdict::NoTarget) => {}
                Err(error) => {
                    diagnostics.push(gives_up(rule, &error));
                    return decisions;
                }
            }
        }
        decisions.push(decision);
    }
    let takes_any = recipe.rules.iter().zip(&usage).any(|(rule, usage)| rule.scheme.is_some() && usage.took > 0);
    for (rule, usage) in recipe.rules.iter().zip(&usage) {
        // A result that is a copy after all is an error of each rule that was to quantize.
        let idle = match rule.scheme.is_some() && !rule.optional && !takes_any {
            true => Level::Error,
            false => Level::Warning,
        };
        usage.report(rule, recipe, inputs, idle, diagnostics);
    }
    decisions
}

/// A regex of the rule that takes too long, at the place where it stands.
fn gives_up(rule: &Rule, error: &MatchError) -> Diagnostic {
    let mut patterns = rule.targets.iter().chain(&rule.ignore);
    let span = patterns.find(|pattern| pattern.value.text() == error.pattern).map_or(&rule.span, |found| &found.span);
    Diagnostic::error(format!("{}: {error}", rule.label)).at(span.clone())
}

/// Whether a target of a quantizing rule quantizes a tensor of this kind when it matches by name.
///
/// Classes and exact names mean what they say; a regex or glob takes the modules that are linear layers in the
/// reference too (the head among them), so that `re:.*layers.*` leaves norms, routers and embeddings alone.
fn quantizes(target: &Pattern, input: &PlannedInput) -> bool {
    match target {
        Pattern::Exact(_) => input.parameter() != "bias",
        Pattern::Class(_) => true,
        Pattern::Regex { .. } | Pattern::Glob { .. } => {
            matches!(input.kind(), LayerKind::Linear | LayerKind::LmHead)
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

/// What a rule and its patterns met in the checkpoint.
struct Usage {
    targets: Vec<Met>,
    ignore: Vec<Met>,
    would_take: usize,
    took: usize,
    shadowed_by: BTreeSet<usize>,
    ignored: usize,
}

/// What one pattern met: how many tensors by name, and the kind of the first that it cannot quantize.
#[derive(Clone, Default)]
struct Met {
    by_name: usize,
    useful: usize,
    wrong_kind: Option<LayerKind>,
}

impl Usage {
    fn new(rule: &Rule) -> Self {
        Self {
            targets: vec![Met::default(); rule.targets.len()],
            ignore: vec![Met::default(); rule.ignore.len()],
            would_take: 0,
            took: 0,
            shadowed_by: BTreeSet::new(),
            ignored: 0,
        }
    }

    fn note(&mut self, rule: &Rule, input: &PlannedInput) -> Result<(), MatchError> {
        let (name, kind) = (input.target_name(), input.kind());
        for (met, pattern) in self.targets.iter_mut().zip(&rule.targets) {
            if pattern.value.matches(name, kind)? {
                met.by_name += 1;
                if rule.scheme.is_none() || quantizes(&pattern.value, input) {
                    met.useful += 1;
                } else {
                    met.wrong_kind.get_or_insert(kind);
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
    fn report(
        &self,
        rule: &Rule,
        recipe: &Recipe,
        inputs: &[PlannedInput],
        idle: Level,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let unmatched = match recipe.dialect {
            Dialect::Native => Level::Error,
            Dialect::LlmCompressor => Level::Warning,
        };
        if !rule.optional {
            let targets = self.targets.iter().zip(&rule.targets).map(|met| (met, unmatched.min(idle)));
            let ignore = self.ignore.iter().zip(&rule.ignore).map(|met| (met, unmatched));
            for ((met, pattern), level) in targets.chain(ignore) {
                if met.useful == 0 && !(self.may_lack_head(rule, pattern) && names_head(&pattern.value)) {
                    diagnostics.push(Diagnostic { level, ..matches_nothing(pattern, met, inputs, recipe.dialect) });
                }
            }
        }
        if self.took > 0 {
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

    /// `lm_head` is worth keeping by name even where the checkpoint ties it to the embedding and holds no such tensor;
    /// to quantize what is not there is a mistake.
    fn may_lack_head(&self, rule: &Rule, pattern: &Located<Pattern>) -> bool {
        rule.scheme.is_none() || rule.ignore.iter().any(|ignored| ignored.span == pattern.span)
    }
}

fn names_head(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(name) => name.strip_suffix(".weight").unwrap_or(name) == "lm_head",
        Pattern::Class(kind) => *kind == LayerKind::LmHead,
        Pattern::Regex { .. } | Pattern::Glob { .. } => false,
    }
}

fn matches_nothing(pattern: &Located<Pattern>, met: &Met, inputs: &[PlannedInput], dialect: Dialect) -> Diagnostic {
    let text = pattern.value.text();
    if let Some(kind) = met.wrong_kind {
        return Diagnostic::error(format!("{} matches only tensors that a pattern does not quantize", shown(text)))
            .at(pattern.span.clone())
            .label(format!("matches {}, such as a `{kind}`", count(met.by_name, "tensor")))
            .help("a regex or glob quantizes linear layers only; name another layer exactly to have it quantized");
    }
    let names: Vec<&str> = inputs.iter().map(PlannedInput::target_name).collect();
    let mut diagnostic =
        Diagnostic::error(format!("{} matches nothing in the checkpoint", shown(text))).at(pattern.span.clone());
    let near: Vec<String> = nearest(&pattern.value, &names).iter().map(|near| shown(near).to_string()).collect();
    diagnostic = match &near[..] {
        [] => diagnostic,
        [only] => diagnostic.help(format!("did you mean {only}?")),
        several => diagnostic.help(format!("the nearest names are {}", several.join(", "))),
    };
    match dialect {
        Dialect::Native => diagnostic.help("`optional: true` on the rule allows patterns that match nothing"),
        Dialect::LlmCompressor => diagnostic,
    }
}
