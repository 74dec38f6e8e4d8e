//! Finds the directory of a model by a path, or by a model id in the Hugging Face cache.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::adapter::ADAPTER_CONFIG;
use crate::hub::{HubEnvironment, parse_id};
use crate::model_meant::{id_of_address, is_of_modelscope, meant, respelt};
use crate::source::SourceFile;
use crate::text::{shown, shown_path};

/// The name of a commit is 40 characters.
const MAX_REF: u64 = 1024;

/// A reason for which a model was not found.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("the model is given as an empty text")]
    Empty,
    #[error("{} does not exist", shown_path(path))]
    MissingPath { path: PathBuf, meant: Option<String> },
    #[error("{} is not a directory", shown_path(path))]
    NotDirectory { path: PathBuf, meant: Option<String> },
    #[error("{} is an address, and a model is a directory or a model id of the Hugging Face cache", shown(address))]
    Address { address: String, id: String, is_cached: bool },
    #[error("{} cannot be read: {error}", shown_path(path))]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{} does not exist: it is neither a directory nor a model in the Hugging Face cache {}",
        shown(id),
        cache.as_deref().map_or_else(|| "(no home directory is set)".to_owned(), |cache| shown_path(cache).to_string())
    )]
    NotCached { id: String, cache: Option<PathBuf>, meant: Option<String> },
    #[error("{} is in the Hugging Face cache, but not its revision {}", shown(id), shown(revision))]
    NoRevision { id: String, revision: String, cached: Vec<String> },
    #[error("{} has several snapshots in the Hugging Face cache and no `refs/main` to choose one", shown(id))]
    Ambiguous { id: String, cached: Vec<String> },
    #[error(
        "the snapshot of {} in the Hugging Face cache is incomplete: {} holds no {missing}",
        shown(id),
        shown_path(snapshot)
    )]
    Incomplete { id: String, snapshot: PathBuf, missing: String },
}

impl ModelError {
    /// Returns whether what was named is a model id, so that it may be a model elsewhere.
    pub fn is_elsewhere(&self) -> bool {
        matches!(self, Self::NotCached { .. } | Self::NoRevision { .. } | Self::Incomplete { .. })
    }

    /// Returns the model on this machine whose id is nearest to the one that was named.
    pub fn nearest(&self) -> Option<&str> {
        match self {
            Self::NotCached { meant, .. } => meant.as_deref(),
            _ => None,
        }
    }

    /// Returns what to do about the error, one line each.
    pub fn help(&self) -> Vec<String> {
        match self {
            Self::MissingPath { path, meant } => match meant {
                Some(meant) => vec![did_you_mean(meant)],
                None if path.starts_with("~") => {
                    vec![
                        "`~` is replaced by a shell, and only where it begins a word: write the home directory out"
                            .to_owned(),
                    ]
                }
                None => Vec::new(),
            },
            Self::NotDirectory { path, meant } => match (of_other_kind(path), meant) {
                (Some(help), _) => vec![help.to_owned()],
                (None, Some(meant)) => vec![did_you_mean(meant)],
                (None, None) => vec!["a model is the directory that holds `config.json`".to_owned()],
            },
            Self::Address { id, is_cached: true, .. } => vec![did_you_mean(id)],
            Self::Address { address, id, .. } if is_of_modelscope(address) => {
                let command = format!("modelscope download --model {id} --local_dir DIR");
                vec![
                    format!("download it with {}, and give `DIR` as the model", shown(&command)),
                    format!("the hub most often has it too: {}", download(id)),
                ]
            }
            Self::Address { id, .. } => vec![did_you_mean(id), download(id)],
            Self::NotCached { id, meant, .. } => {
                let right = respelt(id);
                let id = right.as_ref().unwrap_or(id);
                match meant {
                    None => vec![download(id)],
                    Some(meant) if meant == id => vec![did_you_mean(meant), download(id)],
                    // The hub takes ids in any case.
                    Some(meant) if meant.eq_ignore_ascii_case(id) => vec![did_you_mean(meant)],
                    Some(meant) => vec![did_you_mean(meant), format!("if {} is right, {}", shown(id), download(id))],
                }
            }
            Self::NoRevision { id, revision, cached } => {
                let download = format!("hf download {id} --revision {revision}");
                vec![format!("download it with {}", shown(&download)), cached_revisions(cached)]
            }
            Self::Ambiguous { id, cached } => {
                vec![format!("say which, as in {}", shown(&format!("{id}@REVISION"))), cached_revisions(cached)]
            }
            Self::Incomplete { id, .. } => {
                vec![format!("finish the download with {}", shown(&format!("hf download {id}")))]
            }
            Self::Empty | Self::Io { .. } => Vec::new(),
        }
    }
}

