//! The manifest of an output: what it was made from, what happened to each tensor, and the checksum of every file and
//! tensor, so that anybody can prove later that the files are still what was written.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::checksum::{Crc64, parts_of, parts_of_elsewhere, whole};
use crate::header::{Header, HeaderError, LEAST_GUESS};
use crate::place::CheckpointPlace;
use crate::progress::ProgressSink;
use crate::source::{SourceError, SourceFile};
use crate::text::exact;

/// The manifest's file name in the output directory.
pub const MANIFEST_FILE: &str = "qwen-fp8-manifest.json";

/// The version of this file's own format.
pub const MANIFEST_VERSION: u32 = 1;

/// A manifest has a line or two per tensor: no larger one is read.
const MAX_BYTES: u64 = 1 << 30;

/// The content of `qwen-fp8-manifest.json`: no path, time or thread count, so that the same job writes the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub manifest_version: u32,
    pub tool: Tool,
    pub source: ManifestSource,
    pub recipe: ManifestRecipe,
    /// Versions of the schemes that quantized or decoded a tensor, by name: an output of another version may hold other
    /// bytes under the same recipe.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schemes: BTreeMap<String, u32>,
    /// `fp8` or `compressed-tensors`.
    pub format: String,
    /// Every file of the output but this one.
    pub files: Vec<ManifestFile>,
    /// One per tensor of the source, in the source's order.
    pub actions: Vec<ActionRecord>,
}

/// The program that wrote the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

/// The checkpoint that was quantized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// A model id where the source is a snapshot of the Hugging Face cache, else the name of its directory.
    pub model: String,
    /// The commit of such a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Number of its first layers that a smoke model was made from; `None` where it was the whole source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<u64>,
    pub files: Vec<InputFile>,
    /// The adapters that were merged into its weights, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<ManifestAdapter>,
}

/// An adapter that was merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestAdapter {
    /// Its id where it is a snapshot of the Hugging Face cache, else the name of its directory.
    pub name: String,
    /// The commit of such a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Bytes of its tensors' file.
    pub size: u64,
    /// SHA-256 of that file's header.
    pub header_sha256: String,
}

/// A file of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    pub name: String,
    pub size: u64,
    /// SHA-256 of a shard's header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_sha256: Option<String>,
    /// SHA-256 of the file, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The recipe as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRecipe {
    pub sha256: String,
    pub text: String,
}

/// A file of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    pub name: String,
    pub size: u64,
    pub crc64nvme: Crc64,
    /// SHA-256 of the file, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The tensors of a shard, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<OutputTensor>,
}

/// A tensor of the output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTensor {
    pub name: String,
    pub crc64nvme: Crc64,
}

/// The action for one tensor of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRecord {
    pub tensor: String,
    /// The tensor of the source that it is a part of, where experts were split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// The scheme that quantized or decoded it; `None` where it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The rule that decided; `None` where no rule took the tensor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The search that found its scales, such as `mse`; `None` where they follow from the largest weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_search: Option<String>,
    /// The scale of its layer's activations, where the recipe gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_scale: Option<Number>,
    /// The tensors of the output that were made from it, where these are not just itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Adapters whose changes were merged into it before, by number, counted from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<usize>,
    /// The non-finite values that went into the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub non_finite: Option<NonFiniteRecord>,
}

/// The NaNs and infinities of a weight that went into the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NonFiniteRecord {
    pub nan: u64,
    pub infinite: u64,
    /// The number of the weight's scales that they have made NaN or infinite: all weights under them are NaN or zero.
    pub scales: u64,
    /// Row and column of the first.
    pub first: Option<[u64; 2]>,
}

/// One difference between an output and its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Mismatch {
    pub file: String,
    /// The tensor that differs; `None` where the file as a whole, or its header, does.
    pub tensor: Option<String>,
    pub what: String,
}

/// A reason for which a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{MANIFEST_FILE} is not a manifest: {0}")]
    Parse(#[from] serde_json::Error),
    #[error("{MANIFEST_FILE} is of version {found}; this program knows {MANIFEST_VERSION}")]
    Version { found: u32 },
}

impl Manifest {
    /// Reads the manifest of the output at `dir`.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it is of a version that this program does not know.
    pub fn read(dir: &Path) -> Result<Self, ManifestError> {
        Self::read_at(&dir.into())
    }

