//! The listing of a commit with the names that the Python library gives to files in its cache.

use serde::{Deserialize, Serialize};
use ureq::http::header::LINK;

use crate::answer::json;
use crate::attempts::again;
use crate::client::{AskedFor, Client, text};
use crate::error::HubError;

/// The most pages of a listing that are read; a page has a thousand files.
const MAX_PAGES: usize = 1000;

/// A file of a commit, as the cache's own listing of trees spells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct TreeFile {
    pub(crate) size: u64,
    /// The git object of the file, or of the pointer in its place.
    blob_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) xet_hash: Option<String>,
}

/// What the bytes of a file are held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentHash {
    /// SHA-256 of the bytes, as of git-lfs.
    Sha256,
    /// SHA-1 of the bytes behind a line with their number, as of git.
    GitBlob,
}

impl TreeFile {
    /// The `ETag` of the file's content, which is its name among the blobs of the cache, and what it is the hash of.
    pub(crate) fn etag(&self) -> (&str, ContentHash) {
        match &self.lfs_sha256 {
            Some(sha256) => (sha256, ContentHash::Sha256),
            None => (&self.blob_id, ContentHash::GitBlob),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    oid: String,
    size: u64,
    lfs: Option<LfsOfEntry>,
    #[serde(rename = "xetHash")]
    xet_hash: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LfsOfEntry {
    oid: String,
    size: u64,
}

/// Reads the files of a commit, each with its path, in the order of the hub. `url` is the address of the listing.
///
/// # Errors
/// The hub does not give it, or a file has no hash that it could be held against.
pub(crate) fn read(client: &Client, url: &str, subject: AskedFor<'_>) -> Result<Vec<(String, TreeFile)>, HubError> {
    let (mut files, mut next) = (Vec::new(), Some(format!("{url}?recursive=true")));
    for _ in 0..MAX_PAGES {
        let Some(page) = next.take() else { return Ok(files) };
        let (entries, following) = again(|| {
            let answer = client.get(&page, None, subject)?;
            let following = text(answer.response.headers(), &LINK).and_then(following);
            Ok((json::<Vec<Entry>>(client, answer, "it is no listing of files")?, following))
        })?;
        for entry in entries.into_iter().filter(|entry| entry.kind == "file") {
            let path = entry.path.clone();
            let file = entry.file().ok_or_else(|| HubError::Unusable {
                url: url.to_owned(),
                detail: format!("it gives {} no hash", qwen_fp8_checkpoint::text::shown(&path)),
            })?;
            files.push((path, file));
        }
        next = following;
    }
    Err(HubError::Unusable { url: url.to_owned(), detail: "it has no end".to_owned() })
}

impl Entry {
    fn file(self) -> Option<TreeFile> {
        let is_hash = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (lfs_sha256, lfs_size) = self.lfs.map_or((None, None), |lfs| (Some(lfs.oid), Some(lfs.size)));
        let is_good = is_hash(&self.oid, 40) && lfs_sha256.as_ref().is_none_or(|sum| is_hash(sum, 64));
        is_good.then(|| TreeFile {
            size: lfs_size.unwrap_or(self.size),
            blob_id: self.oid.to_ascii_lowercase(),
            lfs_sha256: lfs_sha256.map(|sum| sum.to_ascii_lowercase()),
            lfs_size,
            xet_hash: self.xet_hash.filter(|hash| is_hash(hash, 64)),
        })
    }
}

/// The address of the next page that a `Link` header names.
fn following(link: &str) -> Option<String> {
    let next = link.split(',').find(|link| link.contains("rel=\"next\""))?;
    Some(next.split_once('<')?.1.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let link = r#"<https://h/a?cursor=x>; rel="prev", <https://h/b?cursor=y>; rel="next""#;
        assert_eq!(following(link).as_deref(), Some("https://h/b?cursor=y"));
        assert_eq!(following(r#"<https://h/a>; rel="prev""#), None);
    }

    #[test]
    fn a_blob_is_named_by_the_hash_of_its_content() {
        let (sha1, sha256) = ("A1".repeat(20), "b2".repeat(32));
        let entry = |json: serde_json::Value| serde_json::from_value::<Entry>(json).unwrap().file();
        let plain = serde_json::json!({ "type": "file", "path": "a", "oid": sha1, "size": 3 });
        assert_eq!(entry(plain).unwrap().etag(), ("a1".repeat(20).as_str(), ContentHash::GitBlob));
        let large = serde_json::json!({ "type": "file", "path": "a", "oid": sha1, "size": 135,
            "lfs": { "oid": sha256, "size": 9, "pointerSize": 135 } });
        let large = entry(large).unwrap();
        assert_eq!((large.etag(), large.size), ((sha256.as_str(), ContentHash::Sha256), 9));
        let wrong = serde_json::json!({ "type": "file", "path": "a", "oid": "../../x", "size": 3 });
        assert_eq!(entry(wrong), None);
    }
}