/// The directory of the model that `text` names: an existing directory, else `org/name` or `org/name@revision` in the
/// Hugging Face cache.
///
/// # Errors
/// Neither is there, or the cached snapshot is incomplete.
pub fn resolve(text: &str, environment: &HubEnvironment) -> Result<PathBuf, ModelError> {
    resolve_with(text, environment, "config.json")
}

/// The directory of the adapter that `text` names, as [`resolve`] finds that of a model.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_adapter(text: &str, environment: &HubEnvironment) -> Result<PathBuf, ModelError> {
    resolve_with(text, environment, ADAPTER_CONFIG)
}

/// Finds a directory by path, or a snapshot in the cache that holds the file `config`.
fn resolve_with(text: &str, environment: &HubEnvironment, config: &str) -> Result<PathBuf, ModelError> {
    if text.is_empty() {
        return Err(ModelError::Empty);
    }
    let path = PathBuf::from(text);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => return Ok(path),
        Ok(_) => return Err(ModelError::NotDirectory { path, meant: meant(text, environment) }),
        // A file in the middle of the path.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ModelError::Io { path, error }),
    }
    if let Some(id) = id_of_address(text) {
        let is_cached = resolve(&id, environment).is_ok();
        return Err(ModelError::Address { address: text.to_owned(), id, is_cached });
    }
    let cache = environment.hub_cache();
    let Some((id, revision)) = parse_id(text).filter(|_| respelt(text).is_none()) else {
        let meant = meant(text, environment);
        // Of an id in another spelling that is near to nothing, the download is worth a line.
        return Err(match respelt(text) {
            Some(right) if meant.as_ref() == Some(&right) && resolve(&right, environment).is_err() => {
                ModelError::NotCached { id: text.to_owned(), cache, meant }
            }
            _ => ModelError::MissingPath { path, meant },
        });
    };
    let repository = cache.as_ref().map(|cache| cache.join(format!("models--{}", id.replace('/', "--"))));
    match repository {
        Some(repository) if repository.is_dir() => find_snapshot(&repository, id, revision, config),
        _ => Err(ModelError::NotCached { id: text.to_owned(), cache, meant: meant(text, environment) }),
    }
}

fn find_snapshot(repository: &Path, id: &str, revision: Option<&str>, config: &str) -> Result<PathBuf, ModelError> {
    let snapshots = repository.join("snapshots");
    let commit = SourceFile::open(&repository.join("refs").join(plain(revision.unwrap_or("main"))));
    let commit = commit.and_then(|file| file.read_small(MAX_REF)).ok().and_then(|text| String::from_utf8(text).ok());
    let commit = commit.as_deref().map(str::trim).or(revision).filter(|commit| !commit.is_empty());
    let snapshot = match commit {
        Some(commit) => snapshots.join(plain(commit)),
        None => {
            let mut cached = cached_snapshots(&snapshots);
            match (cached.pop(), cached.is_empty()) {
                (Some(only), true) => snapshots.join(only),
                (None, _) => {
                    return Err(ModelError::Incomplete {
                        id: id.to_owned(),
                        snapshot: snapshots,
                        missing: "snapshot".to_owned(),
                    });
                }
                (Some(_), false) => {
                    return Err(ModelError::Ambiguous { id: id.to_owned(), cached: cached_snapshots(&snapshots) });
                }
            }
        }
    };
    if !snapshot.is_dir() {
        let revision = revision.unwrap_or("main").to_owned();
        return Err(ModelError::NoRevision { id: id.to_owned(), revision, cached: cached_snapshots(&snapshots) });
    }
    let names: Vec<_> =
        fs::read_dir(&snapshot).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    let missing = if !names.iter().any(|name| name == config) {
        format!("`{config}`")
    } else if !names.iter().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "safetensors"))
    {
        "safetensors file".to_owned()
    } else {
        return Ok(snapshot);
    };
    Err(ModelError::Incomplete { id: id.to_owned(), snapshot, missing })
}

/// A revision as a path that stays where it is put; one that would not is replaced by a name that no file has.
fn plain(revision: &str) -> &Path {
    let path = Path::new(revision);
    let stays = path.components().all(|component| matches!(component, Component::Normal(_)));
    if stays && !revision.contains('\0') { path } else { Path::new(":") }
}

