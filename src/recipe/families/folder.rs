//! The files of a folder of families.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::nearest_path::nearest_path;
use crate::checkpoint::text::{count, shown, shown_path};

/// The most files of a folder.
const MOST_FILES: usize = 1000;

/// Returns the `.yaml` files of a folder in the order of their names, or what is wrong with it, with help.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, (String, Vec<String>)> {
    let said = shown_path(folder);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return Err(not_read(folder, &error)),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_family(path)).collect();
    paths.sort();
    if paths.is_empty() {
        let what = format!("the directory of families {said} has no `.yaml` file in it");
        return Err((what, vec![first_file(folder)]));
    }
    if paths.len() > MOST_FILES {
        let what = format!(
            "the directory of families {said} has {}, more than the limit of {MOST_FILES}",
            count(paths.len(), "file")
        );
        return Err((what, vec!["leave out what is built in: `qwen-fp8 models` lists it".to_owned()]));
    }
    Ok(paths)
}

fn not_read(folder: &Path, error: &io::Error) -> (String, Vec<String>) {
    let said = shown_path(folder);
    if folder.exists() && !folder.is_dir() {
        let what = format!("{said} is a file, and families are read from a directory");
        let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let help = match is_family(folder) {
            true => format!("name {}, in which it lies; every `.yaml` file there is read", shown_path(parent)),
            false => first_file(Path::new("models")),
        };
        return (what, vec![help]);
    }
    if error.kind() != io::ErrorKind::NotFound {
        return (format!("the directory of families {said} cannot be read: {error}"), Vec::new());
    }
    let what = format!("the directory of families {said} does not exist");
    match nearest_path(folder, Path::is_dir) {
        Some(near) => (what, vec![format!("did you mean {}?", shown_path(&near))]),
        None => (what, vec![first_file(folder)]),
    }
}

/// The command that makes the first file of a folder.
fn first_file(folder: &Path) -> String {
    let file = folder.join("my_model.yaml");
    let make = if folder.is_dir() { String::new() } else { format!("mkdir -p {} && ", folder.display()) };
    let command = format!("{make}qwen-fp8 models --draft DIR > {}", file.display());
    format!("a file is drafted from a checkpoint: {}", shown(&command))
}

fn is_family(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml")
}
