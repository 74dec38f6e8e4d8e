//! `qwen-fp8 schemes`: the schemes of this build.

mod conformance;
mod named;

use qwen_fp8_schemes::conformance::fewest_options;
use qwen_fp8_schemes::{Format, Make, Matrix, Registration, SourceDtype, registered};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

pub(super) use self::conformance::SchemesTestOutput;
use self::named::named;
use super::args::{SchemesArgs, SchemesCommand};
use super::error::CommandError;
use super::json::JsonOutput;
use super::screen::Screen;
use super::table::{Align, TextTable};
use super::wrap::{broken, width_of_stdout};
use crate::checkpoint::text::grouped;
use crate::plan::ServedForm;
use crate::plan::format::{format_name, wire_format};
use crate::recipe::options_schema;

/// Width of prose, in columns of a terminal.
const WIDTH: usize = 100;

/// The weight for which a scheme's tensors are shown.
const SAMPLE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 4096, columns: 12288 };

/// The schemes of this build, or the one that was named.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SchemesOutput {
    schemes: Vec<SchemeDescription>,
}

impl JsonOutput for SchemesOutput {
    const TITLE: &'static str = "Output of `qwen-fp8 schemes --json`";
}

/// A scheme: its options, its servers, and what it stores.
#[derive(Debug, Serialize, JsonSchema)]
struct SchemeDescription {
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    /// False where it leaves tensors as they are, or decodes them.
    quantizes: bool,
    /// The servers that have kernels for it.
    servers: &'static [&'static str],
    /// The oldest GPU generation that serves it, and what newer ones do better.
    gpu: &'static str,
    /// The JSON Schema of its options.
    options: Value,
    /// What it stores for a BF16 weight of 4096 x 12288 under the default options.
    layout: Vec<StoredTensor>,
}

pub(super) fn schemes(args: &SchemesArgs, screen: &Screen) -> Result<(), CommandError> {
    if let Some(SchemesCommand::Test(args)) = &args.command {
        return conformance::test(args, screen);
    }
    match &args.name {
        None if args.json => screen.json(&SchemesOutput { schemes: registered().into_iter().map(described).collect() }),
        None => {
            let texts = registered().into_iter().map(|scheme| {
                let aliases = match scheme.aliases {
                    [] => String::new(),
                    aliases => format!(" (also {})", aliases.join(", ")),
                };
                format!("{}{aliases}\n{}", scheme.name, indented(scheme.summary, 2))
            });
            screen.report(&texts.collect::<String>())
        }
        Some(name) => {
            let scheme = named(name)?;
            if args.json {
                screen.json(&SchemesOutput { schemes: vec![described(scheme)] })
            } else {
                screen.report(&render(scheme))
            }
        }
    }
}

fn described(scheme: &Registration) -> SchemeDescription {
    SchemeDescription {
        name: scheme.name,
        aliases: scheme.aliases,
        summary: scheme.summary,
        quantizes: matches!(scheme.make, Make::Quantize(_)),
        servers: scheme.servers.servers,
        gpu: scheme.servers.gpu,
        options: options_schema(scheme),
        layout: layout(scheme),
    }
}

fn render(scheme: &Registration) -> String {
    let mut text = format!("{}\n{}", scheme.name, indented(scheme.summary, 2));
    if !scheme.aliases.is_empty() {
        text.push_str(&format!("  also called {}\n", scheme.aliases.join(", ")));
    }
    let servers = match scheme.servers.servers {
        [] => "none known".to_owned(),
        servers => servers.join(", "),
    };
    text.push_str(&format!("  servers: {servers}\n"));
    // What follows the first line stands a step further in.
    text.push_str(&indented(&format!("GPU: {}", scheme.servers.gpu), 4)[2..]);
    text.push_str(&render_layout(&layout(scheme)));
    let schema = options_schema(scheme);
    let Some(options) = schema.get("properties").and_then(Value::as_object).filter(|options| !options.is_empty())
    else {
        text.push_str("  no options\n");
        return text;
    };
    text.push_str("  options:\n");
    for (name, option) in options {
        let about = option.get("description").and_then(Value::as_str).unwrap_or("");
        text.push_str(&format!("    {name}"));
        if let Some(default) = option.get("default").filter(|default| !default.is_null()) {
            text.push_str(&format!(" (default {default})"));
        }
        text.push('\n');
        text.push_str(&indented(about, 6));
    }
    text
}

/// One of the tensors that replace the sample's `weight` under default options.
#[derive(Debug, Serialize, JsonSchema)]
struct StoredTensor {
    format: &'static str,
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

/// The stored tensors in each format that can hold the scheme, under the fewest options that it can do with.
fn layout(scheme: &Registration) -> Vec<StoredTensor> {
    let (Make::Quantize(make), Ok(options)) = (scheme.make, fewest_options(scheme)) else { return Vec::new() };
    let mut layout = Vec::new();
    for format in [Format::Fp8, Format::CompressedTensors] {
        let wire = wire_format(format);
        let Ok(made) = make(options.clone(), format) else { continue };
        let form = ServedForm::of(&*made);
        if wire.admits(&form).is_err() {
            continue;
        }
        layout.extend(made.outputs(SAMPLE).into_iter().flatten().map(|spec| StoredTensor {
            format: format_name(format),
            name: wire.suffix(&form, spec.role, spec.suffix).to_owned(),
            dtype: spec.dtype.to_string(),
            shape: spec.shape.clone(),
            bytes: spec.bytes(),
        }));
    }
    layout
}

fn render_layout(layout: &[StoredTensor]) -> String {
    if layout.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        ("format", Align::Left),
        ("tensor", Align::Left),
        ("dtype", Align::Left),
        ("shape", Align::Left),
        ("bytes", Align::Right),
    ]);
    for stored in layout {
        let StoredTensor { format, name, dtype, shape, bytes } = stored;
        table.row([(*format).to_owned(), name.clone(), dtype.clone(), format!("{shape:?}"), grouped(*bytes as u64)]);
    }
    let Matrix { rows, columns, .. } = SAMPLE;
    let lines = table.blocks(4).concat();
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("  layout of a BF16 weight of {rows} x {columns}, under the default options:\n{lines}")
}

/// Breaks a text into lines of at most [`WIDTH`] columns, or of the terminal's, behind `spaces` spaces.
fn indented(text: &str, spaces: usize) -> String {
    let room = width_of_stdout().map_or(WIDTH, |width| width.min(WIDTH)).saturating_sub(spaces);
    broken(text, room).into_iter().map(|line| format!("{}{line}\n", " ".repeat(spaces))).collect()
}
