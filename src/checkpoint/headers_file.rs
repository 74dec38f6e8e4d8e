//! The headers of a checkpoint as one small file, by which a recipe is planned and tested without the weights.

use std::collections::BTreeSet;
use std::path::Path;

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::Checkpoint;
use crate::checksum::hexadecimal;
use crate::config::{Config, MAX_CONFIG};
use crate::error::CheckpointError;
use crate::header::{Header, HeaderError};
use crate::hf_quant_config::HF_QUANT_CONFIG;
use crate::index::MAX_INDEX;
use crate::layout::byte_len;
use crate::open::{self, CheckpointParts};
use crate::shard::Shard;
use crate::side_files::SideFile;
use crate::source::{SourceError, SourceFile, Stamp};
use crate::tensor::{Tensor, tensors_of};

/// The version of the file's form.
const HEADERS_VERSION: u32 = 1;

/// The headers of a checkpoint and all else that a plan is made from, without its weights.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeadersFile {
    /// The version of this form of file: 1.
    pub headers_version: u32,
    /// The content of config.json.
    #[schemars(with = "Map<String, Value>")]
    pub config: Box<RawValue>,
    /// The content of hf_quant_config.json, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub hf_quant_config: Option<Box<RawValue>>,
    /// The safetensors files.
    pub shards: Vec<ShardHeader>,
    /// The files that a run copies.
    #[serde(default)]
    pub side_files: Vec<SideFileSize>,
    /// The text of the model card; null where there is none that can be read.
    #[serde(default)]
    pub card: Option<String>,
}

/// The header of a safetensors file.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShardHeader {
    pub name: String,
    /// The tensors in the order of their data.
    pub tensors: Vec<TensorHeader>,
}

/// A tensor of a safetensors file.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorHeader {
    pub name: String,
    /// The dtype by safetensors' name: `BF16`.
    #[schemars(with = "String")]
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// A file beside the weights.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SideFileSize {
    /// The path below the checkpoint's directory.
    pub name: String,
    pub bytes: u64,
}

impl HeadersFile {
    /// Takes the headers of a checkpoint.
    ///
    /// # Errors
    /// Its config cannot be read again.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let raw = |name: &str| -> Result<Option<Box<RawValue>>, CheckpointError> {
            let Some(bytes) = checkpoint.read_small(name, MAX_CONFIG).map_err(CheckpointError::Source)? else {
                return Ok(None);
            };
            let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
            serde_json::from_slice(text)
                .map(Some)
                .map_err(|error| unusable(&checkpoint.dir.join(name), &error.to_string()))
        };
        let config = raw("config.json")?.ok_or_else(|| {
            CheckpointError::Source(SourceError::Missing { path: checkpoint.dir.join("config.json") })
        })?;
        let mut shards: Vec<ShardHeader> = checkpoint
            .shards
            .iter()
            .map(|shard| ShardHeader { name: shard.name.clone(), tensors: Vec::new() })
            .collect();
        for Tensor { name, dtype, shape, shard, .. } in &checkpoint.tensors {
            shards[*shard].tensors.push(TensorHeader { name: name.clone(), dtype: *dtype, shape: shape.clone() });
        }
        let side_files = checkpoint.side_files.iter();
        Ok(Self {
            headers_version: HEADERS_VERSION,
            config,
            hf_quant_config: raw(HF_QUANT_CONFIG)?,
            shards,
            side_files: side_files
                .map(|file| SideFileSize { name: file.name.clone(), bytes: file.stamp.size })
                .collect(),
            card: checkpoint.card.clone(),
        })
    }
}

impl HeadersFile {
    /// The text of the file, with a line for each tensor, so that two of them can be compared line by line.
    ///
    /// # Errors
    /// None that this form can have: JSON of text and numbers is always written.
    pub fn text(&self) -> serde_json::Result<String> {
        let mut text = format!("{{\n\"headers_version\": {},\n\"config\": {}", self.headers_version, self.config);
        if let Some(more) = &self.hf_quant_config {
            text.push_str(&format!(",\n\"hf_quant_config\": {more}"));
        }
        let mut shards = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let tensors = shard.tensors.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            let name = serde_json::to_string(&shard.name)?;
            shards.push(format!("{{\"name\": {name}, \"tensors\": [\n{}\n]}}", tensors.join(",\n")));
        }
        text.push_str(&format!(",\n\"shards\": [\n{}\n]", shards.join(",\n")));
        let side_files = self.side_files.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        text.push_str(&format!(",\n\"side_files\": [\n{}\n]", side_files.join(",\n")));
        text.push_str(&format!(",\n\"card\": {}\n}}\n", serde_json::to_string(&self.card)?));
        Ok(text)
    }
}

