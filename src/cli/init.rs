//! `qwen-fp8 init`: a first recipe for a checkpoint.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::args::{Init, InitScheme};
use super::screen::{Failure, Screen};
use super::source::open_checkpoint;
use crate::checkpoint::text::shown_path;
use crate::init::{DraftScales, InitError, Request, draft};
use crate::recipe::diagnostic::Level;

pub(super) fn init(args: &Init, screen: &Screen) -> Result<(), Failure> {
    let checkpoint = open_checkpoint(&args.model)?;
    let scales = args.scheme.map(|scheme| match scheme {
        InitScheme::Block => DraftScales::Blocks,
        InitScheme::Channel => DraftScales::Rows,
    });
    let request = Request { model: args.model.clone(), scales };
    let recipe = draft(checkpoint, &request).map_err(|error| refused(&error, screen))?;
    match &args.output {
        None => screen.data(&recipe),
        Some(path) => {
            write_new(path, &recipe)?;
            screen.say(&format!("wrote {}; `qwen-fp8 plan` shows what it does", shown_path(path)));
            Ok(())
        }
    }
}

fn refused(error: &InitError, screen: &Screen) -> Failure {
    if let InitError::Refused(refused) = error {
        let diagnostics: Vec<_> =
            refused.diagnostics.iter().filter(|diagnostic| diagnostic.level == Level::Error).cloned().collect();
        screen.diagnostics(&diagnostics, &refused.recipe.text);
    }
    Failure::input(error).with_help(&error.help())
}

/// Writes a file that was not there before.
fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    if !matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml")) {
        let text = format!("{} is no name for a recipe in YAML", shown_path(path));
        return Err(Failure::Run(text).with_help(&["end it in `.yaml`".to_owned()]));
    }
    let written = File::create_new(path).and_then(|mut file| {
        // A recipe that ends halfway may be one that quantizes something else.
        file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(path)))
    });
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::Run(format!("{} exists already", shown_path(path)))
            .with_help(&["name another file, or remove it first".to_owned()]),
        _ => Failure::Run(format!("{} cannot be written: {error}", shown_path(path))),
    })
}
