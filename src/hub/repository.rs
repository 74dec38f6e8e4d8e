//! A model on the hub, pinned to a commit, and reading ranges of its files.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use qwen_fp8_checkpoint::hub::ModelName;
use qwen_fp8_checkpoint::remote::{RemoteEntry, RemoteError, Repository};
use ureq::http::HeaderName;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_RANGE};

use crate::access::HubAccess;
use crate::address::{part, path};
use crate::client::{AskedFor, Client, Failure, HubAnswer, text, without_query};
use crate::error::HubError;
use crate::model_info::{MAX_INFO, ModelInfo};
use crate::pause::pause;

/// The revision that is read where none is named.
const MAIN: &str = "main";

/// Bytes that an attempt must have brought to count as none of the failed ones: a server that drops every connection after
/// a few bytes would otherwise hold a run for ever.
const PROGRESS: usize = 64 << 10;

/// A pointer of git-lfs is never longer.
const MAX_POINTER: u64 = 1024;

/// A model on the hub in the state of one commit.
pub struct HubRepository {
    client: Client,
    id: String,
    revision: String,
    commit: String,
    address: String,
    files: Vec<RemoteEntry>,
    /// Where the hub last sent readers of a file, by its number.
    places: Mutex<HashMap<usize, String>>,
}

impl HubRepository {
    /// Finds a model on the hub and pins the revision, `main` where none is named, to its commit. One request.
    ///
    /// # Errors
    /// The hub cannot be reached, or has no such model for this reader.
    pub fn open(access: HubAccess, id: &str, revision: Option<&str>) -> Result<Arc<Self>, HubError> {
        let revision = revision.unwrap_or(MAIN).to_owned();
        let client = Client::new(access);
        let endpoint = &client.access.endpoint;
        let url = format!("{endpoint}/api/models/{}/revision/{}?blobs=true", path(id), part(&revision));
        let subject = AskedFor { id, revision: &revision, is_model: true };
        let info = again(|| model_info(&client, client.get(&url, None, subject)?))?;
        let (commit, files) = info.files(&url)?;
        let address = format!("{endpoint}/{}/resolve/{commit}", path(id));
        Ok(Arc::new(Self { client, id: id.to_owned(), revision, commit, address, files, places: Mutex::default() }))
    }

    /// Tries once to fill `buffer` from `offset` on; adds to `done` what has arrived, whatever becomes of the rest.
    fn fill(&self, file: usize, buffer: &mut [u8], offset: u64, done: &mut usize) -> Result<(), Failure> {
        let entry = &self.files[file];
        let wanted = offset..offset + buffer.len() as u64;
        // A small file is asked for as a whole: some servers send those in no other way.
        let range = (wanted != (0..entry.size)).then(|| wanted.clone());
        let url = format!("{}/{}", self.address, path(&entry.name));
        let place = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&file).cloned();
        let subject = AskedFor { id: &self.id, revision: &self.revision, is_model: false };
        let mut answer = self.client.get(place.as_deref().unwrap_or(&url), range, subject)?;
        self.check(&answer, &url, entry, &wanted)?;
        if answer.url != url {
            self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(file, answer.url);
        }
        let mut body = answer.response.body_mut().as_reader();
        while *done < buffer.len() {
            match body.read(&mut buffer[*done..]) {
                Ok(0) => return Err(Failure::passing(HubError::Dropped { url })),
                Ok(read) => *done += read,
                Err(error) => return Err(self.client.broken(&url, &error)),
            }
        }
        Ok(())
    }

    /// Holds the headers of an answer against what was asked for, before a byte of it is taken.
    fn check(
        &self,
        answer: &HubAnswer,
        url: &str,
        entry: &RemoteEntry,
        wanted: &std::ops::Range<u64>,
    ) -> Result<(), Failure> {
        let (headers, url) = (answer.response.headers(), url.to_owned());
        if let Some(found) = text(&answer.first, &HeaderName::from_static("x-repo-commit"))
            && found != self.commit
        {
            let (pinned, found) = (self.commit.clone(), found.to_owned());
            return Err(Failure::lasting(HubError::OtherCommit { url, pinned, found }));
        }
        if let Some(encoding) = text(headers, &CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let detail = format!("it is compressed ({encoding}), which was not asked for");
            return Err(Failure::lasting(HubError::Unusable { url, detail }));
        }
        let sized = |found: u64| match found == entry.size {
            true => Ok(()),
            false if found <= MAX_POINTER && entry.sha256.is_some() => {
                Err(Failure::lasting(HubError::LfsPointer { url: url.clone() }))
            }
            false => Err(Failure::lasting(HubError::Size { url: url.clone(), listed: entry.size, found })),
        };
        let length = answer.response.body().content_length();
        if answer.response.status() == 200 {
            length.map_or(Ok(()), sized)?;
            return if *wanted == (0..entry.size) {
                Ok(())
            } else {
                let found = "the whole file".to_owned();
                Err(Failure::lasting(HubError::WrongRange { url, found }))
            };
        }
        let found = text(headers, &CONTENT_RANGE).unwrap_or_default();
        let wrong = || Failure::lasting(HubError::WrongRange { url: url.clone(), found: format!("`{found:.60}`") });
        let (range, total) = content_range(found).ok_or_else(wrong)?;
        total.map_or(Ok(()), sized)?;
        if range != *wanted || length.is_some_and(|length| length != wanted.end - wanted.start) {
            return Err(wrong());
        }
        Ok(())
    }
}

