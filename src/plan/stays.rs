//! What stays unquantized although the recipe is after it: stacks of experts that no server loads one by one, and layers
//! that a scheme does not fit; and why.

use std::collections::BTreeMap;
use std::fmt;

use crate::checkpoint::experts::ExpertsError;
use crate::checkpoint::models::LayerKind;
use crate::checkpoint::text::{count, human, sentence, shown};
use crate::recipe::Recipe;
use crate::recipe::diagnostic::{Diagnostic, Level};

use super::inputs::WhyStacked;
use super::job::Decision;
use super::misfits::{self, Misfit, Misfits};
use super::planned_input::PlannedInput;

/// The reasons for which inputs stay unquantized that the recipe does not name.
#[derive(Debug, Default)]
pub struct Stays {
    /// Why the stacks of experts stay as they are.
    pub(super) stacked: Option<WhyStacked>,
    /// What each rule leaves to the rules after it.
    pub(super) misfits: Vec<Misfits>,
}

/// The reason for which one input stays unquantized.
pub(super) enum WhyStays<'a> {
    Stacked(&'a WhyStacked),
    /// This rule leaves it, and none after it takes it.
    Misfit(usize, &'a Misfit),
}

impl Stays {
    /// Returns why this rule leaves this input to the rules after it, `None` where it would take it, or is not after it.
    pub(super) fn left_by(&self, rule: usize, input: usize) -> Option<&Misfit> {
        self.misfits.get(rule)?.get(&input)
    }

    /// Returns why this input, of which that was decided, stays unquantized, `None` where a rule says so or none is after it.
    pub(super) fn why(&self, number: usize, input: &PlannedInput, decision: &Decision) -> Option<WhyStays<'_>> {
        if decision.rule.is_some() {
            return None;
        }
        if input.kind() == LayerKind::Experts {
            return self.stacked.as_ref().map(WhyStays::Stacked);
        }
        let mut rules = self.misfits.iter().enumerate();
        rules.find_map(|(rule, misfits)| misfits.get(&number).map(|misfit| WhyStays::Misfit(rule, misfit)))
    }

    /// Returns a note for each rule and reason; warnings, where less of the weights is quantized than stays so.
    pub(super) fn notes(&self, recipe: &Recipe, inputs: &[PlannedInput], decisions: &[Decision]) -> Vec<Diagnostic> {
        let mut stacks: Vec<&PlannedInput> = Vec::new();
        // By rule and reason; those that are drawn along come last.
        let mut layers: BTreeMap<(usize, bool, &str), Vec<&PlannedInput>> = BTreeMap::new();
        let (mut stays, mut quantized) = (0, 0);
        for (number, (input, decision)) in inputs.iter().zip(decisions).enumerate() {
            let why = self.why(number, input, decision);
            stays += if why.is_some() { input.len } else { 0 };
            quantized += if decision.is_quantized(recipe) { input.len } else { 0 };
            match why {
                Some(WhyStays::Stacked(_)) => stacks.push(input),
                Some(WhyStays::Misfit(rule, Misfit::Cut(why))) => {
                    layers.entry((rule, false, why)).or_default().push(input)
                }
                Some(WhyStays::Misfit(rule, Misfit::FusedWith(_))) => {
                    let why = "servers fuse each with a layer that the scheme does not fit";
                    layers.entry((rule, true, why)).or_default().push(input);
                }
                None => {}
            }
        }
        let of_stacks = self.stacked.as_ref().filter(|_| !stacks.is_empty()).map(|why| {
            // A reason that names a stack of its own needs no other one as a sample.
            let stacks = match why {
                WhyStacked::Unknown(_) => amount("stack", " of experts", &stacks),
                _ => stay("stack", " of experts", &stacks),
            };
            let note = Diagnostic::note(format!("{stacks}: {}", sentence(&why.to_string())));
            match why {
                WhyStacked::Unknown(ExpertsError::Unknown { .. } | ExpertsError::Biases { .. }) => note.help(
                    "where a server loads them one by one, `stacks` in a file of your own says how they lie: \
                     `qwen-fp8 models --schema`",
                ),
                WhyStacked::NotTaken(Some((rule, _))) => {
                    let rule = &recipe.rules[*rule];
                    let label = format!("{} leaves what its scheme does not fit", rule.label);
                    note.at(rule.span.clone()).label(label).help(misfits::way_out(rule, recipe.format))
                }
                _ => note,
            }
        });
        let last = layers.keys().next_back().copied();
        let of_layers = layers.into_iter().map(|(key, inputs)| {
            let (rule, _, why) = key;
            let rule = &recipe.rules[rule];
            let note = Diagnostic::note(format!("{}: {why}", stay("layer", "", &inputs)))
                .at(rule.span.clone())
                .label(format!("{} leaves what its scheme does not fit", rule.label));
            // Once is enough.
            if Some(key) == last { note.help(misfits::way_out(rule, recipe.format)) } else { note }
        });
        let level = if stays > quantized { Level::Warning } else { Level::Note };
        of_stacks.into_iter().chain(of_layers).map(|note| Diagnostic { level, ..note }).collect()
    }
}

/// `4 stacks of experts, 3.15 MB, stay unquantized, such as …`
fn stay(thing: &str, of: &str, inputs: &[&PlannedInput]) -> String {
    let such = if inputs.len() == 1 { "" } else { "such as " };
    let first = inputs.first().map(|input| format!("{such}{} {:?}", shown(input.target_name()), input.shape));
    format!("{}, {}", amount(thing, of, inputs), first.unwrap_or_default())
}

/// `4 stacks of experts, 3.15 MB, stay unquantized`
fn amount(thing: &str, of: &str, inputs: &[&PlannedInput]) -> String {
    let bytes = human(inputs.iter().map(|input| input.len).sum());
    let verb = if inputs.len() == 1 { "stays" } else { "stay" };
    format!("{}{of}, {bytes}, {verb} unquantized", count(inputs.len(), thing))
}

impl WhyStays<'_> {
    /// The reason in two words, for tables.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Stacked(_) => "stays stacked",
            Self::Misfit(..) => "misfit",
        }
    }
}

impl fmt::Display for WhyStays<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stacked(why) => write!(f, "{}", sentence(&why.to_string())),
            Self::Misfit(_, misfit) => write!(f, "{misfit}"),
        }
    }
}

impl fmt::Display for WhyStacked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded { server, because } => write!(f, "{server} loads no single ones: {because}"),
            Self::Unknown(error) => write!(f, "{error}"),
            Self::NotTaken(Some((_, misfit))) => {
                write!(f, "the scheme fits no matrix that they would become: {misfit}")
            }
            Self::NotTaken(None) => f.write_str("no rule quantizes any of the matrices that they would become"),
        }
    }
}
