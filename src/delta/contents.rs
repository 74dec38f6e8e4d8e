//! The table of contents of a delta: the files of the new checkpoint, the parts of each, and what each is held against.

use std::collections::HashSet;

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use qwen_fp8_checkpoint::checksum::Crc64;
use serde::{Deserialize, Serialize};

use crate::words::WordKind;

/// Bytes of a checkpoint that are compared and coded at a time.
//
// Statistics of a piece take about a kilobyte, which is a thousandth of it; workers hold a few pieces each.
pub(crate) const PIECE: usize = 1 << 20;

/// What a delta begins with.
pub const MAGIC: [u8; 8] = *b"QFP8DELT";

/// The version of the format; it rises with every change of it.
pub(crate) const VERSION: u32 = 1;

/// Bytes of a delta before its table of contents: magic, version, length stored, length unpacked, checksum.
pub(crate) const PREAMBLE: usize = 8 + 4 + 8 + 8 + 8;

/// The largest table of contents, unpacked, in bytes; as that of a safetensors header.
pub(crate) const MAX_CONTENTS: u64 = 100_000_000;

/// The table of contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeltaContents {
    /// The version of the program that made the delta.
    pub tool: String,
    /// The name of the old checkpoint, for people.
    pub base: String,
    /// The files of the new checkpoint in the order in which they are stored, `config.json` last.
    pub files: Vec<ContentFile>,
}

/// A file of the new checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentFile {
    /// Path below the checkpoint's directory, with `/` between its parts.
    pub name: String,
    /// Consecutive parts, which together are the file.
    pub(crate) parts: Vec<ContentPart>,
}

/// Consecutive bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentPart {
    /// The tensor that the bytes are of; absent for headers and for files beside the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tensor: Option<String>,
    pub(crate) words: WordKind,
    pub(crate) bytes: u64,
    #[serde(default, skip_serializing_if = "PartBase::is_none")]
    pub(crate) base: PartBase,
}

/// What of the base a part is held against.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PartBase {
    #[default]
    None,
    /// The tensor of the same name.
    Same,
    /// A tensor of another name.
    Tensor(String),
    /// The file of the same name, as far as both reach.
    File,
}

impl PartBase {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl ContentPart {
    /// The name of the base's tensor that it is held against.
    pub(crate) fn base_tensor(&self) -> Option<&str> {
        match &self.base {
            PartBase::Tensor(name) => Some(name),
            PartBase::Same => self.tensor.as_deref(),
            PartBase::None | PartBase::File => None,
        }
    }

    /// The pieces of the part, as place in it and length.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let bytes = self.bytes;
        (0..bytes).step_by(PIECE).map(move |at| (at, (bytes - at).min(PIECE as u64) as usize))
    }
}

impl ContentFile {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        // Whoever reads a table of contents has proven that the sum does not overflow.
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

impl DeltaContents {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(ContentFile::size).sum()
    }

    /// The preamble and the table itself, as they are stored.
    ///
    /// # Errors
    /// Its length, where that is over the limit.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, u64> {
        let json = serde_json::to_vec(self).expect("strings and numbers always become JSON");
        if json.len() as u64 > MAX_CONTENTS {
            return Err(json.len() as u64);
        }
        let packed = compress_to_vec_zlib(&json, 6);
        let mut bytes = Vec::with_capacity(PREAMBLE + packed.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(packed.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        let sum = Crc64::of(&bytes).then(Crc64::of(&packed), packed.len() as u64);
        bytes.extend_from_slice(&sum.0.to_le_bytes());
        bytes.extend_from_slice(&packed);
        Ok(bytes)
    }

    /// Reads the table, which is `len` bytes unpacked.
    pub(crate) fn unpack(packed: &[u8], len: u64) -> Result<Self, String> {
        let json = decompress_to_vec_zlib_with_limit(packed, len.min(MAX_CONTENTS) as usize)
            .map_err(|_| "its table of contents cannot be unpacked".to_owned())?;
        let contents: Self =
            serde_json::from_slice(&json).map_err(|error| format!("its table of contents is none: {error}"))?;
        contents.check()?;
        Ok(contents)
    }

    fn check(&self) -> Result<(), String> {
        let mut names = HashSet::new();
        let mut total = 0u64;
        for file in &self.files {
            if !is_plain_path(&file.name) {
                return Err("it names a file outside the checkpoint".to_owned());
            }
            if !names.insert(&file.name) {
                return Err("it names a file twice".to_owned());
            }
            for part in &file.parts {
                if !part.bytes.is_multiple_of(part.words.width() as u64) {
                    return Err("a part of it ends inside a word".to_owned());
                }
                // No system has a file that large.
                total = total
                    .checked_add(part.bytes)
                    .filter(|&total| total < 1 << 62)
                    .ok_or("the size of its files overflows")?;
                if part.base == PartBase::Same && part.tensor.is_none() {
                    return Err("a part of it is held against a tensor without a name".to_owned());
                }
            }
        }
        Ok(())
    }
}

/// Reports whether a path stays below its directory under the rules of every system, and names nothing hidden.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.chars().any(|letter| matches!(letter, '\\' | ':') || letter.is_control())
    };
    path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(names: &[&str]) -> DeltaContents {
        let part = ContentPart { tensor: None, words: WordKind::Text, bytes: 7, base: PartBase::File };
        let files = names.iter().map(|name| ContentFile { name: (*name).to_owned(), parts: vec![part.clone()] });
        DeltaContents { tool: "1".to_owned(), base: "b".to_owned(), files: files.collect() }
    }

    fn back(contents: &DeltaContents) -> Result<DeltaContents, String> {
        DeltaContents::unpack(&contents.to_bytes().unwrap()[PREAMBLE..], MAX_CONTENTS)
    }

    #[test]
    fn a_table_comes_back() {
        let plain = contents(&["model.safetensors", "1_Pooling/config.json", "Modèle 1.json"]);
        assert_eq!(back(&plain).unwrap(), plain);
    }

    #[test]
    fn paths_stay_below_the_directory() {
        for name in ["", "/etc/x", "../x", "a/../x", "a//x", ".x", "a/.x", "C:x", "a\\x", "x\n", "a/", "x\0"] {
            assert_eq!(back(&contents(&[name])).unwrap_err(), "it names a file outside the checkpoint", "{name:?}");
        }
        assert_eq!(back(&contents(&["a", "a"])).unwrap_err(), "it names a file twice");
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        let mut large = contents(&["a", "b"]);
        large.files[0].parts[0].bytes = u64::MAX;
        assert_eq!(back(&large).unwrap_err(), "the size of its files overflows");
        large.files[0].parts[0].words = WordKind::Bf16;
        assert_eq!(back(&large).unwrap_err(), "a part of it ends inside a word");
    }

    #[test]
    fn a_table_that_unpacks_to_more_than_it_says_is_refused() {
        let bytes = contents(&["a"]).to_bytes().unwrap();
        assert!(DeltaContents::unpack(&bytes[PREAMBLE..], 10).unwrap_err().contains("cannot be unpacked"));
    }
}