impl Repository for HubRepository {
    /// As that of its snapshot in the Hugging Face cache.
    fn name(&self) -> ModelName {
        ModelName { name: self.id.clone(), id: Some(self.id.clone()), revision: Some(self.commit.clone()) }
    }

    fn state(&self) -> &str {
        &self.commit
    }

    fn place(&self) -> &'static str {
        "on the hub"
    }

    fn download(&self) -> String {
        format!("hf download {} --revision {}", self.id, self.commit)
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn files(&self) -> &[RemoteEntry] {
        &self.files
    }

    /// A connection that is lost goes on from where it was; a server that is busy is asked again.
    fn read_exact_at(&self, file: usize, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError> {
        let (mut done, mut failures) = (0, 0);
        while done < buffer.len() {
            let mut read = 0;
            let filled = self.fill(file, &mut buffer[done..], offset + done as u64, &mut read);
            done += read;
            let Err(failure) = filled else { break };
            // The address that the hub gave may have expired.
            self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
            failures = if read >= PROGRESS { 1 } else { failures + 1 };
            match pause(failures, failure.asked).filter(|_| failure.may_pass) {
                Some(wait) => thread::sleep(wait),
                None => return Err(Box::new(failure.error)),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for HubRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, which holds the token.
        f.debug_struct("HubRepository").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Makes attempts until one succeeds, or none is worth another.
fn again<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, HubError> {
    let mut failures = 0;
    loop {
        let failure = match attempt() {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        failures += 1;
        match pause(failures, failure.asked).filter(|_| failure.may_pass) {
            Some(wait) => thread::sleep(wait),
            None => return Err(failure.error),
        }
    }
}

/// Reads the description of a model.
fn model_info(client: &Client, mut answer: HubAnswer) -> Result<ModelInfo, Failure> {
    let url = without_query(&answer.url);
    let mut json = Vec::new();
    let read = answer.response.body_mut().as_reader().take(MAX_INFO + 1).read_to_end(&mut json);
    read.map_err(|error| client.broken(&url, &error))?;
    let unusable = |detail| Failure::lasting(HubError::Unusable { url: url.clone(), detail });
    if json.len() as u64 > MAX_INFO {
        return Err(unusable("it is too long".to_owned()));
    }
    serde_json::from_slice(&json).map_err(|error| unusable(format!("it is no description of a model ({error})")))
}

/// The range and the whole length that `bytes A-B/SIZE` tells; the length is `None` where it is unknown.
fn content_range(value: &str) -> Option<(std::ops::Range<u64>, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = if total == "*" { None } else { Some(total.trim().parse().ok()?) };
    Some((first..last.checked_add(1)?, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 0-4/10"), Some((0..5, Some(10))));
        assert_eq!(content_range("bytes 7-7/*"), Some((7..8, None)));
        for wrong in ["", "bytes */10", "bytes 0-4", "0-4/10", "bytes a-4/10", "bytes 0-18446744073709551615/1"] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
