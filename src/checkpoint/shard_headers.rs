//! Reading the headers of all shards: one after the other from a disk, many at a time from a repository elsewhere.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::CheckpointError;
use crate::header::{Header, HeaderError, LEAST_GUESS};
use crate::index::Index;
use crate::shard::Shard;
use crate::side_files::{Listed, open_listed};

/// Headers that are asked of a repository at a time. Each waits for its round trips and costs next to nothing else.
const AT_ONCE: usize = 16;

/// Bytes of a header beside the tensors' names and entries: its length and the metadata.
const FRAME: u64 = 512;

/// Bytes that the entry of a tensor has at most, as a rule: `"":{"dtype":"BF16","shape":[…],"data_offsets":[…]},`.
const ENTRY: u64 = 112;

/// The guess for a shard that no index tells anything of.
const UNLISTED: u64 = 64 << 10;

/// Reads the headers of shards by name, in their order; with `remote`, many at a time. The first failure ends the list.
pub(super) fn read(
    dir: &Path,
    files: &[Listed],
    names: &[String],
    index: Option<&Index>,
    remote: bool,
) -> Vec<Result<(Shard, Header), CheckpointError>> {
    if !remote {
        let mut read = Vec::with_capacity(names.len());
        for name in names {
            read.push(read_one(dir, files, name, LEAST_GUESS));
            if read.last().is_some_and(Result::is_err) {
                break;
            }
        }
        return read;
    }
    let guesses = guesses(names, index);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(names.len())));
    let reader = || {
        // Numbers are handed out in order: every shard before a failed one was read or is being read.
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(number) else { break };
            let read = read_one(dir, files, name, guesses[number]);
            if read.is_err() {
                next.store(names.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, read));
        }
    };
    thread::scope(|scope| {
        // Where the system has no thread left, fewer do it, and this one if need be.
        for _ in 1..AT_ONCE.min(names.len()) {
            let _ = thread::Builder::new().spawn_scoped(scope, reader);
        }
        reader();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, read)| read).collect()
}

/// How long the header of each shard is thought to be, from the names that the index lists for it.
//
// A guess that is too long costs bytes, one that is too short a second round trip.
fn guesses(names: &[String], index: Option<&Index>) -> Vec<u64> {
    let Some(index) = index else { return vec![UNLISTED; names.len()] };
    let mut listed = vec![FRAME; index.shards.len()];
    for (tensor, &shard) in &index.weight_map {
        listed[shard] += tensor.len() as u64 + ENTRY;
    }
    names.iter().map(|name| index.shards.get_index_of(name).map_or(UNLISTED, |shard| listed[shard])).collect()
}

/// Reads one header; the file is closed again, so that any number of shards needs one descriptor.
fn read_one(dir: &Path, files: &[Listed], name: &str, guess: u64) -> Result<(Shard, Header), CheckpointError> {
    let file = open_listed(dir, files, name).map_err(CheckpointError::Source)?;
    let header = Header::read(&file, guess).and_then(|header| {
        // What was read is one state of the file.
        file.check_unchanged(file.stamp()).map_err(HeaderError::Source)?;
        Ok(header)
    });
    let header = header.map_err(|error| match error {
        HeaderError::Source(error) => CheckpointError::Source(error),
        error => CheckpointError::Header { shard: name.to_owned(), error },
    })?;
    let (header, digest) = header;
    let shard = Shard {
        name: name.to_owned(),
        path: dir.join(name),
        size: file.size(),
        header: digest,
        stamp: file.stamp(),
        remote: file.remote().cloned(),
    };
    Ok((shard, header))
}
