//! Opening a delta: preamble and table of contents, and reading its records in order.

use std::path::{Path, PathBuf};

use qwen_fp8_checkpoint::checksum::{Crc64, hexadecimal};
use qwen_fp8_checkpoint::source::{SourceFile, Stamp};
use qwen_fp8_checkpoint::text::Sample;
use sha2::{Digest as _, Sha256};

use crate::base::BaseFiles;
use crate::contents::{DeltaContents, MAGIC, MAX_CONTENTS, PREAMBLE, VERSION};
use crate::error::DeltaError;
use crate::record::{RECORD_HEAD, RecordHead};
use crate::words::WordKind;

/// A delta whose table of contents was read and checked.
#[derive(Debug)]
pub struct OpenDelta {
    file: SourceFile,
    path: PathBuf,
    pub contents: DeltaContents,
    /// SHA-256 of preamble and table of contents, as hexadecimal digits.
    pub digest: String,
    /// Where the records begin.
    records: u64,
}

/// The place in a delta from which records are read.
#[derive(Debug)]
pub struct DeltaReader<'a> {
    delta: &'a OpenDelta,
    at: u64,
}

impl OpenDelta {
    /// Reads and checks everything about a delta but its records.
    ///
    /// # Errors
    /// It cannot be read, is none, or is damaged.
    pub fn open(path: &Path) -> Result<Self, DeltaError> {
        let file = SourceFile::open(path)?;
        let (size, path) = (file.size(), path.to_owned());
        let mut preamble = [0; PREAMBLE];
        let there = size.min(PREAMBLE as u64) as usize;
        file.read_exact_at(&mut preamble[..there], 0)?;
        if there < MAGIC.len() || preamble[..8] != MAGIC {
            return Err(DeltaError::NotDelta { path });
        }
        if there < PREAMBLE {
            return Err(DeltaError::Truncated { path, size, at: PREAMBLE as u64 });
        }
        let version = u32::from_le_bytes(std::array::from_fn(|byte| preamble[8 + byte]));
        if version != VERSION {
            return Err(DeltaError::Version { path, version });
        }
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| preamble[at + byte]));
        let (packed, unpacked, sum) = (number(12), number(20), Crc64(number(28)));
        let damaged = |what: &str| DeltaError::Damaged { path: path.clone(), at: 0, what: what.to_owned() };
        // Before any memory is taken.
        if packed > MAX_CONTENTS || unpacked > MAX_CONTENTS {
            return Err(damaged("its table of contents would be larger than any"));
        }
        let records = PREAMBLE as u64 + packed;
        if records > size {
            return Err(DeltaError::Truncated { path, size, at: records });
        }
        let mut table = vec![0; packed as usize];
        file.read_exact_at(&mut table, PREAMBLE as u64)?;
        if Crc64::of(&preamble[..28]).then(Crc64::of(&table), packed) != sum {
            return Err(damaged("the checksum of its table of contents is another one"));
        }
        let contents = DeltaContents::unpack(&table, unpacked).map_err(|what| damaged(&what))?;
        let digest = hexadecimal(&Sha256::new().chain_update(preamble).chain_update(&table).finalize());
        Ok(Self { file, path, contents, digest, records })
    }

    /// The state in which the delta was opened.
    pub fn stamp(&self) -> Stamp {
        self.file.stamp()
    }

    /// Checks that the base has every tensor that the delta is held against, in its size and words; reads no data.
    ///
    /// # Errors
    /// It does not.
    pub fn check_base(&self, base: &BaseFiles<'_>) -> Result<(), DeltaError> {
        let parts = || self.contents.files.iter().flat_map(|file| &file.parts);
        let dir = || base.checkpoint.dir.clone();
        let named = parts().filter_map(|part| part.base_tensor());
        let tensors: Sample = named.filter(|name| base.tensor(name).is_none()).collect();
        if !tensors.is_empty() {
            return Err(DeltaError::MissingTensors { base: dir(), tensors });
        }
        for part in parts() {
            let Some(tensor) = part.base_tensor().and_then(|name| base.tensor(name)) else { continue };
            let words = WordKind::of(tensor.dtype);
            if (tensor.len, words) != (part.bytes, part.words) {
                return Err(DeltaError::OtherTensor {
                    base: dir(),
                    tensor: tensor.name.clone(),
                    has: tensor.len,
                    found: words.name(),
                    wants: part.bytes,
                    expected: part.words.name(),
                });
            }
        }
        Ok(())
    }

    /// Begins with the first record.
    pub fn reader(&self) -> DeltaReader<'_> {
        DeltaReader { delta: self, at: self.records }
    }
}

impl DeltaReader<'_> {
    /// Reads the head of the next record, whose payload may have so many bytes, and returns it with its offset.
    pub(crate) fn head(&mut self, most: usize) -> Result<(RecordHead, u64), DeltaError> {
        let mut bytes = [0; RECORD_HEAD];
        let at = self.at;
        self.take(&mut bytes)?;
        match RecordHead::read(&bytes) {
            None => Err(self.damaged(at, "the record there is of no known form")),
            Some(head) if head.payload as usize > most => {
                Err(self.damaged(at, "the record there is longer than what it is of"))
            }
            Some(head) => Ok((head, at)),
        }
    }

    /// Reads the payload of a record.
    pub(crate) fn payload(&mut self, head: &RecordHead, at: u64) -> Result<Vec<u8>, DeltaError> {
        // No more than `most` of the head, which is a piece.
        let mut payload = vec![0; head.payload as usize];
        self.take(&mut payload)?;
        if head.holds(&payload) {
            Ok(payload)
        } else {
            Err(self.damaged(at, "the checksum of the record there is another one"))
        }
    }

    /// Passes over the payload of a record.
    pub(crate) fn skip(&mut self, head: &RecordHead) {
        self.at += u64::from(head.payload);
    }

    /// Checks that the delta ends here, in the state in which it was opened.
    ///
    /// # Errors
    /// It goes on, or changed since.
    pub fn check_end(&self) -> Result<(), DeltaError> {
        if self.at < self.delta.file.size() {
            return Err(self.damaged(self.at, "the delta goes on after its last file"));
        }
        Ok(self.delta.file.check_unchanged(self.delta.stamp())?)
    }

    pub(crate) fn damaged(&self, at: u64, what: &str) -> DeltaError {
        DeltaError::Damaged { path: self.delta.path.clone(), at, what: what.to_owned() }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<(), DeltaError> {
        let (size, end) = (self.delta.file.size(), self.at + bytes.len() as u64);
        if end > size {
            return Err(DeltaError::Truncated { path: self.delta.path.clone(), size, at: end });
        }
        self.delta.file.read_exact_at(bytes, self.at)?;
        self.at = end;
        Ok(())
    }
}
