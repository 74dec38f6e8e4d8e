//! The exact bytes of an output shard's header, and where each tensor lies, before anything is written.
//!
//! A file written from a layout equals what the `safetensors` crate writes for the same tensors.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use safetensors::Dtype;
use serde::Serialize;

use crate::header::MAX_HEADER;
use crate::text::{apart, shown};

/// The file name of a checkpoint with a single shard.
pub const SINGLE_FILE: &str = "model.safetensors";

/// The file that says which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";

/// A tensor that an output shard will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// An output shard: its header and the place of every tensor.
#[derive(Clone, Debug)]
pub struct ShardLayout {
    pub file_name: String,
    /// The 8-byte length, the JSON and its padding: what the file begins with.
    pub header: Vec<u8>,
    /// The tensors in the order of the file.
    pub tensors: Vec<Placed>,
    /// Bytes of the whole file.
    pub size: u64,
}

/// A tensor and its place in its file.
#[derive(Clone, Debug)]
pub struct Placed {
    pub entry: TensorEntry,
    /// Offset of the first byte in the file.
    pub offset: u64,
    pub len: u64,
}

/// A reason for which a shard cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("{}: two tensors would be called {}", shown(file), shown(tensor))]
    Duplicate { file: String, tensor: String },
    #[error("{}: the name of tensor {} is reserved", shown(file), shown(tensor))]
    Reserved { file: String, tensor: String },
    #[error("{}: the size of tensor {} overflows or ends inside a byte", shown(file), shown(tensor))]
    Size { file: String, tensor: String },
    #[error(
        "{}: {tensors} tensors make a header of {}, more than the {} that readers accept",
        shown(file),
        apart(*bytes, MAX_HEADER)[0],
        apart(*bytes, MAX_HEADER)[1]
    )]
    HeaderTooLarge { file: String, tensors: usize, bytes: u64 },
}

impl ShardLayout {
    /// Lays out a file that holds these tensors, given in any order.
    ///
    /// # Errors
    /// Two tensors have one name, or a size exceeds what the format can hold.
    pub fn new(file_name: impl Into<String>, mut entries: Vec<TensorEntry>) -> Result<Self, LayoutError> {
        let file = file_name.into();
        // The crate's order of dtypes falls with their alignment, so that every tensor lies aligned.
        entries.sort_by(|a, b| (Reverse(a.dtype), &a.name).cmp(&(Reverse(b.dtype), &b.name)));
        check_names(&file, &entries)?;

        let mut tensors = Vec::with_capacity(entries.len());
        let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
        let mut end: u64 = 0;
        for entry in entries {
            let len = byte_len(entry.dtype, &entry.shape);
            let begin = end;
            let Some((len, sum)) = len.and_then(|len| Some((len, begin.checked_add(len)?))) else {
                return Err(LayoutError::Size { file, tensor: entry.name });
            };
            end = sum;
            push_entry(&mut json, &entry, begin, end);
            tensors.push(Placed { entry, offset: begin, len });
        }
        json.push('}');
        while json.len() % 8 != 0 {
            json.push(' ');
        }

        let json_len = json.len() as u64;
        if json_len > MAX_HEADER {
            return Err(LayoutError::HeaderTooLarge { file, tensors: tensors.len(), bytes: json_len });
        }
        let data_start = 8 + json_len;
        let Some(size) = data_start.checked_add(end) else {
            let tensor = tensors.pop().map(|placed| placed.entry.name).unwrap_or_default();
            return Err(LayoutError::Size { file, tensor });
        };
        // Cannot overflow: each is at most `size`.
        tensors.iter_mut().for_each(|placed| placed.offset += data_start);
        let header = [&json_len.to_le_bytes(), json.as_bytes()].concat();
        Ok(Self { file_name: file, header, tensors, size })
    }

    /// Bytes of all tensors.
    pub fn data_len(&self) -> u64 {
        self.tensors.iter().map(|placed| placed.len).sum()
    }
}

