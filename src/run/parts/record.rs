//! The record of a part that is made: under which plan, which bytes, and their checksums.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::NonFiniteRecord;
use crate::plan::Plan;
use crate::run::error::RunError;
use crate::run::files::create_new;
use crate::run::identity::Identity;
use crate::run::journal::{content, line};
use crate::run::recorder::Recorder;
use crate::run::share::WrittenBytes;
use crate::run::stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};

/// Largest size in bytes of a file that is read as a record, which has an entry per tensor.
const MAX_BYTES: u64 = 256 << 20;

/// A part whose files were complete and durable when this was written: a line like those of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartRecord {
    pub(super) identity: Identity,
    /// Name of the directory that holds its files.
    pub(super) attempt: String,
    pub(super) ranges: Vec<WrittenRange>,
    /// Statistics of the rows that the part has quantized.
    pub(super) non_finite: Vec<TensorStats<NonFiniteRecord>>,
    pub(super) degenerate_scales: Vec<TensorStats<DegenerateScaleCounts>>,
    pub(super) lossy_granules: Vec<TensorStats<LossyGranuleCounts>>,
}

/// Bytes of a tensor that a part wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRange {
    shard: String,
    tensor: String,
    from: u64,
    to: u64,
    /// What the bytes contribute to the checksum of the whole tensor.
    pub(super) crc64: Crc64,
}

/// A record as it was found.
pub(super) enum FoundRecord {
    Nothing,
    /// One that is torn, or that another version wrote.
    Unreadable,
    Record(Box<PartRecord>),
}

impl PartRecord {
    /// Returns the record of an attempt that wrote these ranges.
    pub(super) fn new(
        plan: &Plan,
        identity: &Identity,
        attempt: &str,
        written: &[WrittenBytes],
        recorder: &Recorder<'_>,
    ) -> Self {
        let range = |WrittenBytes { slot, bytes }: &WrittenBytes| WrittenRange {
            crc64: recorder.checksums.tensor(slot.shard, slot.tensor),
            ..WrittenRange::planned(plan, &WrittenBytes { slot: *slot, bytes: bytes.clone() })
        };
        Self {
            identity: identity.across_machines(),
            attempt: attempt.to_owned(),
            ranges: written.iter().map(range).collect(),
            non_finite: recorder.non_finite.all(plan),
            degenerate_scales: recorder.degenerate_scales.all(plan),
            lossy_granules: recorder.lossy_granules.all(plan),
        }
    }

    /// Writes the record to a new file and makes its bytes durable.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), RunError> {
        let mut file = create_new(path, 0o666).map_err(RunError::file("create", path))?;
        let written = file.write_all(line(self).as_bytes()).and_then(|()| file.sync_all());
        written.map_err(RunError::file("write", path))
    }

    /// Returns whether the record is of these ranges.
    pub(super) fn is_of(&self, plan: &Plan, written: &[WrittenBytes]) -> bool {
        self.ranges.len() == written.len()
            && self.ranges.iter().zip(written).all(|(range, written)| {
                let planned = WrittenRange { crc64: range.crc64, ..WrittenRange::planned(plan, written) };
                *range == planned
            })
    }

    /// Returns the first tensor whose bytes differ from those of another record of the same ranges.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let different = self.ranges.iter().zip(&other.ranges).find(|(one, other)| one != other);
        different.map(|(range, _)| range.tensor.clone())
    }

    /// Returns the directory of the part's files in `root`; `None` where the record names no directory in it.
    pub(super) fn dir(&self, root: &Path) -> Option<PathBuf> {
        let is_name = !self.attempt.is_empty() && !self.attempt.contains('/') && !self.attempt.starts_with('.');
        is_name.then(|| root.join(&self.attempt))
    }
}

impl WrittenRange {
    fn planned(plan: &Plan, WrittenBytes { slot, bytes }: &WrittenBytes) -> Self {
        let shard = &plan.shards[slot.shard];
        Self {
            shard: shard.file_name.clone(),
            tensor: shard.tensors[slot.tensor].entry.name.clone(),
            from: bytes.start,
            to: bytes.end,
            crc64: Crc64::default(),
        }
    }
}

impl FoundRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, RunError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) => return Err(RunError::file("read", path)(error)),
            Ok(_) => {}
        }
        let record = content(&bytes).and_then(|json| serde_json::from_str(json).ok());
        Ok(record.map_or(Self::Unreadable, |record| Self::Record(Box::new(record))))
    }
}
