//! The hub's description of a model: the commit of a revision, and its files with their sizes.

use std::path::{Component, Path};

use qwen_fp8_checkpoint::remote::RemoteEntry;
use qwen_fp8_checkpoint::text::shown;
use serde::Deserialize;

use crate::error::HubError;

/// What `/api/models/ID/revision/REVISION?blobs=true` answers.
#[derive(Debug, Deserialize)]
pub(crate) struct ModelInfo {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LfsEntry>,
}

#[derive(Debug, Deserialize)]
struct LfsEntry {
    sha256: Option<String>,
    size: Option<u64>,
}

impl ModelInfo {
    /// The commit, and the files in order of name.
    ///
    /// # Errors
    /// No commit is named, a file has no size, or a name is one that no file of a repository has.
    pub(crate) fn files(self, url: &str) -> Result<(String, Vec<RemoteEntry>), HubError> {
        let unusable = |detail: String| HubError::Unusable { url: url.to_owned(), detail };
        let commit = self.sha.filter(|sha| !sha.is_empty() && sha.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let commit = commit.ok_or_else(|| unusable("it names no commit".to_owned()))?;
        let mut files = Vec::with_capacity(self.siblings.len());
        for Sibling { rfilename: name, size, lfs } in self.siblings {
            if !is_plain(&name) {
                return Err(HubError::FileName { url: url.to_owned(), name });
            }
            let (sha256, lfs_size) = lfs.map_or((None, None), |lfs| (lfs.sha256, lfs.size));
            let Some(size) = lfs_size.or(size) else {
                return Err(unusable(format!("it does not say how large {} is", shown(&name))));
            };
            let sha256 = sha256.filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()));
            files.push(RemoteEntry { name, size, sha256: sha256.map(|sum| sum.to_ascii_lowercase()) });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = files.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(unusable(format!("it lists {} twice", shown(&twice[0].name))));
        }
        Ok((commit, files))
    }
}

/// Whether a name is that of a file in the repository or in folders of it, and nothing else on any system.
fn is_plain(name: &str) -> bool {
    let path = Path::new(name);
    !name.is_empty()
        && !name.ends_with('/')
        && !name.contains("//")
        && !name.chars().any(|c| c.is_control() || c == '\\')
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Result<(String, Vec<RemoteEntry>), HubError> {
        serde_json::from_str::<ModelInfo>(text).unwrap().files("https://hub.example/api")
    }

    #[test]
    fn sizes_are_those_of_the_content_and_names_are_sorted() {
        let sum = "AB".repeat(32);
        let text = format!(
            r#"{{"sha":"abc1","siblings":[{{"rfilename":"z/b.json","size":3}},
            {{"rfilename":"a.safetensors","size":135,"lfs":{{"sha256":"{sum}","size":5000,"pointerSize":135}}}}]}}"#
        );
        let (commit, files) = files(&text).unwrap();
        assert_eq!(commit, "abc1");
        let entry = |name: &str, size, sha256| RemoteEntry { name: name.to_owned(), size, sha256 };
        assert_eq!(files, [entry("a.safetensors", 5000, Some("ab".repeat(32))), entry("z/b.json", 3, None)]);
    }

    #[test]
    fn names_that_lead_out_and_gaps_are_refused() {
        for name in ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "a\\b", ".", "a\nb"] {
            let text = serde_json::json!({ "sha": "a", "siblings": [{ "rfilename": name, "size": 1 }] }).to_string();
            assert!(matches!(files(&text), Err(HubError::FileName { .. })), "{name}");
        }
        for text in [
            r#"{"siblings":[]}"#,
            r#"{"sha":"../main","siblings":[]}"#,
            r#"{"sha":"a","siblings":[{"rfilename":"a"}]}"#,
            r#"{"sha":"a","siblings":[{"rfilename":"a","size":1},{"rfilename":"a","size":2}]}"#,
        ] {
            assert!(matches!(files(text), Err(HubError::Unusable { .. })), "{text}");
        }
    }
}
