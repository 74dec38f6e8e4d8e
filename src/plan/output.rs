//! Lays out the tensors of the output that the decisions call for: their names, shards and slots.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Dtype, MAX_OUTPUTS, Make, Matrix, SourceDtype, Strategy, TensorSpec};

use crate::checkpoint::Checkpoint;
use crate::checkpoint::layout::{ShardLayout, TensorEntry, byte_len, shard_file_name};
use crate::checkpoint::models::Model;
use crate::checkpoint::text::{count, shown};
use crate::recipe::diagnostic::{Diagnostic, Level};
use crate::recipe::{Dialect, Recipe, Rule};

use super::carried_scales::CarriedScales;
use super::fixes;
use super::format::WireFormat;
use super::job::{Decision, Job, Slot};
use super::misfits;
use super::planned_input::{CarriedForm, PlannedInput, QuantizedSource, SourcePart};
use super::served_form::ServedForm;

/// Returns the jobs and shards that carry out `decisions`; problems go to `diagnostics`.
pub(super) fn lay_out(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    inputs: &[PlannedInput],
    decisions: &[Decision],
    wire: &dyn WireFormat,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Job>, Vec<ShardLayout>) {
    let mut unfit = Unfit::default();
    let outputs: Vec<InputOutputs> = inputs
        .iter()
        .zip(decisions)
        .map(|(input, decision)| {
            InputOutputs::of(recipe, input, decision, wire).unwrap_or_else(|reason| {
                unfit.note(input, decision, reason);
                InputOutputs::values(input)
            })
        })
        .collect();
    unfit.report(recipe, &checkpoint.model, (inputs, decisions), diagnostics);
    // Two tensors of one name would overwrite each other in every loader, whichever shards they are in.
    refuse_collisions(inputs, &outputs, diagnostics);

    let (bins, sources) = match recipe.max_shard_size {
        Some(limit) => (by_size(&outputs, limit), None),
        None => {
            let (bins, sources) = as_in_source(inputs);
            (bins, Some(sources))
        }
    };
    let count = bins.iter().max().map_or(0, |last| last + 1);
    let mut entries: Vec<Vec<TensorEntry>> = vec![Vec::new(); count];
    for (outputs, &bin) in outputs.iter().zip(&bins) {
        entries[bin].extend(outputs.entries.iter().cloned());
    }
    let mut shards = Vec::with_capacity(count);
    for (index, entries) in entries.into_iter().enumerate() {
        let name = match &sources {
            Some(sources) if count > 1 => checkpoint.shards[sources[index]].name.clone(),
            _ => shard_file_name(index, count),
        };
        match ShardLayout::new(name, entries) {
            Ok(shard) => shards.push(shard),
            Err(error) => diagnostics.push(Diagnostic::error(error.to_string())),
        }
    }
    if diagnostics.iter().any(|diagnostic| diagnostic.level == Level::Error) {
        return (Vec::new(), Vec::new());
    }
    let places: Vec<BTreeMap<&str, usize>> = shards
        .iter()
        .map(|shard| shard.tensors.iter().enumerate().map(|(at, placed)| (placed.entry.name.as_str(), at)).collect())
        .collect();
    let jobs = outputs
        .into_iter()
        .zip(&bins)
        .map(|(InputOutputs { entries, origin }, &shard)| {
            let slot = |entry: &TensorEntry| Slot { shard, tensor: places[shard][entry.name.as_str()] };
            match origin {
                Origin::Copied => Job::Copy { to: slot(&entries[0]) },
                Origin::PassedThrough(scales) => Job::PassThrough { to: entries.iter().map(slot).collect(), scales },
                Origin::Dequantized => Job::Dequantize { to: slot(&entries[0]) },
                Origin::Quantized(rule, specs) => {
                    let outputs = specs.into_iter().zip(&entries).map(|(spec, entry)| (spec, slot(entry))).collect();
                    Job::Quantize { rule, outputs }
                }
            }
        })
        .collect();
    (jobs, shards)
}

/// The tensors of the output that one input becomes.
struct InputOutputs {
    entries: Vec<TensorEntry>,
    origin: Origin,
}

/// The way in which output tensors come about.
enum Origin {
    /// One tensor, whose values are the input's.
    Copied,
    /// Codes, then scales and the others, as a quantized source has them, but for such scales.
    PassedThrough(CarriedScales),
    /// One tensor, whose values are decoded from a quantized source.
    Dequantized,
    /// The outputs of this rule's scheme, one per tensor.
    Quantized(usize, Vec<TensorSpec>),
}

