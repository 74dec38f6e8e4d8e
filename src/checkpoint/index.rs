//! `model.safetensors.index.json`: which shard holds which tensor.

use std::fmt;

use indexmap::{IndexMap, IndexSet};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};

use crate::text::{sentence, shown};

/// The largest index that is read, in bytes.
pub const MAX_INDEX: u64 = 256 << 20;

/// The index of a sharded checkpoint; only `weight_map` of it counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Shard file names, in the order in which the map first names them.
    pub shards: IndexSet<String>,
    /// Tensor name to a position in `shards`.
    pub weight_map: IndexMap<String, usize>,
}

/// A reason to refuse an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("it is not valid UTF-8: byte {at}")]
    NotUtf8 { at: usize },
    #[error("it is no valid JSON index: {}", sentence(detail))]
    Json { detail: String },
    #[error("`weight_map`: invalid entry for tensor {}: {}", shown(tensor), sentence(detail))]
    Entry { tensor: String, detail: String },
    #[error("`weight_map` is empty: it names no tensors")]
    Empty,
    #[error(
        "`weight_map` sends tensor {} to {}, which is not a plain file name ending in `.safetensors`",
        shown(tensor),
        shown(shard)
    )]
    ShardName { tensor: String, shard: String },
}

impl Index {
    /// Reads the text of an index.
    ///
    /// # Errors
    /// The first thing about it that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let text = std::str::from_utf8(bytes).map_err(|error| IndexError::NotUtf8 { at: error.valid_up_to() })?;
        // Editors on Windows write the mark; JSON knows none.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut index = Self::default();
        let mut current = None;
        let mut parser = serde_json::Deserializer::from_str(text);
        let parsed = parser
            .deserialize_map(IndexVisitor { index: &mut index, current: &mut current })
            .and_then(|()| parser.end());
        if let Err(error) = parsed {
            let detail = error.to_string();
            return Err(match current {
                Some(tensor) => IndexError::Entry { tensor, detail },
                None => IndexError::Json { detail },
            });
        }
        if index.weight_map.is_empty() {
            return Err(IndexError::Empty);
        }
        if let Some(bad) = index.shards.iter().position(|name| !is_plain_shard_name(name)) {
            let tensor = index.weight_map.iter().find(|&(_, &shard)| shard == bad);
            let tensor = tensor.map(|(tensor, _)| tensor.clone()).unwrap_or_default();
            return Err(IndexError::ShardName { tensor, shard: index.shards[bad].clone() });
        }
        Ok(index)
    }
}

/// One normal component under the rules of every system: no separator, drive, dot file or control character.
pub(super) fn is_plain_shard_name(name: &str) -> bool {
    name.ends_with(".safetensors")
        && !name.starts_with('.')
        && !name.chars().any(|c| matches!(c, '/' | '\\' | ':') || c.is_control())
}