/// Reports whether a file is one of headers, by its beginning.
pub fn is_headers_file(path: &Path) -> bool {
    const BEGINNING: u64 = 4096;
    let Ok(file) = SourceFile::open(path) else { return false };
    let mut bytes = vec![0; file.size().min(BEGINNING) as usize];
    let key = b"\"headers_version\"";
    file.read_exact_at(&mut bytes, 0).is_ok() && bytes.windows(key.len()).any(|window| window == key)
}

impl Checkpoint {
    /// Reads a file of headers: a checkpoint that can be planned for, and has no weights.
    ///
    /// # Errors
    /// It is no such file, or describes no checkpoint.
    pub fn of_headers(path: &Path) -> Result<Self, CheckpointError> {
        let bytes =
            SourceFile::open(path).and_then(|file| file.read_small(MAX_INDEX)).map_err(CheckpointError::Source)?;
        let file: HeadersFile = serde_json::from_slice(&bytes).map_err(|error| unusable(path, &error.to_string()))?;
        if file.headers_version != HEADERS_VERSION {
            let version = format!("it has version {}, and this program knows {HEADERS_VERSION}", file.headers_version);
            return Err(unusable(path, &version));
        }
        let mut config = Config::parse(file.config.get().as_bytes()).map_err(CheckpointError::Config)?;
        if let Some(more) = &file.hf_quant_config {
            config.read_hf_quant_config(more.get().as_bytes()).map_err(CheckpointError::HfQuantConfig)?;
        }
        let (mut shards, mut tensors, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for shard in file.shards {
            if !names.insert(shard.name.clone()) {
                return Err(unusable(path, "it names a shard twice"));
            }
            let number = shards.len();
            let (header, size, digest) =
                header_of(&shard).map_err(|error| CheckpointError::Header { shard: shard.name.clone(), error })?;
            shards.push(Shard {
                path: path.join(&shard.name),
                name: shard.name,
                size,
                header: digest,
                stamp: Stamp::without_file(size),
                remote: None,
            });
            tensors.extend(tensors_of(header, number));
        }
        open::check(&config, &shards, &tensors, None)?;
        let side_files = file.side_files.into_iter().map(|side| SideFile {
            path: path.join(&side.name),
            remote_code: side.name.ends_with(".py"),
            name: side.name,
            mode: 0o644,
            stamp: Stamp::without_file(side.bytes),
            remote: None,
        });
        let side_files = side_files.collect();
        let parts = CheckpointParts {
            shards,
            tensors,
            config,
            side_files,
            card: file.card,
            left_out: Vec::new(),
            headers_only: true,
            repository: None,
        };
        Ok(open::put_together(path, parts))
    }
}

/// The header of a shard whose tensors lie one behind the other, the bytes that its file would
/// have, and the SHA-256 of the header.
//
// By the reader of headers, which refuses whatever it refuses of a file.
fn header_of(shard: &ShardHeader) -> Result<(Header, u64, String), HeaderError> {
    let (mut entries, mut end) = (Map::new(), 0u64);
    for TensorHeader { name, dtype, shape } in &shard.tensors {
        let begin = end;
        let after = byte_len(*dtype, shape).and_then(|len| begin.checked_add(len));
        end = after.ok_or_else(|| HeaderError::Overflow { tensor: name.clone() })?;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [begin, end] });
        if entries.insert(name.clone(), entry).is_some() {
            return Err(HeaderError::Duplicate { tensor: name.clone() });
        }
    }
    let header = Value::from(entries).to_string();
    let whole = (8 + header.len() as u64).checked_add(end);
    let size = whole.ok_or_else(|| HeaderError::Overflow { tensor: shard.name.clone() })?;
    let length = (header.len() as u64).to_le_bytes();
    let digest = Sha256::new().chain_update(length).chain_update(&header).finalize();
    Ok((Header::parse(header.as_bytes(), size)?, size, hexadecimal(&digest)))
}

fn unusable(path: &Path, reason: &str) -> CheckpointError {
    CheckpointError::NoHeaders { path: path.to_owned(), reason: reason.to_owned() }
}
