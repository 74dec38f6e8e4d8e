//! The plan in a few lines: tensors that differ only by layer number and fare alike are one row.

use std::collections::{BTreeMap, BTreeSet};

use qwen_fp8_schemes::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build::Plan;
use super::format;
use super::job::Job;
use super::planned_input::PlannedInput;
use super::stays::WhyStays;
use super::tensor_parallel::Alignment;
use crate::checkpoint::models::{self, LayerKind, Part};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::{CacheDtype, NonFinitePolicy};

/// The plan as `plan` shows it and `plan --json` prints it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Summary {
    pub format: &'static str,
    /// The policy for NaN and infinity in weights that are quantized.
    pub on_nonfinite: NonFinitePolicy,
    /// The dtype of keys and values that config.json asks servers for.
    pub kv_cache: CacheDtype,
    /// Stacks of experts that are taken apart, and the matrices that they make.
    pub split_stacks: usize,
    pub split_matrices: usize,
    /// The rows: quantized inputs first, then by rule and name.
    pub rows: Vec<Row>,
    /// The safetensors files.
    pub shards: Vec<ShardSize>,
    /// The index, where there is one, and `config.json`.
    pub documents: Vec<FileSize>,
    /// Files that are copied byte for byte.
    pub side_files: Vec<FileSize>,
    pub quantized_tensors: usize,
    #[serde(rename = "carried_tensors")]
    pub passed_through_tensors: usize,
    pub dequantized_tensors: usize,
    /// Tensors that adapters are merged into and that are not quantized.
    pub merged_tensors: usize,
    pub copied_tensors: usize,
    /// The adapters, and how many tensors each changes.
    pub adapters: Vec<AdapterTensors>,
    /// Bytes of all tensors, before and after.
    pub source_bytes: u64,
    pub output_bytes: u64,
    /// 1 − output / source, of all tensors.
    pub saved_share: f64,
    /// The manifest; null where none is written.
    pub manifest: Option<ManifestSize>,
    /// Bytes of all files of the output, manifest included; an upper bound where the manifest's size is one.
    pub directory_bytes: u64,
    pub tensor_parallel: Vec<Alignment>,
    /// Warnings, a line each.
    pub warnings: Vec<String>,
    /// Notes, a line each: what the result is not right for, although servers load it.
    pub notes: Vec<String>,
}

/// An adapter that is merged.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct AdapterTensors {
    /// Its id, or the name of its directory.
    pub name: String,
    pub tensors: usize,
}

/// Tensors whose names differ only in numbers and which fare alike.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Row {
    /// The name, with `*` for each number where the row has several tensors.
    pub name: String,
    pub kind: &'static str,
    pub count: usize,
    pub action: RowAction,
    pub scheme: Option<&'static str>,
    /// The rule that decided; `None` where no rule takes the tensor.
    pub rule: Option<String>,
    /// The part of the model, of linear layers that no rule takes and that servers build unquantized.
    pub part: Option<&'static str>,
    /// `misfit` for layers that a rule leaves, as its `on_misfit` says, `stays stacked` for stacks of experts that stay
    /// under `experts: split_or_keep`.
    pub stays: Option<&'static str>,
    /// Why the layers of this part, the misfits or the stacks stay unquantized.
    pub why: Option<String>,
    /// The adapters that are merged into the tensors, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    pub before: TensorForm,
    pub after: Vec<TensorForm>,
    /// Bytes of all the row's tensors, before and after.
    pub source_bytes: u64,
    pub output_bytes: u64,
}

/// The action for the inputs of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RowAction {
    Quantize,
    /// It is FP8 in the source, and its codes and scales pass through.
    #[serde(rename = "carry")]
    PassThrough,
    /// It is FP8 in the source and is decoded.
    Dequantize,
    /// Adapters are merged into it, and it stays unquantized.
    Merge,
    Copy,
}

impl RowAction {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quantize => "quantize",
            Self::PassThrough => "pass through",
            Self::Dequantize => "dequantize",
            Self::Merge => "merge",
            Self::Copy => "copy",
        }
    }
}

/// A tensor's name suffix, dtype and shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct TensorForm {
    pub suffix: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// An output shard and its exact size.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShardSize {
    pub name: String,
    pub tensors: usize,
    pub bytes: u64,
}

/// An output file and its exact size.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FileSize {
    pub name: String,
    pub bytes: u64,
}

/// The size of the output's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ManifestSize {
    pub bytes: u64,
    /// True where this is an upper bound: NaN and infinity that a run keeps are recorded, and only weights tell them.
    pub at_most: bool,
}

impl Summary {
    /// Adds a manifest of this size to the files of the output.
    #[must_use]
    pub fn with_manifest(mut self, manifest: ManifestSize) -> Self {
        self.directory_bytes += manifest.bytes;
        self.manifest = Some(manifest);
        self
    }