struct IndexVisitor<'a> {
    index: &'a mut Index,
    /// The tensor whose shard is being read, so that an error can name it.
    current: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for IndexVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<IndexKey>()? {
            match key {
                IndexKey::WeightMap if found => return Err(de::Error::duplicate_field("weight_map")),
                IndexKey::WeightMap => {
                    found = true;
                    map.next_value_seed(WeightMap(&mut self))?;
                }
                IndexKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if found { Ok(()) } else { Err(de::Error::missing_field("weight_map")) }
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum IndexKey {
    WeightMap,
    #[serde(other)]
    Other,
}

struct WeightMap<'a, 'b>(&'a mut IndexVisitor<'b>);

impl<'de> DeserializeSeed<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`weight_map` to be an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let IndexVisitor { index, current } = self.0;
        while let Some(tensor) = map.next_key::<String>()? {
            **current = Some(tensor);
            let shard = map.next_value::<String>()?;
            let (shard, _) = index.shards.insert_full(shard);
            // `current` was set above.
            let tensor = current.take().unwrap_or_default();
            if index.weight_map.contains_key(&tensor) {
                **current = Some(tensor);
                return Err(de::Error::custom("duplicate: the tensor is named more than once"));
            }
            index.weight_map.insert(tensor, shard);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use safetensors::Dtype;

    use super::super::layout::{ShardLayout, TensorEntry, index_json};
    use super::*;

    #[test]
    fn only_the_weight_map_counts() {
        for text in [
            r#"{"weight_map":{"b":"2.safetensors","a":"1.safetensors","c":"2.safetensors"}}"#,
            "\u{feff}{\"metadata\":{\"total_size\":\"x\"},\"z\":[[{}]],\"weight_map\":{\"b\":\"2.safetensors\",\"a\":\"1.safetensors\",\"\\u0063\":\"2.safetensors\"}} ",
        ] {
            let index = Index::parse(text.as_bytes()).unwrap();
            assert_eq!(index.shards.iter().collect::<Vec<_>>(), ["2.safetensors", "1.safetensors"]);
            assert_eq!(
                index.weight_map.iter().map(|(name, &shard)| (name.as_str(), shard)).collect::<Vec<_>>(),
                [("b", 0), ("a", 1), ("c", 0)]
            );
        }
    }

    #[test]
    fn broken_indexes_are_refused() {
        for (text, message) in [
            ("", "EOF"),
            ("{weight_map", "line 1 column 2"),
            ("[]", "expected an object with a `weight_map`"),
            (r#"{"metadata":{}}"#, "missing field `weight_map`"),
            (r#"{"weight_map":["a"]}"#, "`weight_map` to be an object of strings"),
            (r#"{"weight_map":{}}"#, "`weight_map` is empty"),
            (r#"{"weight_map":{},"weight_map":{}}"#, "duplicate field `weight_map`"),
            (
                r#"{"weight_map":{"w":7}}"#,
                "`weight_map`: invalid entry for tensor `w`: invalid type: integer `7`, expected a string",
            ),
            (r#"{"weight_map":{"w":null}}"#, "`weight_map`: invalid entry for tensor `w`"),
            (r#"{"weight_map":{"w":["a"]}}"#, "`weight_map`: invalid entry for tensor `w`"),
            (r#"{"weight_map":{"w":"a.safetensors","\u0077":"a.safetensors"}}"#, "for tensor `w`: duplicate"),
            (r#"{"weight_map":{"w":"a.safetensors"}}x"#, "trailing characters"),
        ] {
            let found = Index::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(found.contains(message), "{text}: {found}");
        }
        assert!(matches!(Index::parse(b"\xff\xfe{\0"), Err(IndexError::NotUtf8 { at: 0 })));
        let deep = format!(r#"{{"metadata":{}"#, "[".repeat(200_000));
        assert!(Index::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn shard_names_are_one_plain_component() {
        for name in [
            "",
            ".",
            "..",
            "/dev/zero",
            "../a.safetensors",
            "sub/a.safetensors",
            "..\\a.safetensors",
            "C:a.safetensors",
            "a.safetensors/",
            "pytorch_model.bin",
            ".safetensors",
            ".a.safetensors",
            "a\0.safetensors",
            "a\n.safetensors",
            "//host/a.safetensors",
            "a.safetensors. ",
        ] {
            let text = serde_json::json!({ "weight_map": { "w": name } }).to_string();
            let error = Index::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, IndexError::ShardName { .. }), "{name:?}: {error}");
        }
        assert!(is_plain_shard_name("model-00001-of-00004.safetensors") && is_plain_shard_name("Modèle 1.safetensors"));
    }

    proptest! {
        /// Index out, index in: the same tensors in the same shards, whatever the names.
        #[test]
        fn a_written_index_is_read_back(
            map in prop::collection::btree_map("\\PC{1,8}|[a\"\\\\\n\u{1}.]{1,4}", 0usize..4, 1..20),
        ) {
            let shard = |at: usize| format!("model-{at} \u{fc}.safetensors");
            let layouts = (0..4).map(|at| {
                let names = map.iter().filter(|&(_, &of)| of == at).map(|(name, _)| name.clone());
                let entries = names.map(|name| TensorEntry { name, dtype: Dtype::U8, shape: vec![1] });
                ShardLayout::new(shard(at), entries.collect()).unwrap()
            });
            let index = Index::parse(index_json(&layouts.collect::<Vec<_>>()).as_bytes()).unwrap();
            let read: BTreeMap<_, _> =
                index.weight_map.iter().map(|(name, &at)| (name.clone(), index.shards[at].clone())).collect();
            prop_assert_eq!(read, map.iter().map(|(name, &at)| (name.clone(), shard(at))).collect::<BTreeMap<_, _>>());
        }
    }
}