fn cached_snapshots(snapshots: &Path) -> Vec<String> {
    let entries = fs::read_dir(snapshots).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn cached_revisions(cached: &[String]) -> String {
    match cached {
        [] => "none is cached".to_owned(),
        _ => format!("cached: {}", cached.iter().map(|name| shown(name).to_string()).collect::<Vec<_>>().join(", ")),
    }
}

fn did_you_mean(near: &str) -> String {
    format!("did you mean {}?", shown(near))
}

/// The command that downloads `org/name` or `org/name@revision`.
fn download(id: &str) -> String {
    let (id, revision) = id.split_once('@').unwrap_or((id, ""));
    let revision = if revision.is_empty() { String::new() } else { format!(" --revision {revision}") };
    format!("download it with {}", shown(&format!("hf download {id}{revision}")))
}

/// Help for a file that is no part of a checkpoint of safetensors.
fn of_other_kind(path: &Path) -> Option<&'static str> {
    Some(match path.extension()?.to_str()? {
        "yaml" | "yml" | "toml" => "this is a recipe: it comes first, and the checkpoint's directory is the model",
        "gguf" => "take the BF16 safetensors that the GGUF was made from",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(hub: &Path) -> HubEnvironment {
        HubEnvironment { hf_hub_cache: Some(hub.into()), ..HubEnvironment::default() }
    }

    fn snapshot(hub: &Path, repository: &str, commit: &str, files: &[&str]) -> PathBuf {
        let snapshot = hub.join(repository).join("snapshots").join(commit);
        fs::create_dir_all(&snapshot).unwrap();
        files.iter().for_each(|file| fs::write(snapshot.join(file), "{}").unwrap());
        snapshot
    }

    const COMPLETE: &[&str] = &["config.json", "model.safetensors"];

    #[test]
    fn a_directory_wins_and_a_revision_is_looked_up() {
        let dir = tempfile::tempdir().unwrap();
        let hub = dir.path();
        let main = snapshot(hub, "models--org--name", "aaaa", COMPLETE);
        let other = snapshot(hub, "models--org--name", "bbbb", COMPLETE);
        let only = snapshot(hub, "models--gpt2", "cccc", COMPLETE);
        fs::create_dir_all(hub.join("models--org--name/refs/pr")).unwrap();
        fs::write(hub.join("models--org--name/refs/main"), "aaaa\n").unwrap();
        fs::write(hub.join("models--org--name/refs/pr/1"), "bbbb").unwrap();
        let found = |text: &str| resolve(text, &environment(hub)).unwrap();
        assert_eq!(found("org/name"), main);
        assert_eq!(found("org/name@main"), main);
        assert_eq!(found("org/name@pr/1"), other);
        assert_eq!(found("org/name@bbbb"), other);
        assert_eq!(found("gpt2"), only);
        // A name for the newest commit that is no file, or without end, is none.
        fs::create_dir(hub.join("models--gpt2/refs")).unwrap();
        let main = hub.join("models--gpt2/refs/main");
        rustix::fs::mkfifoat(rustix::fs::CWD, &main, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(found("gpt2"), only);
        fs::remove_file(&main).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &main).unwrap();
        assert_eq!(found("gpt2"), only);
        assert_eq!(found(hub.to_str().unwrap()), hub);
    }

    #[test]
    fn a_model_that_is_not_in_the_cache_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let hub = dir.path();
        let missed = |text: &str| {
            let error = resolve(text, &environment(hub)).unwrap_err();
            format!("{error}\n{}", error.help().join("\n")).replace(hub.to_str().unwrap(), "HUB")
        };
        assert_eq!(
            missed("org/name"),
            "`org/name` does not exist: it is neither a directory nor a model in the Hugging Face cache `HUB`\n\
             download it with `hf download org/name`"
        );
        assert!(missed("org/name@v1").ends_with("`hf download org/name --revision v1`"));
        fs::create_dir(hub.join("Qwen3-VL-8B-Instruct")).unwrap();
        let typo = hub.join("Qwen3-VL-8B-Instuct");
        assert_eq!(
            missed(typo.to_str().unwrap()),
            "`HUB/Qwen3-VL-8B-Instuct` does not exist\ndid you mean `HUB/Qwen3-VL-8B-Instruct`?"
        );
        fs::write(hub.join("file"), "").unwrap();
        assert!(missed(hub.join("file").to_str().unwrap()).contains("is not a directory"));
        assert!(missed(hub.join("file/x").to_str().unwrap()).contains("does not exist"));
        assert!(missed("").contains("empty"));

        snapshot(hub, "models--org--name", "aaaa", &["config.json"]);
        assert!(
            missed("org/name")
                .contains("is incomplete: `HUB/models--org--name/snapshots/aaaa` holds no safetensors file")
        );
        snapshot(hub, "models--org--name", "bbbb", COMPLETE);
        assert!(missed("org/name").contains("several snapshots"));
        assert!(missed("org/name").ends_with("cached: `aaaa`, `bbbb`"));
        for revision in ["v9", "../../..", "/"] {
            assert!(missed(&format!("org/name@{revision}")).contains("but not its revision"), "{revision}");
        }
        fs::create_dir(hub.join("models--org--empty")).unwrap();
        assert!(missed("org/empty").contains("is incomplete"));
    }
}
