//! `qwen-fp8 inspect`: the content of a checkpoint, by layer kind and dtype.

use serde_json::json;

use super::args::InspectArgs;
use super::error::CommandError;
use super::screen::Screen;
use super::source::open_checkpoint;
use super::table::{Align, TextTable};
use crate::checkpoint::text::{count, grouped, human, unquoted};

pub(super) fn inspect(args: &InspectArgs, screen: &Screen) -> Result<(), CommandError> {
    let checkpoint = open_checkpoint(&args.model)?;
    let kinds = checkpoint.by_layer_kind();
    let bytes: u64 = checkpoint.tensors.iter().map(|tensor| tensor.len).sum();
    if args.json {
        return screen.json(&json!({
            "directory": checkpoint.dir.to_string_lossy(),
            "architectures": checkpoint.config.architectures(),
            "quantized": checkpoint.quantized,
            "tensors": checkpoint.tensors.len(),
            "bytes": bytes,
            "shards": checkpoint.shards.iter().map(|shard| json!({ "name": shard.name, "bytes": shard.size })).collect::<Vec<_>>(),
            "kinds": kinds.iter().map(|kind| json!({
                "kind": kind.kind.name(),
                "dtype": kind.dtype,
                "tensors": kind.tensors,
                "parameters": kind.parameters,
                "bytes": kind.bytes,
            })).collect::<Vec<_>>(),
            "side_files": checkpoint.side_files.iter().map(|file| &file.name).collect::<Vec<_>>(),
            "left_out": checkpoint.left_out.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect::<Vec<_>>(),
        }));
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
    screen.data(&format!(
        "{}: {}, {} ({} bytes), {}; {}\n{}\n{}",
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