    /// Reads the manifest of the output at `place`, as [`Manifest::read`].
    ///
    /// # Errors
    /// Those of [`Manifest::read`].
    pub fn read_at(place: &CheckpointPlace) -> Result<Self, ManifestError> {
        let bytes = place.file(MANIFEST_FILE)?.read_small(MAX_BYTES)?;
        let manifest: Self = serde_json::from_slice(&bytes)?;
        match manifest.manifest_version {
            MANIFEST_VERSION => Ok(manifest),
            found => Err(ManifestError::Version { found }),
        }
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers always become JSON");
        text + "\n"
    }

    /// Reads every file of the output in `dir` again, as [`Manifest::check_at`].
    pub fn check(&self, dir: &Path, progress: &dyn ProgressSink) -> Vec<Mismatch> {
        self.check_at(&dir.into(), progress)
    }

    /// Reads every file of the output at `place` again and returns what differs from the manifest, in its order, then
    /// safetensors files that it does not name.
    pub fn check_at(&self, place: &CheckpointPlace, progress: &dyn ProgressSink) -> Vec<Mismatch> {
        let mut found = Vec::new();
        let bytes = self.files.iter().fold(0, |bytes: u64, file| bytes.saturating_add(file.size));
        progress.reading("comparing with the checksums of the manifest", bytes);
        for file in &self.files {
            progress.at(&file.name);
            found.extend(file.check(place, progress));
        }
        let mut strange: Vec<String> = place
            .file_names()
            .into_iter()
            .filter(|name| name.ends_with(".safetensors") && !self.files.iter().any(|file| file.name == *name))
            .collect();
        strange.sort_unstable();
        found.extend(strange.into_iter().map(|file| Mismatch {
            file,
            tensor: None,
            what: "the manifest does not name it".to_owned(),
        }));
        found
    }
}

impl ManifestFile {
    fn check(&self, place: &CheckpointPlace, progress: &dyn ProgressSink) -> Vec<Mismatch> {
        let mismatch = |tensor: Option<&str>, what: String| Mismatch {
            file: self.name.clone(),
            tensor: tensor.map(str::to_owned),
            what,
        };
        if !is_below(&self.name) {
            return vec![mismatch(None, "its name leads out of the directory".to_owned())];
        }
        let file = match place.file(&self.name) {
            Ok(file) => file,
            Err(error) => return vec![mismatch(None, error.to_string())],
        };
        if file.size() != self.size {
            return vec![mismatch(None, format!("it has {}, not {}", exact(file.size()), exact(self.size)))];
        }
        let (names, lengths) = match self.parts(&file) {
            Ok(parts) => parts,
            Err(error) => return vec![mismatch(None, error.to_string())],
        };
        let sums = match file.file() {
            Some(disk) => {
                let advanced = |bytes| {
                    progress.advanced(bytes);
                    Ok(())
                };
                parts_of(disk, &lengths, advanced).map_err(|error| format!("it cannot be read: {error}"))
            }
            None => parts_of_elsewhere(&file, &lengths, &|bytes| progress.advanced(bytes))
                .map_err(|error| error.to_string()),
        };
        let sums = match sums {
            Ok(sums) => sums,
            Err(why) => return vec![mismatch(None, why)],
        };
        if whole(sums.iter().copied().zip(lengths)) == self.crc64nvme && names.len() == self.tensors.len() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for expected in &self.tensors {
            match names.iter().position(|name| *name == expected.name) {
                None => found.push(mismatch(Some(&expected.name), "it is not in the file".to_owned())),
                // The header is the first part.
                Some(index) if sums[index + 1] != expected.crc64nvme => {
                    found.push(mismatch(Some(&expected.name), "its bytes have changed".to_owned()));
                }
                Some(_) => {}
            }
        }
        if found.is_empty() {
            let what = if self.tensors.is_empty() { "its bytes have changed" } else { "its header has changed" };
            found.push(mismatch(None, what.to_owned()));
        }
        found
    }

    /// The tensors of the file, and the lengths of its header and of each of them; of any other file, its length.
    fn parts(&self, file: &SourceFile) -> Result<(Vec<String>, Vec<u64>), HeaderError> {
        if self.tensors.is_empty() {
            return Ok((Vec::new(), vec![self.size]));
        }
        let (header, _) = Header::read(file, LEAST_GUESS)?;
        let lengths = header.tensors.iter().map(|tensor| tensor.end - tensor.begin);
        let lengths = std::iter::once(header.data_start).chain(lengths).collect();
        Ok((header.tensors.into_iter().map(|tensor| tensor.name).collect(), lengths))
    }
}

/// Reports whether a name is that of a file in a directory or in folders of it.
fn is_below(name: &str) -> bool {
    let mut parts = Path::new(name).components().peekable();
    parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))) && !name.ends_with('/')
}
