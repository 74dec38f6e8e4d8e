//! The header reader against the `safetensors` crate: what we accept it accepts and reads alike; what it accepts and we
//! refuse is one of the differences that the reader's documentation names.

use std::fmt;

use qwen_fp8::checkpoint::header::Header;
use qwen_fp8::checkpoint::layout::{ShardLayout, TensorEntry};
use safetensors::SafeTensors;
use serde::Deserializer as _;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::message::message;

/// The most bytes of tensor data that a file is made up with.
const MAX_DATA: u64 = 1 << 16;

/// What only we refuse, by what the message says.
const STRICTER: [&str; 5] = [
    "more than 16 dimensions",
    "a tensor name is empty or holds a NUL",
    "expected an object with `dtype`, `shape` and `data_offsets`",
    "expected a plain value for an unknown key",
    "expected a dtype name",
];

/// Takes the data for the JSON of a header, and lets a file follow it that ends where its last tensor does.
pub(crate) fn check(json: &[u8]) {
    let end = last_offset(json).unwrap_or(0);
    let start = 8 + json.len() as u64;
    let size = start.saturating_add(end);
    let ours = Header::parse(json, size).map_err(|error| message(&error));
    if let Ok(header) = &ours {
        assert_eq!(header.data_start, start);
        for size in [size - 1, size + 1] {
            assert!(Header::parse(json, size).is_err(), "a file of another size is accepted");
        }
        check_cover(header, end);
        check_round_trip(header);
    }
    if end <= MAX_DATA {
        check_against_crate(json, end as usize, ours);
    }
}

/// Whether two keys of the header are the same.
fn has_duplicate(json: &[u8]) -> bool {
    struct Keys(Vec<String>);

    impl<'de> Visitor<'de> for Keys {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Vec<String>, A::Error> {
            while let Some((key, IgnoredAny)) = map.next_entry()? {
                self.0.push(key);
            }
            Ok(self.0)
        }
    }

    let keys = serde_json::Deserializer::from_slice(json).deserialize_map(Keys(Vec::new()));
    keys.is_ok_and(|mut keys| {
        keys.sort_unstable();
        keys.windows(2).any(|pair| pair[0] == pair[1])
    })
}

/// The largest second offset of any entry, in whatever state the rest of the header is.
fn last_offset(json: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(json).ok()?;
    let ends = value.as_object()?.values().filter_map(|entry| entry.pointer("/data_offsets/1")?.as_u64());
    ends.max()
}

fn check_cover(header: &Header, end: u64) {
    let mut covered = 0;
    for tensor in &header.tensors {
        assert_eq!(tensor.begin, covered, "a hole or an overlap");
        covered = tensor.end;
    }
    assert_eq!(covered, end);
}

/// What was read is laid out and read again: the same tensors, each with as many bytes.
fn check_round_trip(header: &Header) {
    let entries = header.tensors.iter().map(|tensor| TensorEntry {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
    });
    let Ok(layout) = ShardLayout::new("model.safetensors", entries.collect()) else {
        // The new header may start later than the old one, so that the last offset overflows.
        assert!(header.tensors.last().is_some_and(|last| last.end > u64::MAX / 2));
        return;
    };
    let again = Header::parse(&layout.header[8..], layout.size).expect("what we write we read");
    let by_name = |header: &Header| {
        let mut tensors: Vec<_> = header.tensors.clone();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors.into_iter().map(|t| (t.name, t.dtype, t.shape, t.end - t.begin)).collect::<Vec<_>>()
    };
    assert_eq!(by_name(&again), by_name(header));
}

fn check_against_crate(json: &[u8], data: usize, ours: Result<Header, String>) {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(json);
    file.resize(file.len() + data, 0);
    match (ours, SafeTensors::deserialize(&file)) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours.tensors.len(), theirs.len());
            for tensor in &ours.tensors {
                let view = theirs.tensor(&tensor.name).expect("a tensor that only we read");
                assert_eq!((view.dtype(), view.shape()), (tensor.dtype, &tensor.shape[..]));
                assert_eq!(view.data().len() as u64, tensor.end - tensor.begin);
                assert_eq!(
                    view.data().as_ptr() as usize - file.as_ptr() as usize,
                    (ours.data_start + tensor.begin) as usize
                );
            }
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("accepted, but they say: {error}"),
        // Of two equal names they keep the last, and do not look at what they drop.
        (Err(_), Ok(_)) if has_duplicate(json) => {}
        (Err(message), Ok(_)) => {
            assert!(STRICTER.iter().any(|part| message.contains(part)), "they accept it, we say: {message}");
        }
    }
}
