//! Families that the user adds, or corrects, without a build of the program.

use std::sync::{PoisonError, RwLock};

use super::family::FamilyFile;

/// The user's families, for the whole process, as its schemes are.
static ADDED: RwLock<AddedFamilies> = RwLock::new(AddedFamilies { by_command: Vec::new(), by_recipe: Vec::new() });

/// The user's families by who names their folder; those of the command line come first.
struct AddedFamilies {
    by_command: Vec<FamilyFile>,
    by_recipe: Vec<FamilyFile>,
}

/// Adds the families of the folder that the command line names.
pub fn add_by_command(families: Vec<FamilyFile>) {
    ADDED.write().unwrap_or_else(PoisonError::into_inner).by_command = families;
}

/// Adds the families of the folder that a recipe names, in place of those of the recipe before it.
pub fn add_by_recipe(families: Vec<FamilyFile>) {
    ADDED.write().unwrap_or_else(PoisonError::into_inner).by_recipe = families;
}

/// The user's families, in the order in which they are asked.
pub fn added() -> Vec<FamilyFile> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    added.by_command.iter().chain(&added.by_recipe).cloned().collect()
}
