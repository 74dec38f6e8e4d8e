//! Checksums of a file elsewhere, of which several stretches are read at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Crc64;
use crate::source::{SourceError, SourceFile};

/// Threads that read: each answer is waited for.
const READERS: usize = 8;

/// Bytes that are read and summed at a time.
const STRETCH: u64 = 4 << 20;

/// A stretch of a file: for each part in it the number of the part, and checksum and length of what is in the stretch.
type SumsOfStretch = Vec<(usize, Crc64, u64)>;

/// The checksums of the consecutive parts of a file, as [`parts_of`](super::parts_of).
///
/// # Errors
/// The file cannot be read.
pub fn parts_of_elsewhere(
    file: &SourceFile,
    lengths: &[u64],
    advanced: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Crc64>, SourceError> {
    let mut total = 0;
    let ends: Vec<u64> = lengths
        .iter()
        .map(|length| {
            total += length;
            total
        })
        .collect();
    let (next, found, failure) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()), Mutex::new(None));
    let read = || {
        let mut buffer = Vec::new();
        loop {
            let from = next.fetch_add(STRETCH, Ordering::Relaxed);
            if from >= total {
                return;
            }
            buffer.resize(STRETCH.min(total - from) as usize, 0);
            if let Err(error) = file.read_exact_at(&mut buffer, from) {
                // The others find nothing more to do.
                next.store(total, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return;
            }
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(from, sums_of(&buffer, from, &ends));
            advanced(buffer.len() as u64);
        }
    };
    thread::scope(|scope| {
        for _ in 1..READERS {
            if thread::Builder::new().spawn_scoped(scope, read).is_err() {
                break;
            }
        }
        read();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut sums = vec![Crc64::default(); lengths.len()];
    for (part, sum, len) in found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten() {
        sums[part] = sums[part].then(sum, len);
    }
    Ok(sums)
}

/// The checksums of what a stretch, which begins at `from`, holds of the parts that end there.
fn sums_of(stretch: &[u8], from: u64, ends: &[u64]) -> SumsOfStretch {
    let until = from + stretch.len() as u64;
    let (mut at, mut sums) = (from, Vec::new());
    for (part, &end) in ends.iter().enumerate().skip(ends.partition_point(|end| *end <= from)) {
        let end = end.min(until);
        sums.push((part, Crc64::of(&stretch[(at - from) as usize..(end - from) as usize]), end - at));
        at = end;
        if at == until {
            break;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::parts_of;
    use super::*;

    #[test]
    fn they_are_those_of_a_file_here() {
        let bytes: Vec<u8> = (0..3 * STRETCH + 12_345).map(|at| ((at * at) >> 7) as u8).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("shard"), &bytes).unwrap();
        let file = SourceFile::open(&dir.path().join("shard")).unwrap();
        for lengths in [vec![bytes.len() as u64], vec![8, 0, STRETCH - 8, 5, 2 * STRETCH, 12_340, 0], vec![], vec![0]] {
            let total = AtomicU64::new(0);
            let advanced = |bytes| {
                total.fetch_add(bytes, Ordering::Relaxed);
            };
            let sums = parts_of_elsewhere(&file, &lengths, &advanced).unwrap();
            assert_eq!(sums, parts_of(file.file().unwrap(), &lengths, |_| Ok(())).unwrap());
            assert_eq!(total.into_inner(), lengths.iter().sum::<u64>());
        }
        let beyond = [bytes.len() as u64 + 1];
        assert!(parts_of_elsewhere(&file, &beyond, &|_| ()).unwrap_err().to_string().contains("became shorter"));
    }
}
