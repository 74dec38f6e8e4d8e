//! The journal of a run: which job it does, and which shards are finished and durable.
//!
//! A line is `<CRC-64 of the rest> <JSON>`. A line that does not prove itself, torn by a crash or edited, does not count,
//! nor does any after it. The first line says what decides the output's bytes; every other one is a finished shard.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checkpoint::checksum::Crc64;
use crate::checkpoint::manifest::NonFinite;
use crate::run::error::RunError;
use crate::run::files::{create_new, sync_dir};
use crate::run::identity::Identity;
use crate::run::stats::{DegenerateScaleCounts, TensorStats};

/// A journal is a line per shard: one of more bytes is none.
const MAX_BYTES: u64 = 256 << 20;

/// A shard that was complete and durable when its line was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FinishedShard {
    pub(super) shard: String,
    pub(super) size: u64,
    pub(super) crc64: Crc64,
    /// What is no number in the weights of the shard, which a later run does not read again.
    #[serde(rename = "kept", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) non_finite: Vec<TensorStats<NonFinite>>,
    /// The same of remarkable scales.
    #[serde(rename = "scales", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) degenerate_scales: Vec<TensorStats<DegenerateScaleCounts>>,
}

/// What an earlier run wrote down.
#[derive(Debug)]
pub(super) struct PastRun {
    pub(super) identity: Identity,
    pub(super) finished: Vec<FinishedShard>,
}

/// The journal of the run that goes on.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    finished: Mutex<Vec<FinishedShard>>,
}

impl PastRun {
    /// Reads a journal; `None` where there is none or its first line does not prove itself.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, RunError> {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RunError::file("read", path)(error)),
            Ok(_) if bytes.len() as u64 > MAX_BYTES => return Ok(None),
            Ok(_) => {}
        }
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let Some(identity) = lines.next().and_then(parse) else { return Ok(None) };
        Ok(Some(Self { identity, finished: lines.map_while(parse).collect() }))
    }
}

impl Journal {
    /// Puts a journal that says this much in the place of `path`, whole or not at all.
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

    /// Writes down that a shard is complete and durable.
    pub(super) fn add(&self, finished: FinishedShard) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line(&finished).as_bytes())?;
        file.sync_data()?;
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finished);
        Ok(())
    }

    /// The file system still writes. xfs says of a directory that it is synced even after it has shut down on an error,
    /// and only of a file that it is not: a file that can be synced proves the directory that was synced before.
    pub(super) fn check_alive(&self) -> Result<(), RunError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.sync_all().map_err(RunError::file("sync", &self.path))
    }

    /// The names of the finished shards.
    pub(super) fn finished(&self) -> Vec<String> {
        let finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        finished.iter().map(|finished| finished.shard.clone()).collect()
    }
}

fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and numbers always become JSON");
    format!("{} {json}\n", Crc64::of(json.as_bytes()))
}

/// A line that ends and proves itself.
fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    if Crc64::parse(sum)? != Crc64::of(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}
