//! Families that the user adds, or corrects, without a build of the program.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use super::family::FamilyFile;
use super::family_text::{FamilyError, parse};
use crate::text::{nearest_word, unquoted};

/// The user's families, for the whole process, as its schemes are.
static ADDED: RwLock<Vec<FamilyFile>> = RwLock::new(Vec::new());

/// The most bytes of a family's file.
const MOST_BYTES: u64 = 1 << 20;

/// The most files of a folder.
const MOST_FILES: usize = 1000;

/// Adds the families of a folder, a `.yaml` file each; they come before those that are built in. Returns their number.
/// `common` has name and text of the file that holds for all models, which a copy of `models/` has too; `built_in` are the
/// names of all files that are built in.
///
/// # Errors
/// The folder or a file cannot be read, or a file is none of a family, or is like one that does not exist. No family of the
/// folder is added then.
pub(super) fn add_folder(folder: &Path, common: (&str, &str), built_in: &[&str]) -> Result<usize, FamilyError> {
    let failed = |path: &Path, reason: String| FamilyError { file: path.to_string_lossy().into_owned(), reason };
    let entries = fs::read_dir(folder).map_err(|error| failed(folder, error.to_string()))?;
    let is_family = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml" || end == "yml");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_family).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(failed(folder, "there is no `.yaml` file in it".to_owned()));
    }
    if paths.len() > MOST_FILES {
        return Err(failed(folder, format!("it has {} files, more than the limit of {MOST_FILES}", paths.len())));
    }
    let mut families = Vec::new();
    for path in paths {
        let mut text = String::new();
        let file = fs::File::open(&path).and_then(|file| {
            // A FIFO would be waited for.
            if !file.metadata()?.is_file() {
                return Err(std::io::Error::other("it is no regular file"));
            }
            file.take(MOST_BYTES + 1).read_to_string(&mut text)
        });
        file.map_err(|error| failed(&path, error.to_string()))?;
        if text.len() as u64 > MOST_BYTES {
            return Err(failed(&path, format!("it is longer than the limit of {MOST_BYTES} bytes")));
        }
        let family = parse(&path.to_string_lossy(), &text)?;
        if family.architectures.is_empty() && family.model_types.is_empty() {
            if path.file_stem().is_some_and(|stem| stem == common.0) {
                if text == common.1 {
                    continue;
                }
                let reason = "what holds for every model is built in: leave this file out, and write what is different \
                              into the file of a family";
                return Err(failed(&path, reason.to_owned()));
            }
            return Err(failed(&path, "it names no `architectures` and no `model_types`".to_owned()));
        }
        families.push(family);
    }
    let mut all = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    for family in families.iter() {
        let users = families.iter().chain(all.iter()).filter_map(stem);
        let mut others = users.chain(built_in.iter().copied()).filter(|name| stem(family) != Some(*name));
        let Some(like) = family.like.as_deref().filter(|like| !others.clone().any(|name| name == *like)) else {
            continue;
        };
        let help = match nearest_word(like, &mut others) {
            Some(near) => format!(": did you mean `{near}`?"),
            None => ", which is the name of a file without `.yaml`: `qwen-fp8 models` lists them".to_owned(),
        };
        let reason = format!("`like: {}` names no other family{help}", unquoted(like));
        return Err(FamilyError { file: family.origin.clone(), reason });
    }
    let added = families.len();
    all.splice(0..0, families);
    Ok(added)
}

/// The name of a family's file, as others are like it.
fn stem(family: &FamilyFile) -> Option<&str> {
    Path::new(&family.origin).file_stem()?.to_str()
}

pub(super) fn families() -> Vec<FamilyFile> {
    ADDED.read().unwrap_or_else(PoisonError::into_inner).clone()
}
