//! The plan in a few lines: tensors that differ only by layer number are one row.

use qwen_fp8_schemes::Dtype;
use serde::Serialize;

use super::{Job, Plan};
use crate::checkpoint::Tensor;

/// The plan as `plan` shows it and `plan --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub format: &'static str,
    pub rows: Vec<Row>,
    pub shards: Vec<ShardSize>,
    pub quantized_tensors: usize,
    pub copied_tensors: usize,
    pub source_bytes: u64,
    pub output_bytes: u64,
    /// 1 − output / source, of all weights.
    pub saved_share: f64,
    pub tensor_parallel: Vec<super::tensor_parallel::Alignment>,
}

/// Tensors whose names differ only in numbers and which fare alike.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name with `*` for each number that varies in the checkpoint.
    pub name: String,
    pub kind: &'static str,
    pub count: usize,
    /// `quantize` or `copy`.
    pub action: &'static str,
    pub scheme: Option<&'static str>,
    /// The rule that decided; `None` where no rule takes the tensor.
    pub rule: Option<String>,
    pub before: Described,
    pub after: Vec<Described>,
    /// Bytes of all the row's tensors, before and after.
    pub source_bytes: u64,
    pub output_bytes: u64,
}

/// A tensor's name suffix, dtype and shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    pub suffix: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// An output file and its exact size.
#[derive(Clone, Debug, Serialize)]
pub struct ShardSize {
    pub name: String,
    pub tensors: usize,
    pub bytes: u64,
}

impl Summary {
    pub fn of(plan: &Plan) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let mut by_key = std::collections::HashMap::new();
        for (index, tensor) in plan.checkpoint.tensors.iter().enumerate() {
            let row = row(plan, index, tensor);
            let key = (row.name.clone(), row.rule.clone(), row.action, row.before.clone_key());
            match by_key.get(&key) {
                Some(&at) => {
                    let merged: &mut Row = &mut rows[at];
                    merged.count += 1;
                    merged.source_bytes += row.source_bytes;
                    merged.output_bytes += row.output_bytes;
                }
                None => {
                    by_key.insert(key, rows.len());
                    rows.push(row);
                }
            }
        }
        rows.sort_by(|a, b| (a.action != "quantize", a.kind, &a.name).cmp(&(b.action != "quantize", b.kind, &b.name)));
        let source_bytes: u64 = plan.checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
        let output_bytes: u64 = rows.iter().map(|row| row.output_bytes).sum();
        let quantized_tensors = plan.jobs.iter().filter(|job| matches!(job, Job::Quantize { .. })).count();
        Self {
            format: super::format::format_name(plan.recipe.format),
            rows,
            shards: plan
                .shards
                .iter()
                .map(|shard| ShardSize {
                    name: shard.file_name.clone(),
                    tensors: shard.tensors.len(),
                    bytes: shard.size,
                })
                .collect(),
            quantized_tensors,
            copied_tensors: plan.jobs.len() - quantized_tensors,
            source_bytes,
            output_bytes,
            saved_share: if source_bytes == 0 { 0.0 } else { 1.0 - output_bytes as f64 / source_bytes as f64 },
            tensor_parallel: plan.alignments.clone(),
        }
    }
}

impl Described {
    fn new(suffix: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { suffix: suffix.to_owned(), dtype: format!("{dtype:?}"), shape: shape.to_vec() }
    }

    fn clone_key(&self) -> (String, Vec<usize>) {
        (self.dtype.clone(), self.shape.clone())
    }
}

fn row(plan: &Plan, index: usize, tensor: &Tensor) -> Row {
    let rule = plan.decisions[index].rule.map(|(rule, _)| &plan.recipe.rules[rule]);
    let slots: Vec<_> = match &plan.jobs[index] {
        Job::Copy { to } => vec![*to],
        Job::Quantize { outputs, .. } => outputs.iter().map(|(_, slot)| *slot).collect(),
    };
    let placed: Vec<_> = slots.iter().map(|slot| &plan.shards[slot.shard].tensors[slot.tensor]).collect();
    let quantized = matches!(plan.jobs[index], Job::Quantize { .. });
    Row {
        name: numbers_starred(&tensor.name),
        kind: tensor.kind().name(),
        count: 1,
        action: if quantized { "quantize" } else { "copy" },
        scheme: rule.map(|rule| rule.registration.name),
        rule: rule.map(|rule| rule.label.clone()),
        before: Described::new(tensor.parameter(), tensor.dtype, &tensor.shape),
        after: placed
            .iter()
            .map(|placed| {
                let suffix = crate::layer::split_name(&placed.entry.name).1;
                Described::new(suffix, placed.entry.dtype, &placed.entry.shape)
            })
            .collect(),
        source_bytes: tensor.len,
        output_bytes: placed.iter().map(|placed| placed.len).sum(),
    }
}

/// `model.layers.12.mlp.up_proj.weight` → `model.layers.*.mlp.up_proj.weight`.
fn numbers_starred(name: &str) -> String {
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) { "*" } else { part })
        .collect();
    parts.join(".")
}
