//! The source that the manifest of a result names, where it is still to be found.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use qwen_fp8_checkpoint::manifest::{InputFile, Manifest, ManifestSource};
use qwen_fp8_checkpoint::source::{SourceError, SourceFile};
use qwen_fp8_checkpoint::text::{shown, shown_path};
use qwen_fp8_checkpoint::{Checkpoint, header::MAX_HEADER};

/// Why the source of a result is not at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum NoSource {
    /// There is no manifest that can be read.
    NoManifest,
    /// Nothing is where it might be.
    Nowhere { model: String },
    /// What is there is something else.
    Another { model: String, dir: PathBuf, why: String },
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest => write!(f, "no manifest names the source"),
            Self::Nowhere { model } => write!(
                f,
                "the source {} is neither in the Hugging Face cache nor a directory here or beside the result",
                shown(model)
            ),
            Self::Another { model, dir, why } => {
                write!(f, "{} is not the source {} that the manifest names: {why}", shown_path(dir), shown(model))
            }
        }
    }
}

/// The directory of the source that the manifest in `output` names: a snapshot of the Hugging Face cache in `cache`, or a
/// directory of its name beside the output or in the working directory. All its shards have the sizes and headers that the
/// manifest says.
///
/// # Errors
/// There is none.
pub fn recorded_source(output: &Path, cache: Option<&Path>) -> Result<PathBuf, NoSource> {
    let Ok(manifest) = Manifest::read(output) else { return Err(NoSource::NoManifest) };
    let mut another = None;
    let itself = output.canonicalize().ok();
    let is_another = |dir: &PathBuf| dir.is_dir() && dir.canonicalize().ok() != itself;
    for dir in places(&manifest.source, output, cache).into_iter().filter(is_another) {
        match difference(&manifest.source, output, &dir) {
            None => return Ok(dir),
            Some(why) => {
                another.get_or_insert((dir, why));
            }
        }
    }
    let mut model = manifest.source.model;
    if let Some(revision) = manifest.source.revision {
        model = format!("{model}@{revision}");
    }
    Err(match another {
        None => NoSource::Nowhere { model },
        Some((dir, why)) => NoSource::Another { model, dir, why },
    })
}

/// Where the source may be, in the order of preference.
fn places(source: &ManifestSource, output: &Path, cache: Option<&Path>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let (Some(cache), Some(revision)) = (cache, &source.revision) {
        // The name under which huggingface_hub keeps it, of which the manifest's is made.
        let repository = format!("models--{}", source.model.replace('/', "--"));
        if is_name(&repository) && is_name(revision) {
            places.push(cache.join(repository).join("snapshots").join(revision));
        }
    }
    let name = source.model.rsplit('/').next().unwrap_or_default();
    if is_name(name) {
        let output = std::path::absolute(output).unwrap_or_else(|_| output.to_owned());
        let behind_links = output.canonicalize().ok();
        let beside = [Some(output.as_path()), behind_links.as_deref()].map(|output| output.and_then(Path::parent));
        places.extend(beside.into_iter().flatten().map(|parent| parent.join(name)));
        places.push(PathBuf::from(name));
    }
    places
}

/// Whether a text of the manifest is the name of one file and leads nowhere else.
fn is_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == text)
        && !text.contains('\0')
}

/// In what a directory is not the source.
fn difference(source: &ManifestSource, output: &Path, dir: &Path) -> Option<String> {
    let checkpoint = match Checkpoint::open(dir) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some(error.to_string()),
    };
    let shards: Vec<&InputFile> = source.files.iter().filter(|file| file.header_sha256.is_some()).collect();
    if shards.is_empty() {
        return Some("the manifest names no shard of it".to_owned());
    }
    for shard in &checkpoint.shards {
        let Some(recorded) = shards.iter().find(|recorded| recorded.name == shard.name) else {
            return Some(format!("{} is none of its shards", shown(&shard.name)));
        };
        if shard.size != recorded.size {
            return Some(format!("{} has {} bytes, not {}", shown(&shard.name), shard.size, recorded.size));
        }
        match header_sha256(&shard.path) {
            Ok(digest) if Some(&digest) == recorded.header_sha256.as_ref() => {}
            Ok(_) => return Some(format!("{} has another header", shown(&shard.name))),
            Err(error) => return Some(error.to_string()),
        }
    }
    if let Some(lacking) =
        shards.iter().find(|recorded| checkpoint.shards.iter().all(|shard| shard.name != recorded.name))
    {
        return Some(format!("{} is missing", shown(&lacking.name)));
    }
    // A result of `--smoke` has fewer layers than its source, whose tensors would all be missed.
    let layers = |checkpoint: &Checkpoint| checkpoint.config.text_number("num_hidden_layers");
    let whole = layers(&checkpoint);
    let made = Checkpoint::open(output).ok().and_then(|output| layers(&output));
    match (whole, made) {
        (Some(whole), Some(made)) if whole != made => Some(format!("it has {whole} layers, and the result {made}")),
        _ => None,
    }
}

/// SHA-256 of the length and the text of a shard's header.
fn header_sha256(path: &Path) -> Result<String, SourceError> {
    let file = SourceFile::open(path)?;
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    // The checkpoint was opened, so that the header is no longer than this.
    let end = u64::from_le_bytes(length).min(MAX_HEADER).saturating_add(8).min(file.size());
    let mut header = vec![0; end as usize];
    file.read_exact_at(&mut header, 0)?;
    let digest = Sha256::digest(&header);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_manifest_lead_nowhere_else() {
        for name in ["a", "a.b", "models--org--name"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "/a", "../a", "a/", "a\0b", "./a"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
