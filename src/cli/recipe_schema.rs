//! `qwen-fp8 schema --for`: the schema beside a recipe, and the line by which the recipe names it to editors.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::args::SchemaForArgs;
use super::editor_schema::{EditorSchema, address};
use super::error::CommandError;
use super::screen::Screen;
use crate::checkpoint::text::{shown, shown_path};
use crate::recipe::{RecipeText, recipe_schema};

/// The name of the schema beside a recipe.
const BESIDE: &str = "recipe.schema.json";

/// The beginnings of lines that name a schema, in YAML and in TOML.
const MARKS: [&str; 2] = ["# yaml-language-server: $schema=", "#:schema "];

/// Writes the schema, and prints the line for the recipe or puts it in.
pub(super) fn write_for(recipe: &Path, args: &SchemaForArgs, screen: &Screen) -> Result<(), CommandError> {
    if !RecipeText::is_by_ending(recipe) {
        let help = "a recipe ends in .yaml, .yml or .toml; `schema --install` is for recipes that come from elsewhere";
        return Err(CommandError::Usage(format!("{} is not the name of a recipe", shown_path(recipe)))
            .with_help(&[help.to_owned()]));
    }
    let text = RecipeText::read(recipe).map_err(|refused| {
        screen.diagnostics(&refused.diagnostics, &refused.text);
        CommandError::Reported
    })?;
    let folder = recipe.parent().unwrap_or(Path::new(""));
    let schema = args.to.clone().unwrap_or_else(|| folder.join(BESIDE));
    write_schema(&schema)?;
    let line = format!("{}{}", MARKS[usize::from(text.is_toml())], named(&schema, folder)?);
    let named = text.text.lines().take_while(|line| line.starts_with('#')).find(|line| names_a_schema(line));
    match named {
        Some(there) if there.trim_end() == line => {
            screen.say(&format!("{} names it already", shown_path(recipe)));
            Ok(())
        }
        Some(there) if args.add => {
            let message = format!("{} names another schema: {}", shown_path(recipe), shown(there.trim_end()));
            Err(CommandError::Input(message).with_help(&[format!("put this in its place: {}", shown(&line))]))
        }
        None if args.add => {
            put_in(recipe, &line)?;
            screen.say(&format!("{} names it in its first line", shown_path(recipe)));
            Ok(())
        }
        _ => {
            let place = if named.is_some() { "in place of the line that names another" } else { "as its first line" };
            screen.say(&format!("to name it, put this into {} {place}:", shown_path(recipe)));
            screen.data(&format!("{line}\n"))
        }
    }
}

fn names_a_schema(line: &str) -> bool {
    let packed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    packed.starts_with("#yaml-language-server:") || packed.starts_with("#:schema")
}

/// The schema as the recipe names it: by its name beside the recipe, so that both may move, else by its address.
fn named(schema: &Path, folder: &Path) -> Result<String, CommandError> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let path = fs::canonicalize(schema).map_err(|error| unwritten(schema, &error))?;
    let is_beside = fs::canonicalize(here).is_ok_and(|here| path.parent() == Some(&here));
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    Ok(match schema.file_name().and_then(|name| name.to_str()) {
        Some(name) if is_beside && is_plain(name) => format!("./{name}"),
        _ => address(&path),
    })
}

/// Writes the schema of this build; a file that is there must be such a schema, of whatever version.
fn write_schema(path: &Path) -> Result<(), CommandError> {
    let text = EditorSchema::Recipe.text();
    match fs::read(path) {
        Ok(there) if there == text.as_bytes() => return Ok(()),
        Ok(there) => {
            let there: serde_json::Value = serde_json::from_slice(&there).unwrap_or_default();
            if there["title"].as_str() != recipe_schema()["title"].as_str() {
                let message = format!("{} is there already, and no schema of recipes", shown_path(path));
                return Err(CommandError::Run(message).with_help(&["`--to FILE` gives it another name".to_owned()]));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unwritten(path, &error)),
    }
    replace(path, text.as_bytes()).map_err(|error| unwritten(path, &error))
}

/// Puts a line before all others of a file.
fn put_in(recipe: &Path, line: &str) -> Result<(), CommandError> {
    // The file that a link leads to, and not the link.
    let written = fs::canonicalize(recipe).and_then(|path| {
        let bytes = fs::read(&path)?;
        let mark = "\u{feff}".as_bytes();
        let (mark, rest) = if bytes.starts_with(mark) { bytes.split_at(mark.len()) } else { (&[][..], &bytes[..]) };
        let end: &[u8] = if rest.windows(2).any(|pair| pair == b"\r\n") { b"\r\n" } else { b"\n" };
        replace(&path, &[mark, line.as_bytes(), end, rest].concat())
    });
    written.map_err(|error| unwritten(recipe, &error))
}

/// Replaces a file by a rename, so that whoever reads it meanwhile finds all of it; its permissions stay.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(format!(".{}.partial", std::process::id()));
    let staged: PathBuf = path.with_file_name(name);
    let permissions = fs::metadata(path).ok().map(|found| found.permissions());
    fs::write(&staged, bytes)
        .and_then(|()| permissions.map_or(Ok(()), |permissions| fs::set_permissions(&staged, permissions)))
        .and_then(|()| fs::rename(&staged, path))
        .inspect_err(|_| drop(fs::remove_file(&staged)))
}

fn unwritten(path: &Path, error: &io::Error) -> CommandError {
    CommandError::Run(format!("{} cannot be written: {error}", shown_path(path)))
}
