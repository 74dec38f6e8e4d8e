//! `qwen-fp8 init`: a first recipe for a checkpoint.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::args::{InitArgs, InitScheme};
use super::budget;
use super::editor_schema::{self, EditorSchema};
use super::error::CommandError;
use super::fit;
use super::next_steps::typed;
use super::screen::Screen;
use super::source::open_checkpoint;
use super::undrafted::refused;
use crate::checkpoint::nearest_path::nearest_path;
use crate::checkpoint::text::{shown, shown_path};
use crate::init::{DraftGranularity, Request, draft};

pub(super) fn init(args: &InitArgs, screen: &Screen) -> Result<(), CommandError> {
    let checkpoint = open_checkpoint(&args.model)?;
    let granularity = args.scheme.map(|scheme| match scheme {
        InitScheme::Block => DraftGranularity::Block,
        InitScheme::Channel => DraftGranularity::Channel,
    });
    let schema = editor_schema::installed(EditorSchema::Recipe, "recipe", screen);
    let request = Request { model: args.model.clone(), schema, granularity };
    let recipe = match args.budget.fit {
        None => draft(checkpoint, &request).map_err(|error| refused(&error, screen))?,
        Some(vram) => {
            // Measuring takes minutes; what would fail behind it is told before.
            args.output.as_deref().map_or(Ok(()), can_be_new)?;
            fit::say_if_decimal(vram, screen);
            budget::draft(&checkpoint, vram, args, request, screen)?
        }
    };
    match &args.output {
        None => screen.data(&recipe),
        Some(path) => {
            write_new(path, &recipe)?;
            screen.say(&format!("wrote {}; `qwen-fp8 plan` shows what it does", shown_path(path)));
            Ok(())
        }
    }
}

/// Checks what can be told of a file that is to be written before there is anything to write.
fn can_be_new(path: &Path) -> Result<(), CommandError> {
    if !matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml")) {
        let text = format!("{} is not the name of a YAML file", shown_path(path));
        return Err(CommandError::Run(text).with_help(&["let the name end in `.yaml`".to_owned()]));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match (path.symlink_metadata(), folder) {
        (Ok(_), _) => Err(exists(path)),
        (Err(_), Some(folder)) if !folder.exists() => Err(without_folder(path)),
        _ => Ok(()),
    }
}

/// Writes a file that must not exist yet.
fn write_new(path: &Path, text: &str) -> Result<(), CommandError> {
    can_be_new(path)?;
    let written = File::create_new(path).and_then(|mut file| {
        // A recipe that ends halfway may be one that quantizes something else.
        file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(path)))
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        io::ErrorKind::NotFound => without_folder(path),
        _ => CommandError::Run(format!("{} cannot be written: {error}", shown_path(path))),
    })
}

fn exists(path: &Path) -> CommandError {
    let help = "name another file, or remove it first";
    CommandError::Run(format!("{} exists already", shown_path(path))).with_help(&[help.to_owned()])
}

/// The failure to write a file into a folder that does not exist.
fn without_folder(path: &Path) -> CommandError {
    let folder = path.parent().unwrap_or(Path::new(""));
    let near = nearest_path(folder, Path::is_dir).map(|near| near.join(path.file_name().unwrap_or_default()));
    let mut help: Vec<String> = near.map(|near| format!("did you mean {}?", shown_path(&near))).into_iter().collect();
    let make = typed(folder).map(|folder| format!("mkdir -p {folder}"));
    help.extend(make.map(|make| format!("make the folder first, with {}", shown(&make))));
    let text = format!("{} cannot be written: {} does not exist", shown_path(path), shown_path(folder));
    CommandError::Run(text).with_help(&help)
}
