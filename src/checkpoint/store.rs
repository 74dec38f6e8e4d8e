//! A place elsewhere that an output is written to: objects under one prefix, each of which is there whole or not at all.

use std::fmt::Debug;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::remote::RemoteError;

/// Objects under one prefix of a store. Any number of threads may call it at once.
///
/// An object is put in one go, or in parts that become an object with [`OutputStore::complete`].
pub trait OutputStore: Debug + Send + Sync {
    /// The address that the names of objects follow, without a `/` at its end.
    fn address(&self) -> &str;

    /// Returns the objects under the prefix, in order of name.
    ///
    /// # Errors
    /// The store does not tell, as with the other functions.
    fn list(&self) -> Result<Vec<StoredObject>, RemoteError>;

    /// Returns a small object and its state; `None` where there is none.
    fn read(&self, name: &str) -> Result<Option<(Vec<u8>, ObjectState)>, RemoteError>;

    /// Fills `buffer` from the bytes at `offset` of an object that is in this state.
    fn read_exact_at(&self, name: &str, state: &ObjectState, buffer: &mut [u8], offset: u64)
    -> Result<(), RemoteError>;

    /// Puts an object where nothing has its name or, with `over`, in place of one in that state.
    ///
    /// # Errors
    /// [`is_conflict`](crate::remote::RemoteFailure::is_conflict) where something else is there.
    fn put(&self, name: &str, bytes: &[u8], over: Option<&ObjectState>) -> Result<ObjectState, RemoteError>;

    /// Removes an object, if it is there.
    fn remove(&self, name: &str) -> Result<(), RemoteError>;

    /// Begins an upload in parts and returns its id.
    fn begin(&self, name: &str) -> Result<String, RemoteError>;

    /// Uploads a part and returns its tag.
    fn put_part(&self, name: &str, upload: &str, part: UploadPart) -> Result<String, RemoteError>;

    /// Makes an object of `size` bytes of the parts with these tags, where nothing has its name. Of its bytes these ranges are
    /// read once more, and no others.
    ///
    /// # Errors
    /// As [`OutputStore::put`].
    fn complete(
        &self,
        name: &str,
        upload: &str,
        parts: &[String],
        size: u64,
        read_later: &[Range<u64>],
    ) -> Result<ObjectState, RemoteError>;

    /// Gives up an upload, with its parts, if it is still under way.
    fn abandon(&self, name: &str, upload: &str) -> Result<(), RemoteError>;

    /// Returns the uploads under the prefix that are under way, each with its object's name and its id; none where the store
    /// does not tell.
    fn uploads(&self) -> Result<Vec<(String, String)>, RemoteError>;
}

/// A part of an upload. All but the last one of an upload are equally long.
#[derive(Debug)]
pub struct UploadPart {
    /// From 0 on.
    pub number: usize,
    /// Where its bytes begin in the object.
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// An object as a store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Path below the prefix, with `/` between its parts.
    pub name: String,
    pub size: u64,
    pub state: ObjectState,
}

/// What tells one state of an object from every other one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectState {
    /// The store's `ETag`.
    pub tag: String,
    /// The generation or version, where the store has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}