impl InputOutputs {
    /// One tensor of the input's values.
    fn values(input: &PlannedInput) -> Self {
        let entry = TensorEntry { name: input.name.clone(), dtype: input.dtype, shape: input.shape.clone() };
        let origin = if input.quantized().is_some() { Origin::Dequantized } else { Origin::Copied };
        Self { entries: vec![entry], origin }
    }

    /// Returns what the decision makes of the input, or why its scheme cannot take it.
    fn of(
        recipe: &Recipe,
        input: &PlannedInput,
        decision: &Decision,
        wire: &dyn WireFormat,
    ) -> Result<Self, (Obstacle, String)> {
        let Some((index, _)) = decision.rule else { return Ok(Self::values(input)) };
        let rule = &recipe.rules[index];
        let Some(scheme) = &rule.scheme else {
            return match input.quantized() {
                Some(source) if matches!(rule.registration.make, Make::Keep) => {
                    Self::pass_through(recipe, rule, input, source, wire)
                }
                _ => Ok(Self::values(input)),
            };
        };
        let specs = scheme.outputs(matrix(input)?).map_err(|error| (Obstacle::Scheme, error.to_string()))?;
        if specs.is_empty() || specs.len() > MAX_OUTPUTS {
            let number = count(specs.len(), "tensor");
            let reason = format!("its scheme writes {number} for a weight, and may write 1 to {MAX_OUTPUTS}");
            return Err((Obstacle::Scheme, reason));
        }
        let module = input.name.strip_suffix(".weight").unwrap_or(&input.name);
        let form = ServedForm::of(scheme.as_ref());
        let entries = specs
            .iter()
            .map(|spec| TensorEntry {
                name: format!("{module}.{}", wire.suffix(&form, spec.role, spec.suffix)),
                dtype: spec.dtype,
                shape: spec.shape.clone(),
            })
            .collect();
        Ok(Self { entries, origin: Origin::Quantized(index, specs) })
    }

    /// The tensors of a quantized source, under the names of the output's format.
    fn pass_through(
        recipe: &Recipe,
        rule: &Rule,
        input: &PlannedInput,
        source: &QuantizedSource,
        wire: &dyn WireFormat,
    ) -> Result<Self, (Obstacle, String)> {
        let CarriedForm { form, parts, at_home, keeps_config } = source
            .carried
            .as_ref()
            .map_err(|reason| (Obstacle::Format, format!("it is {}, and {reason}", source.name)))?;
        let scales = CarriedScales::of(rule, input, source).map_err(|reason| (Obstacle::Scales, reason))?;
        let form = &scales.served(form);
        if !keeps_config {
            wire.admits(form).map_err(|refusal| (Obstacle::Format, refusal.reason))?;
        }
        let is_at_home = *keeps_config || *at_home == Some(recipe.format);
        let entry = |part: &SourcePart| {
            let SourcePart { tensor, role, suffix, dtype } = part;
            // A model's own loader may know the names of its publisher alone.
            let (suffix, dtype) = if is_at_home {
                (tensor.parameter(), tensor.dtype)
            } else {
                (wire.suffix(form, *role, suffix), *dtype)
            };
            let (dtype, shape) = scales.form_of(part, dtype);
            TensorEntry { name: format!("{}.{suffix}", input.module()), dtype, shape }
        };
        Ok(Self { entries: parts.iter().map(entry).collect(), origin: Origin::PassedThrough(scales) })
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| byte_len(entry.dtype, &entry.shape)).sum()
    }
}

/// The kind of obstacle to quantizing an input, without the figures of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Name,
    Rank,
    Dtype,
    Scheme,
    Scales,
    Format,
}

fn matrix(input: &PlannedInput) -> Result<Matrix, (Obstacle, String)> {
    let &[rows, columns] = input.shape.as_slice() else {
        return Err((Obstacle::Rank, format!("its shape {:?} is not a matrix", input.shape)));
    };
    if input.parameter() != "weight" {
        return Err((Obstacle::Name, "it is no layer's `weight`, and servers know scales of weights only".to_owned()));
    }
    match SourceDtype::try_from(input.dtype) {
        Ok(dtype) => Ok(Matrix { dtype, rows, columns }),
        Err(dtype @ (Dtype::F8_E4M3 | Dtype::F8_E5M2)) => {
            Err((Obstacle::Dtype, format!("it is {dtype:?}: quantized already")))
        }
        Err(dtype) => Err((Obstacle::Dtype, format!("it is {dtype:?}, and a source is BF16, F16 or F32"))),
    }
}

