//! Finds the path that a mistyped one was meant to be.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// The number of names in a directory that are compared.
const COMPARED: usize = 10_000;
/// The likeness, from 0 to 1, above which a name may be meant.
const LIKE: f64 = 0.6;

/// Returns the existing path most like `path`, with the nearest name in place of each part that does not exist, if
/// `is_meant` accepts it; `None` where nothing is near, or where `path` itself is right.
pub fn nearest_path(path: &Path, is_meant: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let parts: Vec<Component<'_>> = path.components().collect();
    let mut found = PathBuf::new();
    for (index, part) in parts.iter().enumerate() {
        let is_last = index + 1 == parts.len();
        let is_right = |path: &Path| if is_last { is_meant(path) } else { path.is_dir() };
        let there = found.join(part);
        found = match part {
            Component::Normal(name) if !is_right(&there) => nearest_entry(&found, name.to_str()?, is_right)?,
            _ => there,
        };
    }
    (found != path && is_meant(&found)).then_some(found)
}

/// Returns the entry of a directory whose name is most like `name` among those that `is_meant` accepts.
pub fn nearest_entry(dir: &Path, name: &str, is_meant: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let mut entries: Vec<(f64, String)> = fs::read_dir(listed)
        .ok()?
        .take(COMPARED)
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|entry| (likeness(name, &entry), entry))
        .filter(|(likeness, _)| *likeness > LIKE)
        .collect();
    entries.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    entries.into_iter().map(|(_, entry)| dir.join(entry)).find(|path| is_meant(path))
}

/// Returns how like two names are, from 0 to 1; another case is hardly a difference.
pub(crate) fn likeness(a: &str, b: &str) -> f64 {
    let folded = strsim::normalized_damerau_levenshtein(&a.to_lowercase(), &b.to_lowercase());
    // Of `a` and `A`, the one that is written like the name comes first.
    folded - if folded < 1.0 || a == b { 0.0 } else { 1e-6 }
}

/// Returns the path with the home directory in place of a leading `~`, which only a shell replaces; `None` where it
/// begins otherwise, or no home directory is known.
pub fn with_home(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    path.strip_prefix("~").ok().and_then(|rest| Some(home?.join(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_may_be_mistyped() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        fs::create_dir_all(dir.join("models/Qwen3-VL-8B-Instruct")).unwrap();
        fs::create_dir_all(dir.join("recipes")).unwrap();
        fs::write(dir.join("recipes/fp8_dynamic.yaml"), "").unwrap();
        fs::write(dir.join("models/Qwen3-VL-8B-Instuct"), "a file, which is no directory").unwrap();
        let near = |path: &str, is_meant: fn(&Path) -> bool| {
            nearest_path(&dir.join(path), is_meant).map(|path| path.strip_prefix(dir).unwrap().to_owned())
        };
        let model = Some(PathBuf::from("models/Qwen3-VL-8B-Instruct"));
        assert_eq!(near("models/Qwen3-VL-8B-Instuct", Path::is_dir), model);
        assert_eq!(near("modles/qwen3-vl-8b-instruct", Path::is_dir), model);
        assert_eq!(near("MODELS/QWEN3-VL-8B-INSTRUCT", Path::is_dir), model);
        assert_eq!(near("recipe/fp8_dynmaic.yml", Path::is_file), Some("recipes/fp8_dynamic.yaml".into()));
        assert_eq!(near("recipes/fp8_dynamic.yaml", Path::is_file), None);
        assert_eq!(near("elsewhere/fp8_dynamic.yaml", Path::is_file), None);
        assert_eq!(near("recipes/other", Path::is_file), None);
    }

    #[test]
    fn a_tilde_is_the_home_directory() {
        let home = Some(Path::new("/me"));
        assert_eq!(with_home(Path::new("~/models/a"), home), Some("/me/models/a".into()));
        assert_eq!(with_home(Path::new("~"), home), Some("/me".into()));
        for path in ["~you/a", "a/~", "/a"] {
            assert_eq!(with_home(Path::new(path), home), None, "{path}");
        }
        assert_eq!(with_home(Path::new("~/a"), None), None);
    }
}
