//! From decisions to the output's tensors: their names, their shards and their places.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{Dtype, Matrix, SourceDtype, TensorSpec};

use crate::checkpoint::layout::{ShardLayout, TensorEntry, byte_len, shard_file_name};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::finding::Finding;
use crate::recipe::Recipe;

use super::format::WireFormat;
use super::{Decision, Job, Slot, has_error};

/// The jobs and shards that carry out `decisions`; problems go to `findings`.
pub(super) fn lay_out(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    decisions: &[Decision],
    wire: &dyn WireFormat,
    findings: &mut Vec<Finding>,
) -> (Vec<Job>, Vec<ShardLayout>) {
    let parts: Vec<Part> = checkpoint
        .tensors
        .iter()
        .zip(decisions)
        .map(|(tensor, decision)| {
            Part::of(recipe, tensor, decision, wire).unwrap_or_else(|finding| {
                findings.push(finding);
                Part::copy(tensor)
            })
        })
        .collect();
    refuse_collisions(checkpoint, &parts, findings);

    let bins = match recipe.max_shard_size {
        Some(limit) => by_size(&parts, limit),
        None => checkpoint.tensors.iter().map(|tensor| tensor.shard).collect(),
    };
    let count = bins.iter().max().map_or(0, |last| last + 1);
    let mut entries: Vec<Vec<TensorEntry>> = vec![Vec::new(); count];
    for (part, &bin) in parts.iter().zip(&bins) {
        entries[bin].extend(part.entries.iter().cloned());
    }
    let mut shards = Vec::with_capacity(count);
    for (index, entries) in entries.into_iter().enumerate() {
        let kept = checkpoint.shards.get(index).filter(|_| recipe.max_shard_size.is_none() && count > 1);
        let name = kept.map_or_else(|| shard_file_name(index, count), |shard| shard.name.clone());
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
            match part.quantized {
                None => Job::Copy { to: slot(&part.entries[0]) },
                Some((rule, specs)) => {
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
    /// The rule and its scheme's outputs, one per entry; `None` for a copy.
    quantized: Option<(usize, Vec<TensorSpec>)>,
}

impl Part {
    fn copy(tensor: &Tensor) -> Self {
        let entry = TensorEntry { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() };
        Self { entries: vec![entry], quantized: None }
    }

    fn of(recipe: &Recipe, tensor: &Tensor, decision: &Decision, wire: &dyn WireFormat) -> Result<Self, Finding> {
        let Some((index, target)) = decision.rule else { return Ok(Self::copy(tensor)) };
        let rule = &recipe.rules[index];
        let Some(scheme) = &rule.scheme else { return Ok(Self::copy(tensor)) };
        let refuse = |reason: String| {
            Finding::error(format!("`{}` cannot be quantized: {reason}", tensor.name.escape_debug()))
                .at(rule.targets[target].span.clone())
                .label(format!("{} takes it", rule.label))
                .help(format!(
                    "keep it with an earlier rule: `{{scheme: PASSTHROUGH, targets: [\"{}\"]}}`",
                    tensor.target_name().escape_debug()
                ))
        };
        let matrix = matrix(tensor).map_err(refuse)?;
        let specs = scheme.outputs(matrix).map_err(|error| refuse(error.to_string()))?;
        let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let entries = specs
            .iter()
            .map(|spec| TensorEntry {
                name: format!("{module}.{}", wire.suffix(scheme.as_ref(), spec)),
                dtype: spec.dtype,
                shape: spec.shape.clone(),
            })
            .collect();
        Ok(Self { entries, quantized: Some((index, specs)) })
    }

    fn bytes(&self) -> u64 {
        self.entries.iter().filter_map(|entry| byte_len(entry.dtype, &entry.shape)).sum()
    }
}

fn matrix(tensor: &Tensor) -> Result<Matrix, String> {
    let &[rows, columns] = tensor.shape.as_slice() else {
        return Err(format!("its shape {:?} is not a matrix", tensor.shape));
    };
    match SourceDtype::try_from(tensor.dtype) {
        Ok(dtype) => Ok(Matrix { dtype, rows, columns }),
        Err(Dtype::F8_E4M3 | Dtype::F8_E5M2) => Err(format!("it is {:?}: already quantized", tensor.dtype)),
        Err(dtype) => Err(format!("it is {dtype:?}, and a source is BF16, F16 or F32")),
    }
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
                    Finding::error(format!("two tensors would be called `{}`", entry.name.escape_debug()))
                        .label(format!("from `{}` and `{}`", other.escape_debug(), tensor.name.escape_debug()))
                        .help("the checkpoint looks quantized already: start from its BF16 original"),
                );
            }
        }
    }
}
