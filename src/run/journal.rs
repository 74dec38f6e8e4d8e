//! The journal of a run: the identity of its job, and the shards that are finished and durable.
//!
//! A line is `<CRC-64 of the rest> <JSON>`. The first one is the identity, each other one a finished shard. A line
//! whose checksum is wrong, torn by a crash or edited, ends the journal.
//!
//! Lines that are appended need no more than one write and one sync per shard, and a crash can tear the last one only:
//! a file that is rewritten for each shard would have to be synced, renamed and its directory synced every time. No
//! line refers to another one, so that a journal that is cut anywhere is a shorter journal.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::NonFiniteRecord;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::identity::Identity;
use crate::run::stats::{DegenerateScaleCounts, LossyGranuleCounts, TensorStats};

/// Largest size in bytes of a file that is read as a journal, which has a line per shard.
const MAX_BYTES: u64 = 256 << 20;

/// A shard that was complete and durable when its line was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishedShard {
    pub(super) shard: String,
    pub(super) size: u64,
    pub(super) crc64: Crc64,
    /// Statistics of the non-finite values in the shard's weights, which a later run does not read again.
    #[serde(rename = "kept", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) non_finite: Vec<TensorStats<NonFiniteRecord>>,
    /// Statistics of their degenerate scales, likewise.
    #[serde(rename = "scales", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) degenerate_scales: Vec<TensorStats<DegenerateScaleCounts>>,
    /// Statistics of granules that were to be held exactly and were rounded, likewise.
    #[serde(rename = "lossy", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) lossy_granules: Vec<TensorStats<LossyGranuleCounts>>,
}

impl FinishedShard {
    /// A shard whose weights no statistics were made of.
    pub(super) fn without_statistics(shard: &str, size: u64, crc64: Crc64) -> Self {
        Self {
            shard: shard.to_owned(),
            size,
            crc64,
            non_finite: Vec::new(),
            degenerate_scales: Vec::new(),
            lossy_granules: Vec::new(),
        }
    }
}

/// The journal of an earlier run, as far as its checksums hold.
#[derive(Debug)]
pub(super) struct PastRun {
    pub(super) identity: Identity,
    pub(super) finished: Vec<FinishedShard>,
}

/// The journal of the run in progress.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    finished: Mutex<Vec<FinishedShard>>,
}

/// A journal as an earlier run left it.
#[derive(Debug)]
pub(super) enum FoundJournal {
    /// No journal, or one whose first line has a wrong checksum.
    Nothing,
    /// A first line that is whole, and whose content this version does not know: that of another version.
    OtherVersion,
    Run(Box<PastRun>),
}

impl FoundJournal {
    /// Reads a journal.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self, RunError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) => return Err(RunError::file("read", path)(error)),
            Ok(_) if bytes.len() as u64 > MAX_BYTES => return Ok(Self::Nothing),
            Ok(_) => {}
        }
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let Some(first) = lines.next().and_then(content) else { return Ok(Self::Nothing) };
        // A torn line says nothing, and a whole one that cannot be understood says that somebody's work is there.
        let Ok(identity) = serde_json::from_str(first) else { return Ok(Self::OtherVersion) };
        Ok(Self::Run(Box::new(PastRun { identity, finished: lines.map_while(parse).collect() })))
    }
}

impl Journal {
    /// Puts a journal with these lines in the place of `path`, whole or not at all.
    ///
    /// # Errors
    /// It cannot be written; the file that was there before is then unchanged.
    //
    // A resumed run starts with a new file, since what follows a torn line would never be read.
    pub(super) fn create(path: &Path, identity: &Identity, finished: Vec<FinishedShard>) -> Result<Self, RunError> {
        let new = path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(RunError::file("remove", &new)(error)),
            _ => {}
        }
        let mut text = line(identity);
        finished.iter().for_each(|finished| text.push_str(&line(finished)));
        let mut file = create_new(&new, 0o666).map_err(RunError::file("create", &new))?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path))
            .map_err(RunError::file("write", path))?;
        sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Self { path: path.to_path_buf(), file: Mutex::new(file), finished: Mutex::new(finished) })
    }

    /// Appends a finished shard, and makes that durable.
    ///
    /// # Errors
    /// The line cannot be written or synced.
    //
    // Only after the shard itself has been synced: a line that outlives a power cut must be true.
    pub(super) fn add(&self, finished: FinishedShard) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line(&finished).as_bytes())?;
        file.sync_data()?;
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        Ok(())
    }

    /// Checks that the file system still writes to its disk.
    ///
    /// # Errors
    /// It does not.
    //
    // xfs that has shut down on an error still reports success for `fsync` of a directory, as tests/crash/power_cuts
    // showed, and fails for that of a file. A file that can be synced proves the directory synced before it.
    pub(super) fn check_alive(&self) -> Result<(), RunError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_all().map_err(RunError::file("sync", &self.path))
    }

    /// Returns the names of the finished shards.
    pub(super) fn finished(&self) -> Vec<String> {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.iter().map(|finished| finished.shard.clone()).collect()
    }
}

/// Returns a value as a line with its checksum.
pub(super) fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and numbers always become JSON");
    format!("{} {json}\n", Crc64::of(json.as_bytes()))
}

/// Parses a line; `None` unless it ends in a newline, its checksum is right, and its content is known.
fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_str(content(line)?).ok()
}

/// Returns the content of a line; `None` unless it ends in a newline and its checksum is right.
pub(super) fn content(line: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    (Crc64::parse(sum)? == Crc64::of(json.as_bytes())).then_some(json)
}