    /// Sums up a plan, without a manifest.
    pub fn of(plan: &Plan) -> Self {
        let rows = rows(plan);
        let source_bytes: u64 = rows.iter().map(|row| row.source_bytes).sum();
        let output_bytes: u64 = rows.iter().map(|row| row.output_bytes).sum();
        let tensors = |action: RowAction| rows.iter().filter(|row| row.action == action).map(|row| row.count).sum();
        let shards = plan.shards.iter().map(|shard| ShardSize {
            name: shard.file_name.clone(),
            tensors: shard.tensors.len(),
            bytes: shard.size,
        });
        let documents =
            plan.documents.iter().map(|(name, bytes)| FileSize { name: name.clone(), bytes: bytes.len() as u64 });
        let side_files =
            plan.checkpoint.side_files.iter().map(|file| FileSize { name: file.name.clone(), bytes: file.stamp.size });
        let side_files: Vec<FileSize> = side_files.collect();
        let parts = plan.inputs.iter().filter_map(|input| input.part_of.as_deref());
        let split_matrices = parts.clone().count();
        let stacks: BTreeSet<&str> = parts.collect();
        Self {
            format: format::format_name(plan.recipe.format),
            on_nonfinite: plan.recipe.on_nonfinite,
            kv_cache: CacheDtype::declared(&plan.quantization_config()),
            split_stacks: stacks.len(),
            split_matrices,
            quantized_tensors: tensors(RowAction::Quantize),
            passed_through_tensors: tensors(RowAction::PassThrough),
            dequantized_tensors: tensors(RowAction::Dequantize),
            merged_tensors: tensors(RowAction::Merge),
            copied_tensors: tensors(RowAction::Copy),
            adapters: adapters(plan),
            rows,
            shards: shards.collect(),
            documents: documents.collect(),
            source_bytes,
            output_bytes,
            saved_share: if source_bytes == 0 { 0.0 } else { 1.0 - output_bytes as f64 / source_bytes as f64 },
            manifest: None,
            directory_bytes: plan.output_bytes() + side_files.iter().map(|file| file.bytes).sum::<u64>(),
            side_files,
            tensor_parallel: plan.alignments.clone(),
            warnings: plan.warnings.iter().map(one_line).collect(),
            notes: plan.notes.iter().map(one_line).collect(),
        }
    }
}

/// Counts the tensors of each adapter.
fn adapters(plan: &Plan) -> Vec<AdapterTensors> {
    let of =
        |number| plan.inputs.iter().filter(|input| input.merged.iter().any(|merge| merge.adapter == number)).count();
    let adapters = plan.checkpoint.adapters.iter().enumerate();
    adapters.map(|(number, adapter)| AdapterTensors { name: adapter.name.name.clone(), tensors: of(number) }).collect()
}

fn one_line(diagnostic: &Diagnostic) -> String {
    if diagnostic.label.is_empty() {
        diagnostic.message.clone()
    } else {
        format!("{} ({})", diagnostic.message, diagnostic.label)
    }
}

/// The properties that the inputs of a row share, in the order in which rows are sorted.
type RowKey = (
    RowAction,
    Option<usize>,
    &'static str,
    String,
    Option<&'static str>,
    Option<&'static str>,
    TensorForm,
    Vec<usize>,
);

fn rows(plan: &Plan) -> Vec<Row> {
    let mut rows: BTreeMap<RowKey, Row> = BTreeMap::new();
    for (index, input) in plan.inputs.iter().enumerate() {
        let row = row(plan, index, input);
        let rule = plan.decisions[index].rule.map(|(rule, _)| rule);
        let starred = numbers_starred(&input.name);
        // By kind, but a bias stands beside its weight.
        let kind = if row.kind == "Bias" { "" } else { row.kind };
        let key = (row.action, rule, kind, starred.clone(), row.part, row.stays, row.before.clone(), input.adapters());
        rows.entry(key)
            .and_modify(|all| {
                all.name = starred;
                all.count += 1;
                all.source_bytes += row.source_bytes;
                all.output_bytes += row.output_bytes;
            })
            .or_insert(row);
    }
    rows.into_values().collect()
}

/// Returns the row of one input.
pub(super) fn row(plan: &Plan, index: usize, input: &PlannedInput) -> Row {
    let rule = plan.decisions[index].rule.map(|(rule, _)| &plan.recipe.rules[rule]);
    let action = match &plan.jobs[index] {
        Job::Quantize { .. } => RowAction::Quantize,
        Job::PassThrough { .. } => RowAction::PassThrough,
        Job::Dequantize { .. } => RowAction::Dequantize,
        Job::Copy { .. } if !input.merged.is_empty() => RowAction::Merge,
        Job::Copy { .. } => RowAction::Copy,
    };
    let is_left_out = rule.is_none() && input.kind() == LayerKind::Linear;
    let part = Some(input.layer.part).filter(|part| is_left_out && *part != Part::Decoder);
    let stays = plan.why_unquantized(index);
    let placed: Vec<_> =
        plan.jobs[index].slots().into_iter().map(|slot| &plan.shards[slot.shard].tensors[slot.tensor]).collect();
    Row {
        name: input.name.clone(),
        kind: input.kind().name(),
        count: 1,
        action,
        scheme: rule.map(|rule| rule.registration.name),
        rule: rule.map(|rule| rule.label.clone()),
        part: part.map(Part::name),
        stays: stays.as_ref().map(WhyStays::name),
        why: stays.map(|why| why.to_string()).or_else(|| part.map(|part| part.why().to_owned())),
        adapters: input
            .adapters()
            .into_iter()
            .map(|number| plan.checkpoint.adapters[number - 1].name.name.clone())
            .collect(),
        before: match input.quantized() {
            Some(source) => TensorForm::new(source.codes.parameter(), source.codes.dtype, &source.codes.shape),
            None => TensorForm::new(input.parameter(), input.dtype, &input.shape),
        },
        after: placed
            .iter()
            .map(|placed| {
                let suffix = models::split_name(&placed.entry.name).1;
                TensorForm::new(suffix, placed.entry.dtype, &placed.entry.shape)
            })
            .collect(),
        source_bytes: input.source_bytes(),
        output_bytes: placed.iter().map(|placed| placed.len).sum(),
    }
}

impl TensorForm {
    fn new(suffix: &str, dtype: Dtype, shape: &[usize]) -> Self {
        Self { suffix: suffix.to_owned(), dtype: format!("{dtype:?}"), shape: shape.to_vec() }
    }
}

/// `model.layers.12.mlp.up_proj.weight` → `model.layers.*.mlp.up_proj.weight`.
pub(crate) fn numbers_starred(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join(".")
}