/// Bytes of a tensor; `None` when they overflow or end inside a byte.
pub fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<u64> {
    let elements = shape.iter().try_fold(1u64, |product, &dimension| product.checked_mul(dimension as u64))?;
    let bits = elements.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// The name of shard `index` (counted from 0) of `count`, as transformers names them.
pub fn shard_file_name(index: usize, count: usize) -> String {
    match count {
        1 => SINGLE_FILE.to_owned(),
        _ => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
    }
}

/// The text of `model.safetensors.index.json` for these shards.
pub fn index_json(shards: &[ShardLayout]) -> String {
    // Written from what is borrowed: a tree of values would take several times the memory of the text.
    let index = IndexDocument {
        metadata: IndexMetadata { total_size: shards.iter().map(ShardLayout::data_len).sum() },
        weight_map: shards
            .iter()
            .flat_map(|shard| shard.tensors.iter().map(|placed| (placed.entry.name.as_str(), shard.file_name.as_str())))
            .collect(),
    };
    // Strings and numbers always have a form in JSON.
    serde_json::to_string_pretty(&index).unwrap_or_default() + "\n"
}

#[derive(Serialize)]
struct IndexDocument<'a> {
    metadata: IndexMetadata,
    weight_map: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct IndexMetadata {
    total_size: u64,
}

fn check_names(file: &str, entries: &[TensorEntry]) -> Result<(), LayoutError> {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(LayoutError::Duplicate { file: file.to_owned(), tensor: pair[0].to_owned() });
    }
    if names.binary_search(&"__metadata__").is_ok() {
        return Err(LayoutError::Reserved { file: file.to_owned(), tensor: "__metadata__".to_owned() });
    }
    Ok(())
}

