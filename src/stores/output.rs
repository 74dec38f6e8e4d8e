//! A prefix that an output is written to.

use std::ops::Range;
use std::thread;
use std::time::Duration;

use object_store::multipart::PartId;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutResult, UpdateVersion};
use qwen_fp8_checkpoint::remote::RemoteError;
use qwen_fp8_checkpoint::store::{ObjectState, OutputStore, StoredObject, UploadPart};

use crate::bucket::Bucket;
use crate::completion::{is_tag, tag_of_parts};
use crate::error::StoreError;
use crate::kind::StoreKind;
use crate::uploads;
use crate::wait::wait;

/// Attempts at what the library tries once where the connection is lost.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);

impl Bucket {
    /// Puts an object under a condition, once; where the answer is lost, that is an error, whatever came of it.
    fn put_once(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, StoreError> {
        let key = self.location.key(name)?;
        let mode = match over {
            None => PutMode::Create,
            Some(state) => {
                let version = self.version_of(name, state)?;
                PutMode::Update(UpdateVersion { e_tag: Some(state.tag.clone()), version })
            }
        };
        let put = wait(self.client.put_opts(&key, bytes.to_vec().into(), PutOptions::from(mode)));
        put.map_err(|error| self.error(&error)).and_then(|put| self.state_of(name, put))
    }

    /// Returns the version of an object in this state. Google's has conditions on versions alone, and does not list them.
    fn version_of(&self, name: &str, state: &ObjectState) -> Result<Option<String>, StoreError> {
        if state.version.is_some() || !matches!(self.location.kind, StoreKind::Google) {
            return Ok(state.version.clone());
        }
        match self.head(name)? {
            Some(found) if found.e_tag.as_ref() == Some(&state.tag) => Ok(found.version),
            _ => Err(StoreError::Conflict { address: self.address_of(name) }),
        }
    }

    fn state_of(&self, name: &str, put: PutResult) -> Result<ObjectState, StoreError> {
        match put.e_tag {
            Some(tag) => Ok(ObjectState { tag, version: put.version }),
            None => Err(self.without_tag(name)),
        }
    }

    fn state_in(&self, name: &str, object: ObjectMeta) -> Result<ObjectState, StoreError> {
        match object.e_tag {
            Some(tag) => Ok(ObjectState { tag, version: object.version }),
            None => Err(self.without_tag(name)),
        }
    }

    fn without_tag(&self, name: &str) -> StoreError {
        let reason = "the store gave it no tag, by which two states could be told apart".to_owned();
        StoreError::Refused { address: self.address_of(name), reason }
    }

    fn read_whole(&self, name: &str) -> Result<Option<(Vec<u8>, ObjectState)>, StoreError> {
        let key = self.location.key(name)?;
        let got = wait(async {
            let got = self.client.get(&key).await?;
            let meta = got.meta.clone();
            Ok((got.bytes().await?, meta))
        });
        match got {
            Ok((bytes, meta)) => Ok(Some((bytes.to_vec(), self.state_in(name, meta)?))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error(&error)),
        }
    }

    fn put_object(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, StoreError> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let refused = match self.put_once(name, bytes, over) {
                Ok(state) => return Ok(state),
                Err(error @ (StoreError::Conflict { .. } | StoreError::Unreachable { .. })) => error,
                Err(error) => return Err(error),
            };
            // It may have come about with an attempt whose answer was lost, and then refuses the next one.
            if let Some((found, state)) = self.read_whole(name)?
                && found == bytes
                && over != Some(&state)
            {
                return Ok(state);
            }
            if attempt == ATTEMPTS || matches!(refused, StoreError::Conflict { .. }) {
                return Err(refused);
            }
            thread::sleep(pause);
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn complete_upload(
        &self,
        name: &str,
        upload: &str,
        parts: &[String],
        size: u64,
    ) -> Result<ObjectState, StoreError> {
        let key = self.location.key(name)?;
        // S3 is asked for it with the completion itself (connector.rs), the others have no such condition there.
        if self.s3.is_none() && self.head(name)?.is_some() {
            return Err(StoreError::Conflict { address: self.address_of(name) });
        }
        let ids = parts.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        let error = match wait(self.client.complete_multipart(&key, &upload.to_owned(), ids)) {
            Ok(put) => return self.state_of(name, put),
            Err(error) => error,
        };
        // It may have come about with an attempt whose answer was lost: the upload is then gone, or the name taken.
        let refused = self.error(&error);
        if matches!(refused, StoreError::Conflict { .. } | StoreError::Unreachable { .. })
            && let Some(found) = self.head(name)?
        {
            let is_ours = if self.s3.is_some() {
                let wanted = tag_of_parts(parts);
                found.e_tag.as_deref().zip(wanted.as_deref()).is_some_and(|(found, ours)| is_tag(found, ours))
            } else {
                // Tags of the others tell nothing of the parts. Nothing was there a moment ago, and a run of another job, which
                // could have an object of the same size, would hold the journal, which is written next.
                found.size == size
            };
            return if is_ours {
                self.state_in(name, found)
            } else {
                Err(StoreError::Conflict { address: self.address_of(name) })
            };
        }
        Err(refused)
    }
}

impl OutputStore for Bucket {
    fn address(&self) -> &str {
        &self.address
    }

    fn list(&self) -> Result<Vec<StoredObject>, RemoteError> {
        let stored = |(name, object): (String, ObjectMeta)| {
            let size = object.size;
            let state = self.state_in(&name, object)?;
            Ok(StoredObject { name, size, state })
        };
        self.objects().and_then(|objects| objects.into_iter().map(stored).collect()).map_err(boxed)
    }

    fn read(&self, name: &str) -> Result<Option<(Vec<u8>, ObjectState)>, RemoteError> {
        self.read_whole(name).map_err(boxed)
    }

    fn read_exact_at(
        &self,
        name: &str,
        state: &ObjectState,
        buffer: &mut [u8],
        offset: u64,
    ) -> Result<(), RemoteError> {
        self.fill(name, Some(&state.tag), buffer, offset).map_err(boxed)
    }

    fn put(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, RemoteError> {
        self.put_object(name, bytes, over).map_err(boxed)
    }

    fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let key = self.location.key(name).map_err(boxed)?;
        let remove = || match wait(self.client.delete(&key)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error(&error)),
        };
        persistently(remove).map_err(boxed)
    }

    fn begin(&self, name: &str) -> Result<String, RemoteError> {
        let key = self.location.key(name).map_err(boxed)?;
        let begin = || wait(self.client.create_multipart(&key)).map_err(|error| self.error(&error));
        // On S3 the library itself is persistent. What was begun without our knowledge has no parts.
        if self.s3.is_some() { begin() } else { persistently(begin) }.map_err(boxed)
    }

    fn put_part(&self, name: &str, upload: &str, part: UploadPart) -> Result<String, RemoteError> {
        let key = self.location.key(name).map_err(boxed)?;
        let put = wait(self.client.put_part(&key, &upload.to_owned(), part.number, part.bytes.into()));
        put.map(|part| part.content_id).map_err(|error| boxed(self.error(&error)))
    }

    fn complete(
        &self,
        name: &str,
        upload: &str,
        parts: &[String],
        size: u64,
        _: &[Range<u64>],
    ) -> Result<ObjectState, RemoteError> {
        self.complete_upload(name, upload, parts, size).map_err(boxed)
    }

    fn abandon(&self, name: &str, upload: &str) -> Result<(), RemoteError> {
        let key = self.location.key(name).map_err(boxed)?;
        let give_up = || match wait(self.client.abort_multipart(&key, &upload.to_owned())) {
            Ok(()) => Ok(()),
            Err(error) => match self.error(&error) {
                // It is gone already.
                StoreError::Conflict { .. } => Ok(()),
                error => Err(error),
            },
        };
        persistently(give_up).map_err(boxed)
    }

    fn uploads(&self) -> Result<Vec<(String, String)>, RemoteError> {
        let listed = self.s3.as_ref().map_or(Ok(Vec::new()), |s3| uploads::list(self, s3));
        match listed {
            // A right of its own, which writing does not need.
            Err(StoreError::Denied { .. }) => Ok(Vec::new()),
            // As with s3s-fs: those that the journal notes are given up all the same.
            Err(StoreError::Refused { reason, .. }) if reason == "NotImplemented" => Ok(Vec::new()),
            listed => listed.map_err(boxed),
        }
    }
}

/// Makes a request that may come about twice until it is answered.
fn persistently<T>(request: impl Fn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match request() {
            Err(StoreError::Unreachable { .. }) => thread::sleep(pause),
            answered => return answered,
        }
        pause *= 2;
    }
    request()
}

fn boxed(error: StoreError) -> RemoteError {
    Box::new(error)
}
