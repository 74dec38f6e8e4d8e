//! The checkpoint below a prefix, in the state in which it was first listed.

use std::fmt;
use std::sync::Arc;

use qwen_fp8_checkpoint::checksum::hexadecimal;
use qwen_fp8_checkpoint::hub::ModelName;
use qwen_fp8_checkpoint::remote::{RemoteEntry, RemoteError, Repository};
use sha2::{Digest, Sha256};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::kind::StoreKind;
use crate::location::StoreLocation;

/// The objects below a prefix, each pinned to the tag that the store gave it.
pub struct StoreRepository {
    bucket: Bucket,
    state: String,
    files: Vec<RemoteEntry>,
    tags: Vec<Option<String>>,
}

impl StoreRepository {
    /// Lists a prefix and pins what lies there. A request for each thousand objects.
    ///
    /// # Errors
    /// The store cannot be reached, does not let this reader in, or has nothing there.
    pub fn open(location: StoreLocation) -> Result<Arc<Self>, StoreError> {
        let bucket = Bucket::open(location)?;
        let (mut files, mut tags, mut state) = (Vec::new(), Vec::new(), Sha256::new());
        for (name, object) in bucket.objects()? {
            // What some tools leave for a folder.
            if name.ends_with('/') {
                continue;
            }
            if name.chars().any(|c| c.is_control() || c == '\\') {
                return Err(StoreError::Name { address: bucket.address, name });
            }
            let tag = object.e_tag.as_deref().unwrap_or_default();
            state.update(format!("{name}\n{}\n{tag}\n", object.size));
            tags.push(object.e_tag.filter(|tag| !tag.is_empty()));
            files.push(RemoteEntry { name, size: object.size, sha256: None });
        }
        if files.is_empty() {
            return Err(StoreError::Empty { address: bucket.address });
        }
        let state = format!("listing {}", hexadecimal(&state.finalize()));
        Ok(Arc::new(Self { bucket, state, files, tags }))
    }
}

impl Repository for StoreRepository {
    fn name(&self) -> ModelName {
        // As of a directory with this name: the output does not tell where the source lay.
        ModelName { name: self.bucket.location.name(), id: None, revision: None }
    }

    fn state(&self) -> &str {
        &self.state
    }

    fn address(&self) -> &str {
        &self.bucket.address
    }

    fn place(&self) -> &'static str {
        "in an object store"
    }

    fn download(&self) -> String {
        let Bucket { location, address, .. } = &self.bucket;
        match location.kind {
            StoreKind::S3 => format!("aws s3 sync {address} {}", location.name()),
            StoreKind::Google => format!("gcloud storage cp --recursive {address} ."),
            StoreKind::Azure => {
                let pattern =
                    if location.prefix.as_ref().is_empty() { String::new() } else { format!("{}/", location.prefix) };
                format!(
                    "az storage blob download-batch --source {} --pattern '{pattern}*' --destination .",
                    location.bucket
                )
            }
        }
    }

    fn files(&self) -> &[RemoteEntry] {
        &self.files
    }

    /// A connection that is lost goes on from where it was; a store that is busy is asked again.
    fn read_exact_at(&self, file: usize, buffer: &mut [u8], offset: u64) -> Result<(), RemoteError> {
        let (name, tag) = (&self.files[file].name, self.tags[file].as_deref());
        self.bucket.fill(name, tag, buffer, offset).map_err(|error| Box::new(error) as RemoteError)
    }
}

impl fmt::Debug for StoreRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreRepository").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
