//! The search for the source that a result's manifest names.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use qwen_fp8_checkpoint::manifest::{InputFile, Manifest, ManifestError, ManifestSource};
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::{count, exact, shown, shown_path};
use qwen_fp8_checkpoint::{Checkpoint, CheckpointPlace};

/// The reasons why the source of a result is not at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum NoSource {
    /// The result has no manifest.
    NoManifest,
    /// The result has a manifest that cannot be read, for this reason.
    BadManifest(String),
    /// No directory is where the source might be.
    Nowhere { model: String },
    /// The directory in that place is not the source.
    Another { model: String, dir: PathBuf, why: String },
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest => write!(f, "no manifest names the source"),
            Self::BadManifest(why) => write!(f, "the manifest that should name the source cannot be used: {why}"),
            Self::Nowhere { model } => write!(
                f,
                "the source {} is neither in the Hugging Face cache nor a directory here or beside the output",
                shown(model)
            ),
            Self::Another { model, dir, why } => {
                write!(f, "{} is not the source {} that the manifest names: {why}", shown_path(dir), shown(model))
            }
        }
    }
}

/// Finds the source that the manifest of `output` names: a snapshot of the Hugging Face cache in `cache`, or a
/// directory of its name beside the output or in the working directory. All its shards have the sizes and headers
/// that the manifest says.
///
/// # Errors
/// There is no manifest, no directory in any of these places, or another checkpoint in it.
pub fn recorded_source(output: &CheckpointPlace, cache: Option<&Path>) -> Result<PathBuf, NoSource> {
    let manifest = read(output)?;
    let mut another = None;
    // The result itself may stand in one of these places, and must not be compared with itself.
    let is_another = |dir: &PathBuf| dir.is_dir() && !output.is_same(&dir.as_path().into());
    let made = Checkpoint::open_at(output).ok();
    for dir in places(&manifest.source, output.directory(), cache).into_iter().filter(is_another) {
        let difference = match Checkpoint::open(&dir) {
            Ok(original) => difference(&manifest.source, made.as_ref(), &original),
            Err(error) => Some(error.to_string()),
        };
        match difference {
            None => return Ok(dir),
            Some(why) => {
                another.get_or_insert((dir, why));
            }
        }
    }
    let model = name(&manifest.source);
    Err(match another {
        None => NoSource::Nowhere { model },
        Some((dir, why)) => NoSource::Another { model, dir, why },
    })
}

/// Says how `original` differs from the source that the manifest of `output` names; `None` where it is that source.
//
// A damaged result would otherwise be proven against a copy of itself, and a wrong `--source` would give hundreds of
// findings and no word of what is wrong.
pub(crate) fn other_source(source: &ManifestSource, output: &Checkpoint, original: &Checkpoint) -> Option<NoSource> {
    let why = difference(source, Some(output), original)?;
    Some(NoSource::Another { model: name(source), dir: original.dir.clone(), why })
}

fn read(output: &CheckpointPlace) -> Result<Manifest, NoSource> {
    Manifest::read_at(output).map_err(|error| match &error {
        ManifestError::Source(SourceError::Missing { .. }) => NoSource::NoManifest,
        _ => NoSource::BadManifest(error.to_string()),
    })
}

/// The name of the source as people write it: with its commit, where it is a snapshot of the cache.
fn name(source: &ManifestSource) -> String {
    match &source.revision {
        Some(revision) => format!("{}@{revision}", source.model),
        None => source.model.clone(),
    }
}

/// Lists the places where the source may be, the likeliest first.
fn places(source: &ManifestSource, output: Option<&Path>, cache: Option<&Path>) -> Vec<PathBuf> {
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
        let absolute = output.map(|output| std::path::absolute(output).unwrap_or_else(|_| output.to_owned()));
        let behind_links = output.and_then(|output| output.canonicalize().ok());
        let parents = [&absolute, &behind_links].into_iter().flatten().filter_map(|output| output.parent());
        places.extend(parents.map(|parent| parent.join(name)));
        places.push(PathBuf::from(name));
    }
    places
}

/// Reports whether a text is the name of one file: no path, and no way out of a directory.
// The manifest is input. A name such as `../..` would have a directory read that nobody named.
fn is_name(text: &str) -> bool {
    let mut components = Path::new(text).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == text)
        && !text.contains('\0')
}

/// Says how a checkpoint differs from the source of `output`; `None` where it is the source.
fn difference(source: &ManifestSource, output: Option<&Checkpoint>, checkpoint: &Checkpoint) -> Option<String> {
    let shards: Vec<&InputFile> = source.files.iter().filter(|file| file.header_sha256.is_some()).collect();
    if shards.is_empty() {
        return Some("the manifest names no shard of it".to_owned());
    }
    for shard in &checkpoint.shards {
        let Some(recorded) = shards.iter().find(|recorded| recorded.name == shard.name) else {
            return Some(format!("the manifest has no shard {}", shown(&shard.name)));
        };
        if shard.size != recorded.size {
            return Some(format!("{} has {}, not {}", shown(&shard.name), exact(shard.size), exact(recorded.size)));
        }
        // A header names every tensor, its shape and its place, which tells one model from another without reading the data.
        if Some(&shard.header) != recorded.header_sha256.as_ref() {
            return Some(format!("{} has another header", shown(&shard.name)));
        }
    }
    if let Some(lacking) =
        shards.iter().find(|recorded| checkpoint.shards.iter().all(|shard| shard.name != recorded.name))
    {
        return Some(format!("{} is missing", shown(&lacking.name)));
    }
    // Of a smoke model the manifest says how many layers it has. Where it does not, each tensor of the other layers
    // would be reported as lost.
    let layers = |checkpoint: &Checkpoint| checkpoint.config.text_number("num_hidden_layers");
    let made = output.and_then(layers)?;
    match (source.layers, layers(checkpoint)) {
        (Some(taken), _) if taken != made => {
            let taken = count(taken as usize, "layer");
            Some(format!("the output was made from its first {taken}, and has {made}"))
        }
        (None, Some(whole)) if whole != made => {
            Some(format!("it has {}, and the output {made}", count(whole as usize, "layer")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_name_refuses_paths() {
        for name in ["a", "a.b", "models--org--name"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "/a", "../a", "a/", "a\0b", "./a"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
