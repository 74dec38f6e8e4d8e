//! Finds the model that a text was meant to name where it names none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::hub::{HubEnvironment, parse_id};
use crate::nearest_path::{likeness, nearest_path, with_home};

/// The likeness above which a cached model may be meant.
const LIKE: f64 = 0.7;
/// The number of cached repositories that are compared.
const COMPARED: usize = 10_000;

/// Returns the directory or model id that `text`, which names no model, was meant to be; `None` where nothing is near.
pub(crate) fn meant(text: &str, environment: &HubEnvironment) -> Option<String> {
    if let Some(id) = id_of_address(text).or_else(|| id_of_folder(text)) {
        return Some(id);
    }
    let spelt_right = respelt(text);
    let text = spelt_right.as_deref().unwrap_or(text);
    let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
    let with_revision = |id: String| revision.map_or_else(|| id.clone(), |revision| format!("{id}@{revision}"));
    let cached = if parse_id(text).is_some() { cached_ids(environment) } else { Vec::new() };
    if let Some(same) = cached.iter().find(|cached| cached.eq_ignore_ascii_case(id)) {
        return Some(with_revision(same.clone()));
    }
    directory(Path::new(text), environment.home.as_deref())
        .map(|path| path.to_string_lossy().into_owned())
        .or_else(|| nearest_id(id, cached).map(with_revision))
        .or_else(|| spelt_right.clone())
}

/// `text` as a model id, where it is one in a spelling of git, of another command or of a directory: `org/name.git`,
/// `git@hf.co:org/name`, `org/name --revision REVISION`, `org/name:REVISION`, `org/name/`, `models--org--name`.
pub(crate) fn respelt(text: &str) -> Option<String> {
    if let Some(id) = id_of_folder(text) {
        return Some(id);
    }
    let by_git = text.strip_prefix("git@").and_then(|text| id_of_address(&text.replacen(':', "/", 1)));
    if by_git.is_some() {
        return by_git;
    }
    let parts = text.split_once(" --revision").or_else(|| text.split_once(':'));
    let (id, revision) =
        parts.map_or((text, ""), |(id, revision)| (id.trim_end(), revision.trim_start_matches(['=', ' '])));
    let id = id.trim_end_matches('/');
    let id = id.strip_suffix(".git").unwrap_or(id);
    let whole = if matches!(revision, "" | "main") { id.to_owned() } else { format!("{id}@{revision}") };
    // A directory may have any name, with a slash or without: only what has an organization can be nothing else.
    let is_id = id.contains('/') && !id.contains('@') && parse_id(&whole).is_some();
    (is_id && whole != text).then_some(whole)
}

/// The directory that a path was meant to be: that of the file it names, the home directory for `~`, a like one.
fn directory(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let at_home = with_home(path, home);
    let wanted = at_home.as_deref().unwrap_or(path);
    if wanted.is_file() {
        let parent = wanted.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return parent.join("config.json").is_file().then(|| parent.to_owned());
    }
    match at_home {
        Some(at_home) if at_home.is_dir() => Some(at_home),
        _ => nearest_path(wanted, Path::is_dir),
    }
}

/// Reports whether an address is one of ModelScope, whose ids are most often those of the hub.
pub(crate) fn is_of_modelscope(address: &str) -> bool {
    address.contains("modelscope.")
}

/// `https://huggingface.co/org/name/tree/REVISION` as `org/name@REVISION`; `None` for what is no address of a model.
pub(crate) fn id_of_address(text: &str) -> Option<String> {
    const HOSTS: [&str; 8] = [
        "huggingface.co/",
        "www.huggingface.co/",
        "hf.co/",
        "hf-mirror.com/",
        "modelscope.cn/models/",
        "www.modelscope.cn/models/",
        "modelscope.ai/models/",
        "www.modelscope.ai/models/",
    ];
    let host = |text: &str| HOSTS.iter().find_map(|host| text.strip_prefix(host).map(str::to_owned));
    let path = match text.split_once("://") {
        Some(("hf", path)) => path.to_owned(),
        Some(("http" | "https", rest)) => host(rest)?,
        Some(_) => return None,
        None => host(text)?,
    };
    let path = path.split(['?', '#']).next()?;
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let org = parts.next()?;
    let name = parts.next().map(|name| name.strip_suffix(".git").unwrap_or(name));
    let id = name.map_or_else(|| org.to_owned(), |name| format!("{org}/{name}"));
    let revision = match (parts.next(), parts.next()) {
        (Some("tree" | "blob" | "resolve" | "raw" | "commit"), Some(revision)) if revision != "main" => {
            format!("@{revision}")
        }
        _ => String::new(),
    };
    let is_model = !matches!(org, "datasets" | "spaces" | "docs" | "api") && parse_id(&id).is_some();
    is_model.then(|| id + &revision)
}

