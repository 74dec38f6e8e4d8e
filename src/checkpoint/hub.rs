//! The Hugging Face hub as this machine knows it: where its cache is, and what a model id looks like.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::nearest_path::with_home;

/// The environment variables that say where the Hugging Face cache is; an empty one counts as unset.
#[derive(Clone, Debug, Default)]
pub struct HubEnvironment {
    /// `HF_HUB_CACHE`
    pub hf_hub_cache: Option<PathBuf>,
    /// `HUGGINGFACE_HUB_CACHE`
    pub huggingface_hub_cache: Option<PathBuf>,
    /// `HF_HOME`
    pub hf_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME`
    pub home: Option<PathBuf>,
}

impl HubEnvironment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        let path = |name| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        Self {
            hf_hub_cache: path("HF_HUB_CACHE"),
            huggingface_hub_cache: path("HUGGINGFACE_HUB_CACHE"),
            hf_home: path("HF_HOME"),
            xdg_cache_home: path("XDG_CACHE_HOME"),
            home: path("HOME"),
        }
    }

    /// The directory that holds `models--org--name`, chosen as `huggingface_hub` does.
    pub fn hub_cache(&self) -> Option<PathBuf> {
        let set = self.hf_hub_cache.as_ref().or(self.huggingface_hub_cache.as_ref());
        set.map(|path| self.expand(path)).or_else(|| Some(self.hf_home()?.join("hub")))
    }

    /// The directory of all that `huggingface_hub` keeps.
    pub fn hf_home(&self) -> Option<PathBuf> {
        let set = self.hf_home.as_ref().map(|path| self.expand(path));
        set.or_else(|| Some(self.cache_home()?.join("huggingface")))
    }

    /// The directory of caches of all programs.
    pub fn cache_home(&self) -> Option<PathBuf> {
        self.xdg_cache_home.clone().or_else(|| Some(self.home.as_ref()?.join(".cache")))
    }

    /// A leading `~` stands for the home directory in these variables, whoever set them.
    fn expand(&self, path: &Path) -> PathBuf {
        with_home(path, self.home.as_deref()).unwrap_or_else(|| path.to_owned())
    }
}

/// `org/name@revision` as its parts; `None` for what can only be a path.
pub fn parse_id(text: &str) -> Option<(&str, Option<&str>)> {
    let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(['.', '-'])
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    (id.split('/').count() <= 2 && id.split('/').all(is_name)).then_some((id, revision))
}

/// The name of a model, as far as its directory tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// The model id, or the name of the directory.
    pub name: String,
    /// The model id, where the directory is a snapshot of the Hugging Face cache.
    pub id: Option<String>,
    /// The commit of the snapshot.
    pub revision: Option<String>,
}

/// Returns the name of the model in a directory.
pub fn model_of(dir: &Path) -> ModelName {
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let mut names = dir.iter().rev().map(|name| name.to_string_lossy().into_owned());
    let name = names.next().unwrap_or_default();
    let (parent, repository) = (names.next(), names.next());
    let id = repository.as_deref().and_then(|repository| repository.strip_prefix("models--"));
    match id.map(|id| id.replace("--", "/")) {
        Some(id) if parent.as_deref() == Some("snapshots") => {
            ModelName { name: id.clone(), id: Some(id), revision: Some(name) }
        }
        _ => ModelName { name, id: None, revision: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_huggingface_hub_looks() {
        let path = |text: &str| Some(PathBuf::from(text));
        let mut environment = HubEnvironment::default();
        assert_eq!(environment.hub_cache(), None);
        environment.home = path("/tmp/me");
        assert_eq!(environment.hub_cache(), path("/tmp/me/.cache/huggingface/hub"));
        environment.xdg_cache_home = path("/cache");
        assert_eq!(environment.hub_cache(), path("/cache/huggingface/hub"));
        environment.hf_home = path("~/hf");
        assert_eq!(environment.hub_cache(), path("/tmp/me/hf/hub"));
        environment.huggingface_hub_cache = path("/old");
        assert_eq!(environment.hub_cache(), path("/old"));
        environment.hf_hub_cache = path("/new");
        assert_eq!(environment.hub_cache(), path("/new"));
    }

    #[test]
    fn ids_are_told_from_paths() {
        assert_eq!(parse_id("Qwen/Qwen3-VL-8B-Instruct"), Some(("Qwen/Qwen3-VL-8B-Instruct", None)));
        assert_eq!(parse_id("a/b@c/d"), Some(("a/b", Some("c/d"))));
        for path in ["./a", "../a", "/a/b", "a/b/c", "~/a", "a//b", "a b", "a/", "..", "a\0b"] {
            assert_eq!(parse_id(path), None, "{path}");
        }
    }
}
