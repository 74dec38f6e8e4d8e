//! Folders of side files: those of the modules that `modules.json` names, and that of further chat templates.

use std::io;
use std::path::{Component, Path};

use serde::Deserialize;

use super::fate::{self, MODULES_FILE};
use super::listed::Listed;
use super::sorted::{SideFileError, Sorted};

/// The folder in which transformers keeps chat templates other than the default one.
const CHAT_TEMPLATES: &str = "additional_chat_templates";

/// Bytes of `modules.json` that are read at most: it has a line for each of a few modules.
const MAX_MODULES: u64 = 1 << 20;

/// Levels of folders below the checkpoint's directory; a router's modules lie two deep.
const MAX_DEPTH: usize = 4;

/// A folder that holds side files, by the first part of its path.
#[derive(Debug)]
pub(super) struct Folder {
    name: String,
    is_module: bool,
}

/// An entry of `modules.json`.
#[derive(Deserialize)]
struct ModuleEntry {
    /// Folder of the module; empty for the model itself.
    #[serde(default)]
    path: String,
}

/// Returns the folders that the model names or that loaders look into, whether they are there or not.
pub(super) fn named(files: &[Listed]) -> Result<Vec<Folder>, SideFileError> {
    let mut folders = vec![Folder { name: CHAT_TEMPLATES.to_owned(), is_module: false }];
    let Some(listing) = files.iter().find(|file| file.name == MODULES_FILE) else { return Ok(folders) };
    let text = listing.open().and_then(|file| file.read_small(MAX_MODULES));
    // What is no such list names no folder: the file itself is copied as it is.
    let modules: Vec<ModuleEntry> = serde_json::from_slice(&text.map_err(SideFileError::Source)?).unwrap_or_default();
    let listed = modules.iter().filter_map(|module| first_folder(&module.path));
    // sentence-transformers names them like this; a list that another tool has emptied does not make them useless.
    let numbered = files.iter().map(|file| file.name.as_str()).filter(|name| is_module_name(name));
    for name in listed.chain(numbered) {
        if !folders.iter().any(|folder| folder.name == name) {
            folders.push(Folder { name: name.to_owned(), is_module: true });
        }
    }
    Ok(folders)
}

/// The first part of a module's path; `None` for one that leads elsewhere or into a hidden folder, and for the model
/// itself, which has none.
fn first_folder(path: &str) -> Option<&str> {
    let is_below = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    let first = path.split('/').next().filter(|first| !first.is_empty() && !first.starts_with('.'));
    first.filter(|_| is_below)
}

/// Reports whether a name is like `1_Pooling` or `2_Dense`.
fn is_module_name(name: &str) -> bool {
    name.split_once('_').is_some_and(|(number, kind)| {
        !number.is_empty()
            && number.bytes().all(|c| c.is_ascii_digit())
            && kind.starts_with(|c: char| c.is_ascii_uppercase())
    })
}

impl Folder {
    /// Reports whether the entry of the checkpoint's directory is this folder.
    pub(super) fn is_at(&self, entry: &Listed) -> bool {
        entry.is_utf8 && entry.name == self.name && entry.is_dir()
    }

    /// Sorts the files of the folder and of those in it.
    pub(super) fn sort_out(&self, folder: &Listed, sorted: &mut Sorted) -> Result<(), SideFileError> {
        self.sort_out_at(folder, 1, sorted)
    }

    fn sort_out_at(&self, folder: &Listed, depth: usize, sorted: &mut Sorted) -> Result<(), SideFileError> {
        let unreadable = |error: io::Error| SideFileError::Folder { name: folder.name.clone(), error };
        let mut files = folder.entries().map_err(unreadable)?;
        let has_safetensors = files.iter().any(|file| file.name.ends_with(".safetensors"));
        for file in &mut files {
            let is_hidden = file.name.starts_with('.');
            file.name = format!("{}/{}", folder.name, file.name);
            if self.is_module && depth < MAX_DEPTH && file.is_utf8 && !is_hidden && file.is_dir() {
                self.sort_out_at(file, depth + 1, sorted)?;
                continue;
            }
            let fate =
                if self.is_module { fate::in_module(file, has_safetensors) } else { fate::in_chat_templates(file) };
            sorted.take(file, fate)?;
        }
        Ok(())
    }
}
