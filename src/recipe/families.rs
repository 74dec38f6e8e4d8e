//! The user's own files of families: a folder of YAML texts, each validated against the schema of such files.

mod folder;
mod hints;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::checkpoint::models::catalogue::{COMMON, FILES, FamilyFile, added, built_in_names, stem};
use crate::checkpoint::text::{nearest_word, shown, shown_path};
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::error::RecipeError;
use crate::recipe::file;
use crate::recipe::language::Language;
use crate::recipe::text::RecipeText;
use crate::recipe::validate::Validation;

use hints::FamilyHints;
use schema::SCHEMA;

/// The refusal of a folder of families.
#[derive(Debug)]
pub enum FamiliesError {
    /// The folder itself cannot be used: what is wrong, and help, one line each.
    Folder(String, Vec<String>),
    /// Files in it are wrong, each with all of its diagnostics.
    Files(Vec<RecipeError>),
}

/// A file of a family that is right by itself.
struct ReadFamily {
    family: FamilyFile,
    document: Document,
    text: RecipeText,
}

/// Reads the families of a folder, a `.yaml` file each, in the order of their names.
///
/// # Errors
/// The folder cannot be used, or files are wrong by themselves or beside one another.
pub fn read_families(folder: &Path) -> Result<Vec<FamilyFile>, FamiliesError> {
    let paths = folder::files(folder).map_err(|(what, help)| FamiliesError::Folder(what, help))?;
    let (mut read, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        match read_one(&path) {
            Ok(family) => read.extend(family),
            Err(error) => refused.push(error),
        }
    }
    if refused.is_empty() {
        refused = beside_one_another(&read);
    }
    if refused.is_empty() {
        Ok(read.into_iter().map(|read| read.family).collect())
    } else {
        Err(FamiliesError::Files(refused))
    }
}

/// Reads one file; `None` for a copy of the file that holds for all models.
fn read_one(path: &Path) -> Result<Option<ReadFamily>, RecipeError> {
    let text = file::read(path, "the file").map_err(|diagnostic| RecipeError::of_file(path, diagnostic))?;
    let document = match Language::Yaml.parse(&text.text) {
        Ok(document) => document,
        Err(diagnostic) => return Err(RecipeError::new(text, vec![diagnostic])),
    };
    let is_common = path.file_stem().is_some_and(|stem| stem == COMMON);
    if is_common && FILES.iter().any(|(name, built_in)| *name == COMMON && *built_in == text.text) {
        return Ok(None);
    }
    match understood(&document, &path.to_string_lossy(), is_common) {
        Ok(family) => {
            let lines = lines_of_patterns(&family, &document, &text);
            Ok(Some(ReadFamily { family: FamilyFile { lines, ..family }, document, text }))
        }
        Err(diagnostics) => Err(RecipeError::new(text, diagnostics)),
    }
}

/// The lines of what `plan` may have to name: classes, patterns, fused layers and beginnings of names.
fn lines_of_patterns(family: &FamilyFile, document: &Document, text: &RecipeText) -> BTreeMap<String, usize> {
    let patterns = family.patterns().into_iter().map(|placed| placed.pointer);
    let fused = (0..family.fused.len()).map(|at| format!("/fused/{at}/parts"));
    let served = (0..family.served.len()).map(|at| format!("/served/{at}/on_disk"));
    let classes = (0..family.architectures.len()).map(|at| format!("/architectures/{at}"));
    let line = |pointer: &str| text.text[..document.spans.value(pointer).start].matches('\n').count() + 1;
    patterns.chain(fused).chain(served).chain(classes).map(|pointer| (pointer.clone(), line(&pointer))).collect()
}

