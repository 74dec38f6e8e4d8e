//! The reader of deltas: whatever its bytes, a delta is put on or refused, and never writes more than it announces.
//!
//! The input is a delta without what would hide the rest of it from a fuzzer: its table of contents as a line of JSON, then its
//! records, whose checksums may be any. Compression and checksums are added here.

use std::fs::{self, File};
use std::path::Path;
use std::sync::LazyLock;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::checksum::Crc64;
use qwen_fp8::delta::{BaseFiles, DELTA_MAGIC, DeltaError, OpenDelta};

use super::message::message;

/// Bytes of a record before its payload, and before its own checksum.
const RECORD_HEAD: usize = 21;
const CHECKED: usize = 13;

/// The largest files that are put together: a record of few bytes may stand for a megabyte.
const MOST: u64 = 1 << 16;

/// The old checkpoint, which the seeds are deltas of.
static BASE: LazyLock<(tempfile::TempDir, Checkpoint)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory for what deltas are put on");
    let header = concat!(
        r#"{"model.embed_tokens.weight":{"dtype":"BF16","shape":[16,24],"data_offsets":[0,768]},"#,
        r#""model.norm.weight":{"dtype":"F32","shape":[24],"data_offsets":[768,864]}}      "#,
    );
    let words = (0..432u16).flat_map(|at| (0x3c00 | (at * 37 % 127)).to_le_bytes());
    let shard: Vec<u8> = (header.len() as u64).to_le_bytes().into_iter().chain(header.bytes()).chain(words).collect();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("a small file");
    write("model.safetensors", &shard);
    write("config.json", br#"{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}"#);
    write("README.md", b"# A model\n");
    let base = Checkpoint::open(dir.path()).expect("a checkpoint");
    (dir, base)
});

pub(crate) fn check(bytes: &[u8]) {
    if let Some(Err(error)) = outcome(bytes) {
        message(&error);
        assert!(!matches!(error, DeltaError::Write { .. } | DeltaError::Cancelled), "{error}");
    }
}

/// What becomes of the base under a delta; `None` where the input has no line.
pub(crate) fn outcome(bytes: &[u8]) -> Option<Result<(), DeltaError>> {
    let line = bytes.iter().position(|&byte| byte == b'\n')?;
    let (table, records) = bytes.split_at(line);
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("changes.qdelta");
    fs::write(&path, delta(table, &records[1..])).expect("a small file");
    Some(put_on(&path, &scratch.path().join("file")))
}

/// Puts a delta together, with the checksums that its bytes have.
fn delta(table: &[u8], mut records: &[u8]) -> Vec<u8> {
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(table, 1);
    let mut delta = DELTA_MAGIC.to_vec();
    delta.extend(1u32.to_le_bytes());
    delta.extend((packed.len() as u64).to_le_bytes());
    delta.extend((table.len() as u64).to_le_bytes());
    let sum = Crc64::of(&delta).then(Crc64::of(&packed), packed.len() as u64);
    delta.extend(sum.0.to_le_bytes());
    delta.extend(packed);
    while let Some((head, rest)) = records.split_at_checked(RECORD_HEAD) {
        let payload = u32::from_le_bytes(std::array::from_fn(|byte| head[1 + byte])) as usize;
        let Some((payload, rest)) = rest.split_at_checked(payload) else { break };
        let sum = Crc64::of(&head[..CHECKED]).then(Crc64::of(payload), payload.len() as u64);
        delta.extend_from_slice(&head[..CHECKED]);
        delta.extend(sum.0.to_le_bytes());
        delta.extend_from_slice(payload);
        records = rest;
    }
    delta.extend_from_slice(records);
    delta
}

fn put_on(path: &Path, output: &Path) -> Result<(), DeltaError> {
    let delta = OpenDelta::open(path)?;
    let base = BaseFiles::new(&BASE.1)?;
    delta.check_base(&base)?;
    let mut reader = delta.reader();
    for file in &delta.contents.files {
        if file.size() > MOST {
            reader.pass_over(file)?;
            continue;
        }
        let out = File::create(output).expect("a place for a small file");
        let sum = reader.restore(file, &base, &out, output, &())?;
        let made = fs::read(output).expect("it was made a moment ago");
        assert_eq!((made.len() as u64, Crc64::of(&made)), (file.size(), sum), "{}", file.name);
    }
    reader.check_end()
}
