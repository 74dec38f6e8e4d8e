//! `qwen-fp8 inspect`: the content of a checkpoint, by layer kind and dtype.

use schemars::JsonSchema;
use serde::Serialize;

use super::args::InspectArgs;
use super::error::CommandError;
use super::json::JsonOutput;
use super::screen::Screen;
use super::source::open_checkpoint;
use super::table::{Align, TextTable};

use crate::checkpoint::text::{count, grouped, human, unquoted};
use crate::checkpoint::{Checkpoint, HeadersFile, KindSummary};

/// The content of a checkpoint.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct InspectOutput {
    directory: String,
    architectures: Vec<String>,
    /// The way in which it is quantized already; null where it is not.
    quantized: Option<String>,
    /// The number of tensors.
    tensors: usize,
    /// Bytes of all tensors.
    bytes: u64,
    shards: Vec<InspectedShard>,
    kinds: Vec<InspectedKind>,
    side_files: Vec<String>,
    /// Files that `apply` would not copy.
    left_out: Vec<LeftOutFile>,
}

impl JsonOutput for InspectOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 inspect --json`";
}

#[derive(Debug, Serialize, JsonSchema)]
struct InspectedShard {
    name: String,
    bytes: u64,
}

/// The tensors of one layer kind and dtype.
#[derive(Debug, Serialize, JsonSchema)]
struct InspectedKind {
    kind: &'static str,
    dtype: String,
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LeftOutFile {
    name: String,
    why: String,
}

impl InspectOutput {
    fn new(checkpoint: &Checkpoint, kinds: &[KindSummary], bytes: u64) -> Self {
        let shards = checkpoint.shards.iter();
        let left_out = checkpoint.left_out.iter();
        Self {
            directory: checkpoint.dir.to_string_lossy().into_owned(),
            architectures: checkpoint.config.architectures().iter().map(ToString::to_string).collect(),
            quantized: checkpoint.quantized.clone(),
            tensors: checkpoint.tensors.len(),
            bytes,
            shards: shards.map(|shard| InspectedShard { name: shard.name.clone(), bytes: shard.size }).collect(),
            kinds: kinds.iter().map(InspectedKind::new).collect(),
            side_files: checkpoint.side_files.iter().map(|file| file.name.clone()).collect(),
            left_out: left_out.map(|(name, why)| LeftOutFile { name: name.clone(), why: why.to_string() }).collect(),
        }
    }
}

impl InspectedKind {
    fn new(kind: &KindSummary) -> Self {
        let &KindSummary { kind, dtype, tensors, parameters, bytes } = kind;
        Self { kind: kind.name(), dtype: format!("{dtype:?}"), tensors, parameters, bytes }
    }
}

pub(super) fn inspect(args: &InspectArgs, screen: &Screen) -> Result<(), CommandError> {
    let checkpoint = open_checkpoint(&args.model)?;
    if args.headers {
        let headers =
            HeadersFile::of(&checkpoint).map_err(|error| CommandError::input(&error).with_help(&error.help()))?;
        return screen.json_text(&headers.text().map_err(|error| CommandError::run(&error))?);
    }
    let kinds = checkpoint.by_layer_kind();
    let bytes: u64 = checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    if args.json {
        return screen.json(&InspectOutput::new(&checkpoint, &kinds, bytes));
    }
    let mut table = TextTable::new(&[
        ("kind", Align::Left),
        ("dtype", Align::Left),
        ("tensors", Align::Right),
        ("parameters", Align::Right),
        ("bytes", Align::Right),
    ]);
    for kind in &kinds {
        table.row([
            kind.kind.to_string(),
            format!("{:?}", kind.dtype),
            kind.tensors.to_string(),
            grouped(kind.parameters),
            grouped(kind.bytes),
        ]);
    }
    let architectures: Vec<String> =
        checkpoint.config.architectures().iter().map(|name| unquoted(name).to_string()).collect();
    let tensors = if screen.verbose { format!("\n{}", every_tensor(&checkpoint).render()) } else { String::new() };
    screen.report(&format!(
        "{}: {}, {} ({} bytes), {}; {}\n{}\n{}{tensors}",
        if architectures.is_empty() { "no architecture named".to_owned() } else { architectures.join(", ") },
        count(checkpoint.tensors.len(), "tensor"),
        human(bytes),
        grouped(bytes),
        count(checkpoint.shards.len(), "shard"),
        count(checkpoint.side_files.len(), "side file"),
        checkpoint.quantized.as_ref().map_or_else(String::new, |how| format!("quantized already: {how}\n")),
        table.render(),
    ))
}

/// A line for each tensor, in the order of the shards.
fn every_tensor(checkpoint: &Checkpoint) -> TextTable {
    let mut table = TextTable::new(&[
        ("tensor", Align::Left),
        ("kind", Align::Left),
        ("dtype", Align::Left),
        ("shape", Align::Left),
        ("shard", Align::Left),
    ]);
    for tensor in &checkpoint.tensors {
        table.row([
            unquoted(&tensor.name).to_string(),
            tensor.kind().to_string(),
            format!("{:?}", tensor.dtype),
            format!("{:?}", tensor.shape),
            checkpoint.shards[tensor.shard].name.clone(),
        ]);
    }
    table
}
