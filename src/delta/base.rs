//! The checkpoint that pieces are held against, opened file by file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use qwen_fp8_checkpoint::source::{SourceError, SourceFile};
use qwen_fp8_checkpoint::{Checkpoint, ShardFile, Tensor};

use crate::contents::{ContentFile, ContentPart, PartBase};
use crate::files::beside_shards;

/// Files that are open at a time; a checkpoint may have more than a process may open.
const MOST_OPEN: usize = 64;

/// A checkpoint whose bytes are read by the parts of a delta.
#[derive(Debug)]
pub struct BaseFiles<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    tensors: HashMap<&'a str, &'a Tensor>,
    /// Numbers of the shards by name.
    shards: HashMap<&'a str, usize>,
    /// Sizes of all files, shards included.
    sizes: HashMap<String, u64>,
    open: Mutex<HashMap<usize, Arc<ShardFile>>>,
}

/// Where the base's bytes of a piece lie.
#[derive(Clone, Debug)]
pub(crate) enum BasePlace {
    /// Shard and offset.
    Shard(usize, u64),
    /// A file and an offset.
    File(String, u64),
}

impl<'a> BaseFiles<'a> {
    /// Lists the files of a checkpoint on this machine.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn new(checkpoint: &'a Checkpoint) -> Result<Self, SourceError> {
        let sizes = checkpoint.shards.iter().map(|shard| (shard.name.clone(), shard.size));
        let sizes = sizes.chain(beside_shards(checkpoint)?).collect();
        let shards =
            checkpoint.shards.iter().enumerate().map(|(number, shard)| (shard.name.as_str(), number)).collect();
        let tensors = checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        Ok(Self { checkpoint, tensors, shards, sizes, open: Mutex::default() })
    }

    /// The names of all files, shards included.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.sizes.keys().map(String::as_str)
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&'a Tensor> {
        self.tensors.get(name).copied()
    }

    /// The place of `len` bytes from `at` on of what a part is held against; `None` where there are none.
    pub(crate) fn place(&self, file: &ContentFile, part: &ContentPart, at: u64, len: usize) -> Option<BasePlace> {
        if part.base == PartBase::File {
            let size = *self.sizes.get(&file.name)?;
            return (at + len as u64 <= size).then(|| self.place_in(&file.name, at));
        }
        let tensor = self.tensor(part.base_tensor()?)?;
        (at + len as u64 <= tensor.len).then_some(BasePlace::Shard(tensor.shard, tensor.offset + at))
    }

    /// The place of an offset in a file of this name; a shard is opened once for all of them.
    pub(crate) fn place_in(&self, file: &str, offset: u64) -> BasePlace {
        match self.shards.get(file) {
            Some(shard) => BasePlace::Shard(*shard, offset),
            None => BasePlace::File(file.to_owned(), offset),
        }
    }

    /// Fills `bytes` from a place.
    ///
    /// # Errors
    /// The file is gone, changed, or cannot be read.
    pub(crate) fn read(&self, place: &BasePlace, bytes: &mut [u8]) -> Result<(), SourceError> {
        match place {
            BasePlace::Shard(shard, offset) => self.shard(*shard)?.read_exact_at(bytes, *offset),
            BasePlace::File(name, offset) => {
                SourceFile::open(&self.checkpoint.dir.join(name))?.read_exact_at(bytes, *offset)
            }
        }
    }

    /// The file of a place, for messages.
    pub(crate) fn path(&self, place: &BasePlace) -> PathBuf {
        match place {
            BasePlace::Shard(shard, _) => self.checkpoint.shards[*shard].path.clone(),
            BasePlace::File(name, _) => self.checkpoint.dir.join(name),
        }
    }

    fn shard(&self, number: usize) -> Result<Arc<ShardFile>, SourceError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        if open.len() == MOST_OPEN {
            open.clear();
        }
        let file = Arc::new(self.checkpoint.shards[number].open()?);
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Checks, after the last read, that no shard changed since its header was read.
    ///
    /// # Errors
    /// One did.
    pub fn check_unchanged(&self) -> Result<(), SourceError> {
        self.checkpoint.shards.iter().try_for_each(|shard| shard.open().map(drop))?;
        self.checkpoint.side_files.iter().try_for_each(|file| file.open().map(drop))
    }
}