/// `models--org--name`, a repository's folder in the cache, as `org/name`.
pub(crate) fn id_of_folder(text: &str) -> Option<String> {
    let name = text.trim_end_matches('/').rsplit('/').next()?.strip_prefix("models--")?;
    let id = name.replacen("--", "/", 1);
    parse_id(&id).is_some().then_some(id)
}

/// The ids of the models in the Hugging Face cache, sorted.
pub fn cached_ids(environment: &HubEnvironment) -> Vec<String> {
    let Some(cache) = environment.hub_cache() else { return Vec::new() };
    let entries = fs::read_dir(cache).into_iter().flatten().take(COMPARED).flatten();
    let mut ids: Vec<String> = entries.filter_map(|entry| id_of_folder(entry.file_name().to_str()?)).collect();
    ids.sort_unstable();
    ids
}

/// The cached model most like `id`, which may lack its organization.
fn nearest_id(id: &str, cached: Vec<String>) -> Option<String> {
    let like = |cached: &str| match (id.contains('/'), cached.split_once('/')) {
        (false, Some((_, name))) => likeness(id, name),
        _ => likeness(id, cached),
    };
    let mut ranked: Vec<(f64, String)> =
        cached.into_iter().map(|cached| (like(&cached), cached)).filter(|(like, _)| *like > LIKE).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    ranked.into_iter().next().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_hub_are_ids() {
        for (address, id) in [
            ("https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct", Some("Qwen/Qwen3-VL-8B-Instruct")),
            ("https://huggingface.co/Qwen/Qwen3-VL-8B-Instruct/", Some("Qwen/Qwen3-VL-8B-Instruct")),
            ("http://www.huggingface.co/a/b/tree/main", Some("a/b")),
            ("https://huggingface.co/a/b/tree/v1?x=1", Some("a/b@v1")),
            ("https://huggingface.co/a/b/resolve/main/config.json", Some("a/b")),
            ("https://huggingface.co/gpt2", Some("gpt2")),
            ("huggingface.co/a/b", Some("a/b")),
            ("hf.co/a/b#files", Some("a/b")),
            ("hf://a/b", Some("a/b")),
            ("https://huggingface.co/a/b.git", Some("a/b")),
            ("https://modelscope.cn/models/a/b/summary", Some("a/b")),
            ("www.modelscope.cn/models/a/b", Some("a/b")),
            ("https://modelscope.cn/datasets/a/b", None),
            ("https://huggingface.co/datasets/a/b", None),
            ("https://huggingface.co/", None),
            ("https://example.com/a/b", None),
            ("ftp://huggingface.co/a/b", None),
            ("a/b", None),
        ] {
            assert_eq!(id_of_address(address).as_deref(), id, "{address}");
        }
    }

    #[test]
    fn other_spellings_of_ids_are_read() {
        for (text, id) in [
            ("a/b/", Some("a/b")),
            ("a/b.git", Some("a/b")),
            ("git@hf.co:a/b", Some("a/b")),
            ("git@huggingface.co:a/b.git", Some("a/b")),
            ("a/b --revision v1", Some("a/b@v1")),
            ("a/b --revision=v1", Some("a/b@v1")),
            ("a/b:v1", Some("a/b@v1")),
            ("a/b:main", Some("a/b")),
            ("models--a--b", Some("a/b")),
            ("a/b", None),
            ("a/b@v1", None),
            ("models/", None),
            ("a/b/c/", None),
            ("/a/b/", None),
            ("./a/", None),
            ("git@elsewhere.com:a/b", None),
            ("", None),
        ] {
            assert_eq!(respelt(text).as_deref(), id, "{text}");
        }
    }

    #[test]
    fn folders_of_the_cache_are_ids() {
        assert_eq!(id_of_folder("/cache/models--Qwen--Qwen3-8B/").as_deref(), Some("Qwen/Qwen3-8B"));
        assert_eq!(id_of_folder("models--gpt2").as_deref(), Some("gpt2"));
        for text in ["models--", "datasets--a--b", "a/b", ""] {
            assert_eq!(id_of_folder(text), None, "{text}");
        }
    }
}