fn understood(document: &Document, origin: &str, is_common: bool) -> Result<FamilyFile, Vec<Diagnostic>> {
    const LEAST: &str = "it needs `name:` and `architectures:` at least; `qwen-fp8 models --draft DIR` prints a first \
                         one for a checkpoint";
    let at = |pointer: &str| document.spans.value(pointer);
    match &document.value {
        Value::Object(root) if !root.is_empty() => {}
        Value::Object(_) | Value::Null => return Err(vec![Diagnostic::error("the file is empty").help(LEAST)]),
        _ => return Err(vec![Diagnostic::error("the file must be a map").at(at("")).help(LEAST)]),
    }
    let mut validation = Validation::new(document, &FamilyHints);
    validation.form(&SCHEMA);
    let validated = validation.finish();
    if !validated.diagnostics.is_empty() {
        return Err(validated.diagnostics);
    }
    let family: FamilyFile = serde_json::from_value(document.value.clone())
        .map_err(|error| vec![Diagnostic::error(format!("the file cannot be understood: {error}"))])?;
    let mut diagnostics: Vec<Diagnostic> = family
        .faults()
        .into_iter()
        .map(|fault| {
            fault.help.into_iter().fold(Diagnostic::error(fault.reason).at(at(&fault.pointer)), Diagnostic::help)
        })
        .collect();
    if family.architectures.is_empty() && family.model_types.is_empty() {
        diagnostics.push(match is_common {
            true => Diagnostic::error("what holds for every model is built in")
                .help("leave this file out, and write what is different into the file of a family"),
            false => {
                Diagnostic::error("the file names no `architectures` and no `model_types`: no model is of this family")
                    .at(at("/name"))
                    .help("add `architectures:`, the list in the model's config.json")
            }
        });
    }
    if diagnostics.is_empty() { Ok(FamilyFile { origin: origin.to_owned(), ..family }) } else { Err(diagnostics) }
}

/// Finds what is wrong with files beside one another: two that claim one class, and families that are like none.
fn beside_one_another(read: &[ReadFamily]) -> Vec<RecipeError> {
    let mut owners: BTreeMap<(&str, &str), &Path> = BTreeMap::new();
    let mut refused = Vec::new();
    for one in read {
        let mut diagnostics = Vec::new();
        for (key, names) in [("architectures", &one.family.architectures), ("model_types", &one.family.model_types)] {
            for (at, name) in names.iter().enumerate() {
                if let Some(owner) = owners.insert((key, name), &one.text.path) {
                    let message = format!("{} is claimed by {} as well", shown(name), shown_path(owner));
                    let place = one.document.spans.value(&child(&child("", key), at));
                    diagnostics.push(Diagnostic::error(message).at(place).help("take it out of one of the two files"));
                }
            }
        }
        diagnostics.extend(unlike(one, read));
        if !diagnostics.is_empty() {
            refused.push(RecipeError::new(one.text.clone(), diagnostics));
        }
    }
    refused
}

/// The diagnostic of a family that is like none, or like itself by way of others.
fn unlike(one: &ReadFamily, read: &[ReadFamily]) -> Option<Diagnostic> {
    let like = one.family.like.as_deref()?;
    let place = one.document.spans.value("/like");
    let own = stem(&one.family);
    let before = added();
    let users: Vec<&FamilyFile> = read.iter().map(|read| &read.family).chain(&before).collect();
    if own == Some(like) && built_in_names().any(|name| name == like) {
        return None;
    }
    let names = users.iter().filter_map(|family| stem(family)).map(str::to_owned);
    let names = names.chain(built_in_names().map(str::to_owned));
    let others: Vec<String> = names.filter(|name| own != Some(name)).collect();
    if !others.iter().any(|name| name == like) {
        let message = format!("no other family's file is called {}", shown(like));
        let near = nearest_word(like, others.iter().map(String::as_str));
        return Some(Diagnostic::error(message).at(place).help(match near.filter(|_| own != Some(like)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "it is the name of a file without `.yaml`: `qwen-fp8 models` lists them".to_owned(),
        }));
    }
    let mut seen = vec![own?];
    let mut next = Some(like);
    while let Some(name) = next {
        if seen.contains(&name) {
            seen.push(name);
            return Some(Diagnostic::error(format!("{} go round in a circle", seen.join(" → "))).at(place));
        }
        // No circle is built in, and by its own name a file means that one.
        let of_user = users.iter().find(|family| stem(family) == Some(name));
        next = of_user.and_then(|family| family.like.as_deref()).filter(|like| *like != name);
        seen.push(name);
    }
    None
}
