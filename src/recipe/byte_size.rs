//! Numbers of bytes as recipes write them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};

use crate::checkpoint::text;

/// A number of bytes: an integer, or a string with a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByteSize(pub(super) u64);

/// The largest integer up to which JSON holds all integers exactly.
const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The form of a size with a unit.
pub(super) const BYTE_SIZE: &str = "^[1-9][0-9]{0,5} ?([kKMGT]i?)?B$";

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string", "pattern": BYTE_SIZE, "examples": ["5GB", "4GiB"] },
                { "type": "integer", "minimum": 1, "maximum": MAX_INTEGER },
            ],
            "examples": ["5GB", "4GiB", 5_000_000_000_u64],
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text::parse(&text).map(Self).map_err(de::Error::custom),
        }
    }
}
