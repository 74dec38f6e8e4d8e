//! Finds the recipe that a path was meant to name where there is none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::hub::{HubEnvironment, parse_id};
use crate::checkpoint::nearest_path::{nearest_entry, nearest_path, with_home};
use crate::checkpoint::text::{shown, shown_path};

/// The extensions of recipes.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "toml"];
/// The directory of ready recipes, where the command runs in a clone.
const READY: &str = "recipes";
/// The number of recipes that are named.
const SHOWN: usize = 4;

/// Returns help, one line each, for the path of a recipe that does not exist.
pub(super) fn instead_of_missing(path: &Path) -> Vec<String> {
    if let Some(meant) = recipe_meant(path) {
        return vec![format!("did you mean {}?", shown_path(&meant))];
    }
    let text = path.to_string_lossy();
    if !has_extension(path) && text.contains('/') && parse_id(&text).is_some() {
        return of_checkpoint(&text);
    }
    vec!["`qwen-fp8 init DIR --output mine.yaml` writes a first recipe".to_owned()]
}

/// Returns help, one line each, for a directory in place of a recipe.
pub(super) fn instead_of_directory(path: &Path) -> Vec<String> {
    if path.join("config.json").is_file() {
        return of_checkpoint(&path.to_string_lossy());
    }
    let entries = fs::read_dir(path).into_iter().flatten().take(1_000).flatten().map(|entry| entry.path());
    let mut recipes: Vec<PathBuf> = entries.filter(|path| is_recipe(path)).collect();
    recipes.sort_unstable();
    let names: Vec<String> = recipes.iter().take(SHOWN).map(|path| shown_path(path).to_string()).collect();
    match (&names[..], recipes.len().saturating_sub(SHOWN)) {
        ([], _) => Vec::new(),
        ([only], _) => vec![format!("did you mean {only}?")],
        (names, 0) => vec![format!("the recipes in it are {}", names.join(", "))],
        (names, more) => vec![format!("the recipes in it are {} and {more} more", names.join(", "))],
    }
}

/// Help for a checkpoint in place of a recipe.
fn of_checkpoint(model: &str) -> Vec<String> {
    vec![
        "a recipe comes first, and a checkpoint after `--model`".to_owned(),
        format!("{} writes a first recipe", shown(&format!("qwen-fp8 init {model} --output mine.yaml"))),
    ]
}

fn recipe_meant(path: &Path) -> Option<PathBuf> {
    let at_home = with_home(path, HubEnvironment::of_process().home.as_deref());
    let wanted = at_home.as_deref().unwrap_or(path);
    let name = wanted.file_name()?.to_str()?;
    let name = if has_extension(wanted) { name.to_owned() } else { format!("{name}.yaml") };
    let ready = ready_folders();
    at_home
        .iter()
        .cloned()
        .chain(EXTENSIONS.map(|extension| wanted.with_extension(extension)))
        .chain(ready.iter().map(|folder| folder.join(&name)))
        .find(|path| is_recipe(path))
        .or_else(|| nearest_path(wanted, is_recipe))
        .or_else(|| ready.iter().find_map(|folder| nearest_entry(folder, &name, is_recipe)))
}

/// The directory of ready recipes and those in it.
fn ready_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(READY).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort_unstable();
    folders.insert(0, PathBuf::from(READY));
    folders
}

fn is_recipe(path: &Path) -> bool {
    has_extension(path) && path.is_file()
}

fn has_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}
