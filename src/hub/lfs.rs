//! Large files on their way to the hub, by the protocol of git-lfs: in one piece, or in the parts that the hub asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicBool;

use qwen_fp8_checkpoint::progress::ProgressSink;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::header::ETAG;

use crate::answer::json as read_json;
use crate::attempts::again_unless;
use crate::client::{Client, Failure, text, without_query};
use crate::error::HubError;
use crate::send::{BYTES, LFS_JSON, Outgoing};
use crate::side_by_side::side_by_side;

/// Parts of a file that are sent at a time.
const AT_ONCE: usize = 4;

/// Files that the hub is asked about at a time.
const ASKED_AT_ONCE: usize = 100;

/// A large file by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LfsContent {
    /// SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) size: u64,
}

/// What the hub answers of files that are to come.
#[derive(Deserialize)]
struct Batch {
    objects: Vec<BatchObject>,
}

#[derive(Deserialize)]
struct BatchObject {
    oid: String,
    /// Absent where the hub has the content.
    actions: Option<Actions>,
    error: Option<BatchError>,
}

#[derive(Deserialize)]
struct BatchError {
    code: u16,
    message: String,
}

#[derive(Deserialize)]
struct Actions {
    upload: Action,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, Value>,
}

/// Where large files of a repository go.
pub(crate) struct LfsStore<'a> {
    pub(crate) client: &'a Client,
    /// `https://HUB/ORG/NAME.git/info/lfs/objects/batch`
    pub(crate) url: String,
    pub(crate) branch: &'a str,
    pub(crate) progress: &'a dyn ProgressSink,
}

impl LfsStore<'_> {
    /// Returns which of these the hub does not have.
    ///
    /// # Errors
    /// The hub does not tell.
    pub(crate) fn missing(&self, contents: &[LfsContent]) -> Result<Vec<LfsContent>, HubError> {
        let mut missing = Vec::new();
        for contents in contents.chunks(ASKED_AT_ONCE) {
            let batch = again_unless(&|| self.progress.is_cancelled(), || self.ask(contents))?;
            let wanted = |content: &&LfsContent| {
                batch.objects.iter().any(|object| object.oid == content.sha256 && object.actions.is_some())
            };
            missing.extend(contents.iter().filter(wanted).cloned());
        }
        Ok(missing)
    }

    /// Sends a file, unless the hub has its content.
    ///
    /// # Errors
    /// The hub or its storage does not take it; or the work is cancelled.
    pub(crate) fn upload(&self, content: &LfsContent, file: &File) -> Result<(), HubError> {
        // All of it: the addresses of an answer expire, and the next one has new ones.
        let sent = again_unless(&|| self.progress.is_cancelled(), || {
            let batch = self.ask(std::slice::from_ref(content))?;
            let object = batch.objects.into_iter().find(|object| object.oid == content.sha256);
            let object = object.ok_or_else(|| self.unusable("it does not speak of the file that was asked about"))?;
            let Some(Actions { upload, verify }) = object.actions else { return Ok(()) };
            match upload.header.get("chunk_size").and_then(number) {
                Some(part) => self.in_parts(content, file, &upload, part)?,
                None => self.in_one(content, file, &upload)?,
            }
            if let Some(verify) = verify {
                self.client.post(&verify.href, LFS_JSON, &json!({ "oid": content.sha256, "size": content.size }))?;
            }
            Ok(())
        });
        // A body that could not be read looks like a lost connection.
        if self.progress.is_cancelled() { Err(HubError::Cancelled) } else { sent }
    }

    fn ask(&self, contents: &[LfsContent]) -> Result<Batch, Failure> {
        let objects: Vec<_> =
            contents.iter().map(|content| json!({ "oid": content.sha256, "size": content.size })).collect();
        let asked = json!({ "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
            "ref": { "name": self.branch }, "objects": objects });
        let answer = self.client.post(&self.url, LFS_JSON, &asked)?;
        let batch: Batch = read_json(self.client, answer, "it does not say how files are to be uploaded")?;
        match batch.objects.iter().find_map(|object| object.error.as_ref()) {
            Some(BatchError { code, message }) => {
                Err(Failure::lasting(HubError::Refused { url: self.url.clone(), status: *code, said: message.clone() }))
            }
            None => Ok(batch),
        }
    }

    fn in_one(&self, content: &LfsContent, file: &File, upload: &Action) -> Result<(), Failure> {
        let headers: Vec<_> =
            upload.header.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        self.put(&upload.href, &headers, file, 0, content.size).map(drop)
    }

    fn in_parts(&self, content: &LfsContent, file: &File, upload: &Action, part: u64) -> Result<(), Failure> {
        let mut addresses: Vec<(u64, &str)> =
            upload.header.iter().filter_map(|(name, url)| Some((name.parse().ok()?, url.as_str()?))).collect();
        addresses.sort_unstable();
        let numbers = addresses.iter().map(|(number, _)| *number);
        if part == 0 || !numbers.eq(1..=content.size.div_ceil(part)) {
            return Err(self.unusable("it asks for other parts than the file has"));
        }
        let parts = side_by_side(&addresses, AT_ONCE, &AtomicBool::new(false), |(number, url)| {
            let offset = (number - 1) * part;
            let tag = self.put_part(url, file, offset, part.min(content.size - offset))?;
            Ok::<_, Failure>(json!({ "partNumber": number, "etag": tag }))
        })?;
        self.client.post(&upload.href, LFS_JSON, &json!({ "oid": content.sha256, "parts": parts })).map(drop)
    }

    /// Sends a part, again where it was lost, and returns its tag.
    fn put_part(&self, url: &str, file: &File, offset: u64, len: u64) -> Result<String, Failure> {
        let tag = again_unless(&|| self.progress.is_cancelled(), || self.put(url, &[], file, offset, len));
        // What was tried often enough for one part may pass with new addresses for all.
        let is_expired = |error: &HubError| matches!(error, HubError::Refused { status: 401 | 403 | 404 | 410, .. });
        let tag =
            tag.map_err(|error| if is_expired(&error) { Failure::passing(error) } else { Failure::lasting(error) })?;
        tag.ok_or_else(|| self.unusable("its storage gave a part no tag"))
    }

    fn put(
        &self,
        url: &str,
        headers: &[(String, String)],
        file: &File,
        offset: u64,
        len: u64,
    ) -> Result<Option<String>, Failure> {
        let mut body = FileRange { file, offset, end: offset + len, progress: self.progress };
        let outgoing = Outgoing { method: "PUT", url, headers, kind: BYTES, body: &mut body, len };
        let answer = self.client.send(outgoing)?;
        Ok(text(answer.response.headers(), &ETAG).filter(|tag| !tag.is_empty()).map(str::to_owned))
    }

    fn unusable(&self, detail: &str) -> Failure {
        Failure::lasting(HubError::Unusable { url: without_query(&self.url), detail: detail.to_owned() })
    }
}

/// A number that the hub writes as one or as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A part of a file as it is sent.
struct FileRange<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
    progress: &'a dyn ProgressSink,
}

impl Read for FileRange<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.is_cancelled() {
            return Err(io::Error::other("the work was cancelled"));
        }
        let most = buffer.len().min((self.end - self.offset) as usize);
        let read = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}
