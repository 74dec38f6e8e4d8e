//! From decisions to the output's tensors: their names, their shards and their places.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Dtype, MAX_OUTPUTS, Make, Matrix, SourceDtype, TensorRole, TensorSpec};

use crate::checkpoint::layout::{ShardLayout, TensorEntry, byte_len, shard_file_name};
use crate::checkpoint::view::Float8;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::finding::Finding;
use crate::recipe::Recipe;
use crate::shown::shown;

use super::format::WireFormat;
use super::resolve::count;
use super::{Decision, Job, Slot, has_error, selection};

/// The jobs and shards that carry out `decisions`; problems go to `findings`.
pub(super) fn lay_out(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    decisions: &[Decision],
    wire: &dyn WireFormat,
    findings: &mut Vec<Finding>,
) -> (Vec<Job>, Vec<ShardLayout>) {
    let mut unfit = Unfit::default();
    let parts: Vec<Part> = checkpoint
        .tensors
        .iter()
        .zip(decisions)
        .map(|(tensor, decision)| {
            Part::of(recipe, tensor, decision, wire).unwrap_or_else(|reason| {
                unfit.note(tensor, decision, reason);
                Part::copy(tensor)
            })
        })
        .collect();
    unfit.report(recipe, checkpoint, findings);
    refuse_collisions(checkpoint, &parts, findings);

    let (bins, sources) = match recipe.max_shard_size {
        Some(limit) => (by_size(&parts, limit), None),
        None => {
            let (bins, sources) = as_in_source(checkpoint);
            (bins, Some(sources))
        }
    };
    let count = bins.iter().max().map_or(0, |last| last + 1);
    let mut entries: Vec<Vec<TensorEntry>> = vec![Vec::new(); count];
    for (part, &bin) in parts.iter().zip(&bins) {
        entries[bin].extend(part.entries.iter().cloned());
    }
    let mut shards = Vec::with_capacity(count);
    for (index, entries) in entries.into_iter().enumerate() {
        let name = match &sources {
            Some(sources) if count > 1 => checkpoint.shards[sources[index]].name.clone(),
            _ => shard_file_name(index, count),
        };
        match ShardLayout::new(name, entries) {
            Ok(shard) => shards.push(shard),
            Err(error) => findings.push(Finding::error(error.to_string())),
        }
    }
    if has_error(findings) {
        return (Vec::new(), Vec::new());
    }
    let places: Vec<BTreeMap<&str, usize>> = shards
        .iter()
        .map(|shard| shard.tensors.iter().enumerate().map(|(at, placed)| (placed.entry.name.as_str(), at)).collect())
        .collect();
    let jobs = parts
        .into_iter()
        .zip(&bins)
        .map(|(part, &shard)| {
            let slot = |entry: &TensorEntry| Slot { shard, tensor: places[shard][entry.name.as_str()] };
            match part.becomes {
                Becomes::Copied => Job::Copy { to: slot(&part.entries[0]) },
                Becomes::Carried => Job::Carry { weight: slot(&part.entries[0]), scale: slot(&part.entries[1]) },
                Becomes::Quantized(rule, specs) => {
                    let outputs =
                        specs.into_iter().zip(&part.entries).map(|(spec, entry)| (spec, slot(entry))).collect();
                    Job::Quantize { rule, outputs }
                }
            }
        })
        .collect();
    (jobs, shards)
}

/// What one source tensor becomes.
struct Part {
    entries: Vec<TensorEntry>,
    becomes: Becomes,
}

/// How the entries of a part come about.
enum Becomes {
    /// One entry, by a copy.
    Copied,
    /// Codes, then scales, as the source has them.
    Carried,
    /// By the scheme of this rule, which makes these outputs, one per entry.
    Quantized(usize, Vec<TensorSpec>),
}

impl Part {
    fn copy(tensor: &Tensor) -> Self {
        let entry = TensorEntry { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() };
        Self { entries: vec![entry], becomes: Becomes::Copied }
    }

    /// What the decision makes of the tensor, or why its scheme cannot take it.
    fn of(
        recipe: &Recipe,
        tensor: &Tensor,
        decision: &Decision,
        wire: &dyn WireFormat,
    ) -> Result<Self, (Obstacle, String)> {
        let Some((index, _)) = decision.rule else { return Ok(Self::copy(tensor)) };
        let rule = &recipe.rules[index];
        let Some(scheme) = &rule.scheme else {
            return match tensor.view.float8() {
                Some(float8) if matches!(rule.registration.make, Make::Keep) => Self::carry(tensor, float8, wire),
                _ => Ok(Self::copy(tensor)),
            };
        };
        let specs = scheme.outputs(matrix(tensor)?).map_err(|error| (Obstacle::Scheme, error.to_string()))?;
        if specs.is_empty() || specs.len() > MAX_OUTPUTS {
            let number = count(specs.len(), "tensor");
            let reason = format!("its scheme writes {number} for a weight, and may write 1 to {MAX_OUTPUTS}");
            return Err((Obstacle::Scheme, reason));
        }
        let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let entries = specs
            .iter()
            .map(|spec| TensorEntry {
                name: format!("{module}.{}", wire.suffix(scheme.as_ref(), spec)),
                dtype: spec.dtype,
                shape: spec.shape.clone(),
            })
            .collect();
        Ok(Self { entries, becomes: Becomes::Quantized(index, specs) })
    }