/// Tensors that cannot take their scheme, by rule, target and obstacle.
#[derive(Default)]
struct Unfit<'a>(BTreeMap<(usize, usize, Obstacle), (String, Vec<&'a PlannedInput>)>);

impl<'a> Unfit<'a> {
    fn note(&mut self, input: &'a PlannedInput, decision: &Decision, (obstacle, reason): (Obstacle, String)) {
        if let Some((rule, target)) = decision.rule {
            let (_, inputs) = self.0.entry((rule, target, obstacle)).or_insert_with(|| (reason, Vec::new()));
            inputs.push(input);
        }
    }

    fn report(
        self,
        recipe: &Recipe,
        model: &Model,
        all: (&[PlannedInput], &[Decision]),
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for ((rule, target, obstacle), (reason, inputs)) in self.0 {
            let what = if recipe.rules[rule].scheme.is_some() { "be quantized" } else { "pass through" };
            let mut message = format!("{} cannot {what}: {reason}", shown(&inputs[0].name));
            if inputs.len() > 1 {
                message.push_str(&format!("; {} like it", count(inputs.len() - 1, "more tensor")));
            }
            let is_stack = obstacle == Obstacle::Rank && inputs[0].quantized().is_some();
            let modules = fixes::modules(inputs);
            let diagnostic = Diagnostic::error(message);
            // Left out, they would be quantized layers that no rule takes.
            let diagnostic = match is_stack {
                true => diagnostic
                    .help("`experts: split` at the top makes a matrix of each expert's, which a rule can take"),
                false => diagnostic,
            };
            // Groups that do not fit; blocks are judged by the serving rules.
            let by_group = recipe.rules[rule].scheme.as_deref().is_some_and(|scheme| {
                matches!(scheme.weights().strategy, Strategy::Group(_) | Strategy::TensorGroup(_))
            });
            let diagnostic = match obstacle == Obstacle::Scheme && by_group && recipe.dialect == Dialect::Native {
                true => diagnostic.help(misfits::LEAVE),
                false => diagnostic,
            };
            diagnostics.push(
                diagnostic
                    .at(recipe.rules[rule].targets[target].span.clone())
                    .label(format!("{} takes it", recipe.rules[rule].label))
                    .help(fixes::leave_out(recipe, model, all, rule, &modules)),
            );
        }
    }
}

/// Leaves outputs in the shards of their sources: the bin of each input, and the source shard of each bin.
fn as_in_source(inputs: &[PlannedInput]) -> (Vec<usize>, Vec<usize>) {
    // Inputs are in order of their shards, so that the output has the source's shards and a reader of one shard finds
    // the same layers there.
    let mut sources: Vec<usize> = Vec::new();
    let bins = inputs.iter().map(|input| {
        if sources.last() != Some(&input.shard()) {
            sources.push(input.shard());
        }
        sources.len() - 1
    });
    (bins.collect(), sources)
}

/// Fills shards in the order of the checkpoint; what one input becomes stays together.
fn by_size(outputs: &[InputOutputs], limit: u64) -> Vec<usize> {
    let (mut bin, mut filled) = (0, 0_u64);
    outputs
        .iter()
        .map(|outputs| {
            // Codes and scales of a weight are never in two shards: a loader that reads shard by shard wants both. A
            // single weight may exceed the limit.
            if filled > 0 && filled + outputs.bytes() > limit {
                bin += 1;
                filled = 0;
            }
            filled += outputs.bytes();
            bin
        })
        .collect()
}

fn refuse_collisions(inputs: &[PlannedInput], outputs: &[InputOutputs], diagnostics: &mut Vec<Diagnostic>) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (input, outputs) in inputs.iter().zip(outputs) {
        for entry in &outputs.entries {
            if let Some(other) = owners.insert(&entry.name, &input.name) {
                diagnostics.push(
                    Diagnostic::error(format!(
                        "two tensors would be called {}: one from {}, one from {}",
                        shown(&entry.name),
                        shown(other),
                        shown(&input.name)
                    ))
                    .help("the checkpoint looks quantized already, and its `config.json` does not say how"),
                );
            }
        }
    }
}