fn push_entry(json: &mut String, entry: &TensorEntry, begin: u64, end: u64) {
    let TensorEntry { name, dtype, shape } = entry;
    let name = serde_json::Value::from(name.as_str());
    // Writing to a `String` never fails.
    let _ = write!(json, r#",{name}:{{"dtype":"{dtype}","shape":["#);
    for (i, dimension) in shape.iter().enumerate() {
        let _ = write!(json, "{}{dimension}", if i == 0 { "" } else { "," });
    }
    let _ = write!(json, r#"],"data_offsets":[{begin},{end}]}}"#);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use safetensors::tensor::TensorView;

    use super::super::header::Header;
    use super::*;

    fn entry(name: &str, dtype: Dtype, shape: &[usize]) -> TensorEntry {
        TensorEntry { name: name.into(), dtype, shape: shape.into() }
    }

    /// The file with every tensor's bytes counted up from its offset.
    fn written(layout: &ShardLayout) -> Vec<u8> {
        let mut file = layout.header.clone();
        for placed in &layout.tensors {
            assert_eq!(placed.offset, file.len() as u64);
            file.extend((0..placed.len).map(|i| (placed.offset + i) as u8));
        }
        assert_eq!(file.len() as u64, layout.size);
        file
    }

    fn check_against_crate(layout: &ShardLayout) {
        let file = written(layout);
        let views = layout.tensors.iter().map(|placed| {
            let data = &file[placed.offset as usize..][..placed.len as usize];
            (placed.entry.name.clone(), TensorView::new(placed.entry.dtype, placed.entry.shape.clone(), data).unwrap())
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        assert!(safetensors::serialize(views, Some(metadata)).unwrap() == file, "the crate writes other bytes");

        let header = Header::parse(&layout.header[8..], layout.size).unwrap();
        assert_eq!(header.data_start, layout.header.len() as u64);
        // The reader sorts by offset, where tensors without bytes may change places.
        let mut placed: Vec<_> = layout.tensors.iter().collect();
        placed.sort_by_key(|placed| (placed.offset, placed.len, &placed.entry.name));
        assert_eq!(header.tensors.len(), placed.len());
        for (read, placed) in header.tensors.iter().zip(placed) {
            assert_eq!(
                (&read.name, read.dtype, &read.shape),
                (&placed.entry.name, placed.entry.dtype, &placed.entry.shape)
            );
            assert_eq!((header.data_start + read.begin, read.end - read.begin), (placed.offset, placed.len));
        }
    }

    #[test]
    fn header_is_compact_sorted_and_padded() {
        let layout = ShardLayout::new(
            "a.safetensors",
            vec![
                entry("b.weight", Dtype::F8_E4M3, &[2, 2]),
                entry("b.weight_scale_inv", Dtype::BF16, &[1, 1]),
                entry("a.weight", Dtype::F8_E4M3, &[3]),
                entry("s", Dtype::F32, &[]),
            ],
        )
        .unwrap();
        let text = std::str::from_utf8(&layout.header[8..]).unwrap();
        assert_eq!(
            text.trim_end(),
            concat!(
                r#"{"__metadata__":{"format":"pt"},"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"#,
                r#""b.weight_scale_inv":{"dtype":"BF16","shape":[1,1],"data_offsets":[4,6]},"#,
                r#""a.weight":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[6,9]},"#,
                r#""b.weight":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[9,13]}}"#
            )
        );
        assert_eq!(layout.header.len() % 8, 0);
        assert_eq!(layout.data_len(), 13);
        check_against_crate(&layout);
        check_against_crate(&ShardLayout::new("empty.safetensors", Vec::new()).unwrap());
    }

    #[test]
    fn impossible_layouts_are_refused() {
        let refused = |entries| ShardLayout::new("a.safetensors", entries).unwrap_err().to_string();
        let duplicate = vec![entry("w", Dtype::U8, &[1]), entry("w", Dtype::BF16, &[1])];
        assert_eq!(refused(duplicate), "`a.safetensors`: two tensors would be called `w`");
        let reserved = refused(vec![entry("__metadata__", Dtype::U8, &[1])]);
        assert_eq!(reserved, "`a.safetensors`: the name of tensor `__metadata__` is reserved");
        for (dtype, shape) in [(Dtype::U8, vec![usize::MAX, 2]), (Dtype::F64, vec![1 << 61]), (Dtype::F4, vec![3])] {
            assert!(refused(vec![entry("w", dtype, &shape)]).contains("the size of tensor `w` overflows"));
        }
        let half = 1 << 60;
        let entries = (0..16).map(|i| entry(&format!("w{i}"), Dtype::U8, &[half])).collect();
        assert!(refused(entries).contains("overflows"));
    }

    #[test]
    fn index_is_sorted_and_counts_data_only() {
        let shards = [
            ShardLayout::new(shard_file_name(0, 2), vec![entry("b", Dtype::BF16, &[3])]).unwrap(),
            ShardLayout::new(shard_file_name(1, 2), vec![entry("a\"é", Dtype::F32, &[2, 2])]).unwrap(),
        ];
        assert_eq!(
            index_json(&shards),
            r#"{
  "metadata": {
    "total_size": 22
  },
  "weight_map": {
    "a\"é": "model-00002-of-00002.safetensors",
    "b": "model-00001-of-00002.safetensors"
  }
}
"#
        );
        assert_eq!(shard_file_name(0, 1), "model.safetensors");
    }

    fn entries() -> impl Strategy<Value = Vec<TensorEntry>> {
        use Dtype::*;
        let dtype = prop::sample::select(vec![
            BOOL,
            F4,
            F6_E2M3,
            F6_E3M2,
            U8,
            I8,
            F8_E5M2,
            F8_E4M3,
            F8_E8M0,
            F8_E4M3FNUZ,
            F8_E5M2FNUZ,
            I16,
            U16,
            F16,
            BF16,
            I32,
            U32,
            F32,
            C64,
            F64,
            I64,
            U64,
        ]);
        let shape = prop::collection::vec(0usize..5, 0..4);
        let entries = prop::collection::btree_map("\\PC{1,8}|[a\"\\\\\n\u{1}.]{1,4}", (dtype, shape), 0..12);
        entries.prop_map(|entries| {
            entries
                .into_iter()
                .map(|(name, (dtype, shape))| TensorEntry { name, dtype, shape })
                .filter(|entry| byte_len(entry.dtype, &entry.shape).is_some())
                .collect()
        })
    }

    proptest! {
        /// Header in, header out; and the crate writes the same bytes.
        #[test]
        fn any_tensors_are_laid_out_as_by_the_safetensors_crate((entries, turn) in (entries(), any::<prop::sample::Index>())) {
            let mut shuffled = entries;
            if !shuffled.is_empty() {
                let turn = turn.index(shuffled.len());
                shuffled.rotate_left(turn);
            }
            check_against_crate(&ShardLayout::new("a.safetensors", shuffled).unwrap());
        }
    }
}
