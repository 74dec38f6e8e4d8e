//! A model on the hub, pinned to a commit, and reading ranges of its files.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use qwen_fp8_checkpoint::hub::ModelName;
use qwen_fp8_checkpoint::remote::{RemoteEntry, RemoteError, Repository};
use ureq::http::HeaderName;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_RANGE};

use crate::access::HubAccess;
use crate::address::{part, path};
use crate::answer::json;
use crate::attempts::{again, sleep};
use crate::client::{AskedFor, Client, Failure, HubAnswer, text};
use crate::error::HubError;
use crate::model_info::ModelInfo;
use crate::pause::pause;
use crate::tree::{self, TreeFile};

/// The revision that is read where none is named.
pub(crate) const MAIN: &str = "main";

/// Bytes that an attempt must have brought to count as none of the failed ones: a server that drops every connection after
/// a few bytes would otherwise hold a run for ever.
const PROGRESS: usize = 64 << 10;

/// Bytes of a file that are asked for at a time where it is taken as a whole: an answer may take five minutes.
const STRETCH: u64 = 256 << 20;

/// Bytes of such an answer that are handed on at a time.
const STREAMED: usize = 1 << 20;

/// A pointer of git-lfs is never longer.
const MAX_POINTER: u64 = 1024;

/// Takes bytes of a file, which begin at an offset in it.
pub(crate) type TakeBytes<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<(), HubError>;

/// A model on the hub in the state of one commit.
pub struct HubRepository {
    client: Client,
    pub(crate) id: String,
    pub(crate) revision: String,
    pub(crate) commit: String,
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
        let info =
            again(|| json::<ModelInfo>(&client, client.get(&url, None, subject)?, "it is no description of a model"))?;
        let (commit, files) = info.files(&url)?;
        let address = format!("{endpoint}/{}/resolve/{commit}", path(id));
        Ok(Arc::new(Self { client, id: id.to_owned(), revision, commit, address, files, places: Mutex::default() }))
    }

    /// Asks once for bytes of a file; what the answer says of itself is what was asked for.
    fn ask(&self, file: usize, wanted: Range<u64>) -> Result<HubAnswer, Failure> {
        let entry = &self.files[file];
        // A small file is asked for as a whole: some servers send those in no other way.
        let range = (wanted != (0..entry.size)).then(|| wanted.clone());
        let url = self.url(file);
        let place = self.places.lock().unwrap_or_else(PoisonError::into_inner).get(&file).cloned();
        let answer = self.client.get(place.as_deref().unwrap_or(&url), range, self.subject())?;
        self.check(&answer, &url, entry, &wanted)?;
        if answer.url != url {
            self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(file, answer.url.clone());
        }
        Ok(answer)
    }

    /// Makes attempts at bytes of a file, each of which says how many it has brought, until one succeeds, or none is worth
    /// another. A connection that is lost goes on from where it was; a server that is busy is asked again.
    fn persist(
        &self,
        file: usize,
        is_cancelled: &dyn Fn() -> bool,
        mut attempt: impl FnMut(&mut usize) -> Result<(), Failure>,
    ) -> Result<(), HubError> {
        let mut failures = 0;
        loop {
            let mut read = 0;
            let Err(failure) = attempt(&mut read) else { return Ok(()) };
            // The address that the hub gave may have expired.
            self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
            failures = if read >= PROGRESS { 1 } else { failures + 1 };
            match pause(failures, failure.asked).filter(|_| failure.may_pass) {
                Some(wait) => sleep(wait, is_cancelled)?,
                None => return Err(failure.error),
            }
        }
    }

    /// Hands the bytes of a file from `offset` on to `take`, in order.
    pub(crate) fn stream(
        &self,
        file: usize,
        mut offset: u64,
        is_cancelled: &dyn Fn() -> bool,
        take: TakeBytes<'_>,
    ) -> Result<(), HubError> {
        let size = self.files[file].size;
        let mut buffer = vec![0; STREAMED];
        while offset < size {
            let end = size.min(offset + STRETCH);
            self.persist(file, is_cancelled, |read| {
                let mut answer = self.ask(file, offset..end)?;
                let mut body = answer.response.body_mut().as_reader();
                while offset < end {
                    let most = buffer.len().min((end - offset) as usize);
                    let bytes = self.read_some(file, &mut body, &mut buffer[..most])?;
                    take(&buffer[..bytes], offset).map_err(Failure::lasting)?;
                    offset += bytes as u64;
                    *read += bytes;
                    if is_cancelled() {
                        return Err(Failure::lasting(HubError::Cancelled));
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Reads what has arrived of an answer, a byte at least.
    fn read_some(&self, file: usize, body: &mut dyn io::Read, buffer: &mut [u8]) -> Result<usize, Failure> {
        match body.read(buffer) {
            Ok(0) => Err(Failure::passing(HubError::Dropped { url: self.url(file) })),
            Ok(read) => Ok(read),
            Err(error) => Err(self.client.broken(&self.url(file), &error)),
        }
    }

    /// The address of a file.
    pub(crate) fn url(&self, file: usize) -> String {
        format!("{}/{}", self.address, path(&self.files[file].name))
    }

    fn subject(&self) -> AskedFor<'_> {
        AskedFor { id: &self.id, revision: &self.revision, is_model: false }
    }

    /// Reads the listing of the commit, with the hash of each file.
    pub(crate) fn tree(&self) -> Result<Vec<(String, TreeFile)>, HubError> {
        let url = format!("{}/api/models/{}/tree/{}", self.client.access.endpoint, path(&self.id), self.commit);
        tree::read(&self.client, &url, self.subject())
    }

    /// Holds the headers of an answer against what was asked for, before a byte of it is taken.
    fn check(&self, answer: &HubAnswer, url: &str, entry: &RemoteEntry, wanted: &Range<u64>) -> Result<(), Failure> {
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

    fn read_exact_at(&self, file: usize, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError> {
        // An answer of no bytes would look like a lost connection.
        if buffer.is_empty() {
            return Ok(());
        }
        let mut done = 0;
        let filled = self.persist(file, &|| false, |read| {
            let mut answer = self.ask(file, offset + done as u64..offset + buffer.len() as u64)?;
            let mut body = answer.response.body_mut().as_reader();
            while done < buffer.len() {
                let bytes = self.read_some(file, &mut body, &mut buffer[done..])?;
                done += bytes;
                *read += bytes;
            }
            Ok(())
        });
        Ok(filled?)
    }
}

impl fmt::Debug for HubRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the client, which holds the token.
        f.debug_struct("HubRepository").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The range and the whole length that `bytes A-B/SIZE` tells; the length is `None` where it is unknown.
fn content_range(value: &str) -> Option<(Range<u64>, Option<u64>)> {
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