    /// The codes and scales of a weight that is FP8 already, under the names of the output's format.
    fn carry(tensor: &Tensor, float8: &Float8, wire: &dyn WireFormat) -> Result<Self, (Obstacle, String)> {
        let scheme = float8.scheme.as_ref();
        wire.admits(scheme).map_err(|refusal| (Obstacle::Format, refusal.reason))?;
        let specs = scheme.outputs(matrix(tensor)?).map_err(|error| (Obstacle::Scheme, error.to_string()))?;
        let (weight, scale) = match specs.as_slice() {
            [weight, scale] if (weight.role, scale.role) == (TensorRole::Codes, TensorRole::Scale) => (weight, scale),
            _ => return Err((Obstacle::Scheme, "it has not one tensor of scales".to_owned())),
        };
        let entry = |spec: &TensorSpec, dtype, shape: &[usize]| TensorEntry {
            name: format!("{}.{}", tensor.module(), wire.suffix(scheme, spec)),
            dtype,
            shape: shape.to_vec(),
        };
        let entries = vec![
            entry(weight, tensor.stored_dtype(), &tensor.shape),
            entry(scale, float8.scale.dtype, &float8.scale.shape),
        ];
        Ok(Self { entries, becomes: Becomes::Carried })
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| byte_len(entry.dtype, &entry.shape)).sum()
    }
}

/// Why a tensor cannot be quantized, apart from its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Name,
    Rank,
    Dtype,
    Scheme,
    Format,
}

fn matrix(tensor: &Tensor) -> Result<Matrix, (Obstacle, String)> {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return Err((Obstacle::Rank, format!("its shape {:?} is not a matrix", tensor.shape)));
    };
    if tensor.parameter() != "weight" {
        return Err((Obstacle::Name, "it is no layer's `weight`, and servers know scales of weights only".to_owned()));
    }
    match SourceDtype::try_from(tensor.dtype) {
        Ok(dtype) => Ok(Matrix { dtype, rows, columns }),
        Err(dtype @ (Dtype::F8_E4M3 | Dtype::F8_E5M2)) => {
            Err((Obstacle::Dtype, format!("it is {dtype:?}: quantized already")))
        }
        Err(dtype) => Err((Obstacle::Dtype, format!("it is {dtype:?}, and a source is BF16, F16 or F32"))),
    }
}

/// Tensors that cannot take their scheme, by rule, target and obstacle.
#[derive(Default)]
struct Unfit<'a>(BTreeMap<(usize, usize, Obstacle), (String, Vec<&'a Tensor>)>);

impl<'a> Unfit<'a> {
    fn note(&mut self, tensor: &'a Tensor, decision: &Decision, (obstacle, reason): (Obstacle, String)) {
        if let Some((rule, target)) = decision.rule {
            let (_, tensors) = self.0.entry((rule, target, obstacle)).or_insert_with(|| (reason, Vec::new()));
            tensors.push(tensor);
        }
    }

    fn report(self, recipe: &Recipe, checkpoint: &Checkpoint, findings: &mut Vec<Finding>) {
        for ((rule, target, _), (reason, tensors)) in self.0 {
            let mut message = format!("{} cannot be quantized: {reason}", shown(&tensors[0].name));
            if tensors.len() > 1 {
                message.push_str(&format!("; {} like it", count(tensors.len() - 1, "more tensor")));
            }
            let modules = selection::modules(tensors);
            findings.push(
                Finding::error(message)
                    .at(recipe.rules[rule].targets[target].span.clone())
                    .label(format!("{} takes it", recipe.rules[rule].label))
                    .help(selection::keep(recipe, checkpoint, rule, &modules)),
            );
        }
    }
}

/// Tensors where their sources are: the bin of each, and the source shard of each bin.
fn as_in_source(checkpoint: &Checkpoint) -> (Vec<usize>, Vec<usize>) {
    let mut sources: Vec<usize> = Vec::new();
    let bins = checkpoint.tensors.iter().map(|tensor| {
        if sources.last() != Some(&tensor.shard) {
            sources.push(tensor.shard);
        }
        sources.len() - 1
    });
    (bins.collect(), sources)
}

/// Fills shards in the order of the checkpoint; what one source tensor becomes stays together.
fn by_size(parts: &[Part], limit: u64) -> Vec<usize> {
    let (mut bin, mut filled) = (0, 0_u64);
    parts
        .iter()
        .map(|part| {
            if filled > 0 && filled + part.bytes() > limit {
                bin += 1;
                filled = 0;
            }
            filled += part.bytes();
            bin
        })
        .collect()
}

fn refuse_collisions(checkpoint: &Checkpoint, parts: &[Part], findings: &mut Vec<Finding>) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (tensor, part) in checkpoint.tensors.iter().zip(parts) {
        for entry in &part.entries {
            if let Some(other) = owners.insert(&entry.name, &tensor.name) {
                findings.push(
                    Finding::error(format!(
                        "two tensors would be called {}: one from {}, one from {}",
                        shown(&entry.name),
                        shown(other),
                        shown(&tensor.name)
                    ))
                    .help("the checkpoint looks quantized already: start from its BF16 original"),
                );
            }
        }
    }
}
