//! `qwen-fp8 schemes` and `qwen-fp8 schema`: the schemes of this build, for people and for editors.

mod conformance;
mod named;

use qwen_fp8_schemes::{Format, Make, Matrix, Registration, SourceDtype, registered};
use serde::Serialize;
use serde_json::{Value, json};

use self::named::named;
use super::args::{SchemaArgs, SchemesArgs, SchemesCommand};
use super::editor_schema;
use super::error::CommandError;
use super::screen::Screen;
use super::table::{Align, TextTable};
use crate::checkpoint::text::shown_path;
use crate::plan::format::{format_name, wire_format};
use crate::recipe::{options_schema, recipe_schema};

/// Width of prose, in columns of a terminal.
const WIDTH: usize = 100;

/// The weight for which a scheme's tensors are shown.
const SAMPLE: Matrix = Matrix { dtype: SourceDtype::Bf16, rows: 4096, columns: 12288 };

pub(super) fn schema(args: &SchemaArgs, screen: &Screen) -> Result<(), CommandError> {
    if !args.install {
        return screen.json(&recipe_schema());
    }
    let path = editor_schema::install().map_err(|error| CommandError::run(&error))?;
    screen.say(&format!("wrote {}; a recipe names it in its first line, in YAML or in TOML:", shown_path(&path)));
    let address = editor_schema::address(&path);
    screen.data(&format!("# yaml-language-server: $schema={address}\n#:schema {address}\n"))
}

pub(super) fn schemes(args: &SchemesArgs, screen: &Screen) -> Result<(), CommandError> {
    if let Some(SchemesCommand::Test(args)) = &args.command {
        return conformance::test(args, screen);
    }
    match &args.name {
        None if args.json => screen.json(&registered().into_iter().map(described).collect::<Vec<_>>()),
        None => {
            let texts = registered().into_iter().map(|scheme| {
                let aliases = match scheme.aliases {
                    [] => String::new(),
                    aliases => format!(" (also {})", aliases.join(", ")),
                };
                format!("{}{aliases}\n{}", scheme.name, indented(scheme.summary, 2))
            });
            screen.data(&texts.collect::<String>())
        }
        Some(name) => {
            let scheme = named(name)?;
            if args.json { screen.json(&described(scheme)) } else { screen.data(&render(scheme)) }
        }
    }
}

fn described(scheme: &Registration) -> Value {
    json!({
        "name": scheme.name,
        "aliases": scheme.aliases,
        "summary": scheme.summary,
        "quantizes": matches!(scheme.make, Make::Quantize(_)),
        "servers": scheme.servers.servers,
        "gpu": scheme.servers.gpu,
        "options": options_schema(scheme),
        "layout": layout(scheme),
    })
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
#[derive(Debug, Serialize)]
struct StoredTensor {
    format: &'static str,
    name: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: usize,
}

/// The stored tensors in each format that can hold the scheme; none where an option has no default.
fn layout(scheme: &Registration) -> Vec<StoredTensor> {
    let Make::Quantize(make) = scheme.make else { return Vec::new() };
    let mut layout = Vec::new();
    for format in [Format::Fp8, Format::CompressedTensors] {
        let wire = wire_format(format);
        let Some(made) = make(json!({}), format).ok().filter(|made| wire.admits(&**made).is_ok()) else { continue };
        layout.extend(made.outputs(SAMPLE).into_iter().flatten().map(|spec| StoredTensor {
            format: format_name(format),
            name: wire.suffix(&*made, &spec).to_owned(),
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
        table.row([(*format).to_owned(), name.clone(), dtype.clone(), format!("{shape:?}"), bytes.to_string()]);
    }
    let Matrix { rows, columns, .. } = SAMPLE;
    let lines: String = table.render().lines().map(|line| format!("    {line}\n")).collect();
    format!("  layout of a BF16 weight of {rows} x {columns}, under the default options:\n{lines}")
}

/// Breaks a text into lines of at most [`WIDTH`] columns behind `spaces` spaces.
fn indented(text: &str, spaces: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= WIDTH) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(" ".repeat(spaces) + word),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
