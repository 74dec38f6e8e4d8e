//! Opening a checkpoint: find the shards, read config, index and headers, and hold them against each other.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::config::{Config, MAX_CONFIG};
use crate::error::CheckpointError;
use crate::hf_quant_config::HF_QUANT_CONFIG;
use crate::index::{Index, MAX_INDEX};
use crate::layout::{INDEX_FILE, SINGLE_FILE};
use crate::model_card;
use crate::model_meant::id_of_folder;
use crate::models::{self, Model};
use crate::place::CheckpointPlace;
use crate::quantized;
use crate::remote::Repository;
use crate::shard::Shard;
use crate::shard_headers;
use crate::side_files::{self, Listed, SideFile, SideFileError, Sorted, open_listed};
use crate::tensor::{Tensor, tensors_of};
use crate::text::Sample;

impl Checkpoint {
    /// Reads and checks everything about a checkpoint but its tensor data.
    ///
    /// # Errors
    /// The first thing that is wrong with it, naming the file and, where there is one, the tensor.
    pub fn open(dir: &Path) -> Result<Self, CheckpointError> {
        open(dir, list(dir)?, None)
    }

    /// Reads and checks everything about the checkpoint at `place` but its tensor data.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_at(place: &CheckpointPlace) -> Result<Self, CheckpointError> {
        match place {
            CheckpointPlace::Directory(dir) => Self::open(dir),
            CheckpointPlace::Repository(repository) => Self::open_remote(Arc::clone(repository)),
        }
    }

    /// Reads and checks everything about a checkpoint elsewhere but its tensor data.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open_remote(repository: Arc<dyn Repository>) -> Result<Self, CheckpointError> {
        let files = side_files::list_repository(&repository, "");
        open(&PathBuf::from(repository.address()), files, Some(repository))
    }
}

fn open(
    dir: &Path,
    files: Vec<Listed>,
    repository: Option<Arc<dyn Repository>>,
) -> Result<Checkpoint, CheckpointError> {
    let (names, index) = find_shards(dir, &files)?;
    refuse_other_forms(dir, &files)?;
    // The config comes before the headers: it is small, and a directory that is no model is refused by it at once.
    let config = open_listed(dir, &files, "config.json").and_then(|file| file.read_small(MAX_CONFIG));
    let mut config = Config::parse(&config.map_err(CheckpointError::Source)?).map_err(CheckpointError::Config)?;
    if files.iter().any(|file| file.name == HF_QUANT_CONFIG) {
        let text = open_listed(dir, &files, HF_QUANT_CONFIG).and_then(|file| file.read_small(MAX_CONFIG));
        let text = text.map_err(CheckpointError::Source)?;
        config.read_hf_quant_config(&text).map_err(CheckpointError::HfQuantConfig)?;
    }

    let (mut shards, mut tensors) = (Vec::with_capacity(names.len()), Vec::new());
    for shard in shard_headers::read(dir, &files, &names, index.as_ref(), repository.is_some()) {
        let (shard, header) = shard?;
        tensors.extend(tensors_of(header, shards.len()));
        shards.push(shard);
    }
    check(&config, &shards, &tensors, index.as_ref())?;
    let is_shard = |name: &str| shards.binary_search_by(|shard| shard.name.as_str().cmp(name)).is_ok();
    let Sorted { copied: side_files, left_out } =
        side_files::sort_out(&files, is_shard).map_err(CheckpointError::SideFile)?;
    let card =
        model_card::read(&side_files).map_err(|error| CheckpointError::SideFile(SideFileError::Source(error)))?;
    let parts =
        CheckpointParts { shards, tensors, config, side_files, card, left_out, headers_only: false, repository };
    Ok(put_together(dir, parts))
}

/// All that was read of a checkpoint.
pub(super) struct CheckpointParts {
    pub(super) shards: Vec<Shard>,
    pub(super) tensors: Vec<Tensor>,
    pub(super) config: Config,
    pub(super) side_files: Vec<SideFile>,
    pub(super) card: Option<String>,
    pub(super) left_out: Vec<(String, &'static str)>,
    pub(super) headers_only: bool,
    pub(super) repository: Option<Arc<dyn Repository>>,
}

/// Holds config, headers and index against each other.
pub(super) fn check(
    config: &Config,
    shards: &[Shard],
    tensors: &[Tensor],
    index: Option<&Index>,
) -> Result<(), CheckpointError> {
    check_unique(shards, tensors)?;
    if let Some(index) = index {
        check_index(index, shards, tensors)?;
    }
    if tensors.is_empty() {
        return Err(CheckpointError::NoTensors);
    }
    refuse_unmerged_lora(config, tensors)
}

/// Makes the checkpoint of parts that were checked.
pub(super) fn put_together(dir: &Path, parts: CheckpointParts) -> Checkpoint {
    let CheckpointParts { shards, mut tensors, config, side_files, card, left_out, headers_only, repository } = parts;
    let model = Model::of(&config, tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.len())));
    for tensor in &mut tensors {
        tensor.layer = model.layer(&tensor.name, tensor.shape.len());
    }
    let quantized = quantized::describe(&config, &tensors);
    Checkpoint {
        dir: dir.to_owned(),
        shards,
        tensors,
        config,
        model,
        quantized,
        headers_only,
        repository,
        cut_to: None,
        adapters: Vec::new(),
        side_files,
        card,
        left_out,
    }
}

fn list(dir: &Path) -> Result<Vec<Listed>, CheckpointError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => CheckpointError::Missing { dir: dir.to_owned() },
        io::ErrorKind::NotADirectory => CheckpointError::NotDirectory { dir: dir.to_owned() },
        _ => CheckpointError::Unreadable { dir: dir.to_owned(), error },
    };
    // A FIFO is not listed, nor waited for.
    if !fs::metadata(dir).map_err(unreadable)?.is_dir() {
        return Err(CheckpointError::NotDirectory { dir: dir.to_owned() });
    }
    side_files::list(dir).map_err(unreadable)
}

/// Says what a directory without `config.json` is, where its files tell.
fn refuse_other_forms(dir: &Path, files: &[Listed]) -> Result<(), CheckpointError> {
    let is_there = |name: &str| files.iter().any(|file| file.name == name);
    if is_there("config.json") {
        return Ok(());
    }
    let of_mistral =
        files.iter().filter(|file| file.name.starts_with("consolidated") && file.name.ends_with(".safetensors"));
    let of_mistral: Sample = of_mistral.map(|file| &file.name).collect();
    if is_there("adapter_config.json") {
        Err(CheckpointError::Adapter { dir: dir.to_owned() })
    } else if is_there("params.json") && !of_mistral.is_empty() {
        Err(CheckpointError::MistralForm { dir: dir.to_owned(), files: of_mistral })
    } else {
        Ok(())
    }
}

/// Refuses a checkpoint that was saved with its LoRA beside the weights.
fn refuse_unmerged_lora(config: &Config, tensors: &[Tensor]) -> Result<(), CheckpointError> {
    if models::has_lora_of_its_own(config.model_type().as_deref()) {
        return Ok(());
    }
    let unmerged: Sample = tensors.iter().map(|tensor| &tensor.name).filter(|name| models::is_lora(name)).collect();
    if unmerged.is_empty() { Ok(()) } else { Err(CheckpointError::UnmergedLora { tensors: unmerged }) }
}

/// The names of the shards, sorted, and the index if there is one.
fn find_shards(dir: &Path, files: &[Listed]) -> Result<(Vec<String>, Option<Index>), CheckpointError> {
    let is_there = |name: &str| files.iter().any(|file| file.is_utf8 && file.name == name);
    if is_there(INDEX_FILE) {
        let text = open_listed(dir, files, INDEX_FILE).and_then(|file| file.read_small(MAX_INDEX));
        let index = Index::parse(&text.map_err(CheckpointError::Source)?).map_err(CheckpointError::Index)?;
        if is_there(SINGLE_FILE) && !index.shards.contains(SINGLE_FILE) {
            return Err(CheckpointError::SingleAndIndex { dir: dir.to_owned() });
        }
        let listed: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let missing: Sample = index.shards.iter().filter(|name| !listed.contains(name.as_str())).collect();
        if !missing.is_empty() {
            return Err(CheckpointError::MissingShards { shards: missing });
        }
        let mut names: Vec<_> = index.shards.iter().cloned().collect();
        names.sort_unstable();
        return Ok((names, Some(index)));
    }
    if is_there(SINGLE_FILE) {
        return Ok((vec![SINGLE_FILE.to_owned()], None));
    }
    let extension = |file: &Listed, wanted: &[&str]| wanted.iter().any(|wanted| file.name.ends_with(wanted));
    let candidates: Vec<_> = files.iter().filter(|file| file.is_utf8 && extension(file, &[".safetensors"])).collect();
    match candidates[..] {
        [only] => Ok((vec![only.name.clone()], None)),
        [] => {
            let other: Sample = files
                .iter()
                .filter(|file| extension(file, &[".bin", ".pt", ".pth", ".ckpt", ".pkl", ".gguf", ".h5", ".msgpack"]))
                .map(|file| &file.name)
                .collect();
            let dir = dir.to_owned();
            Err(if other.is_empty() {
                CheckpointError::NoWeights { meant: checkpoint_within(&dir), dir }
            } else {
                CheckpointError::OtherWeights { dir, files: other }
            })
        }
        _ => Err(CheckpointError::NoIndex {
            dir: dir.to_owned(),
            files: candidates.iter().map(|file| &file.name).collect(),
        }),
    }
}

/// Returns the model that a directory without weights holds: the model id of a repository of the Hugging Face cache, else
/// the first directory in it that has a `config.json`.
fn checkpoint_within(dir: &Path) -> Option<String> {
    if dir.join("snapshots").is_dir() {
        return id_of_folder(&dir.to_string_lossy());
    }
    let entries = fs::read_dir(dir).ok()?.take(1_000).flatten().map(|entry| entry.path());
    let within = entries.filter(|path| path.join("config.json").is_file()).min()?;
    Some(within.to_string_lossy().into_owned())
}

/// No tensor may be in two shards: which one is loaded would depend on the reader.
fn check_unique(shards: &[Shard], tensors: &[Tensor]) -> Result<(), CheckpointError> {
    let mut sorted: Vec<&Tensor> = tensors.iter().collect();
    sorted.sort_by(|a, b| (&a.name, a.shard).cmp(&(&b.name, b.shard)));
    let twice: Vec<_> = sorted.windows(2).filter(|pair| pair[0].name == pair[1].name).collect();
    let Some(pair) = twice.first() else { return Ok(()) };
    Err(CheckpointError::Duplicates {
        tensors: twice.iter().map(|pair| &pair[0].name).collect(),
        tensor: pair[0].name.clone(),
        first: shards[pair[0].shard].name.clone(),
        second: shards[pair[1].shard].name.clone(),
    })
}

/// Index and shards must say the same, in both directions.
fn check_index(index: &Index, shards: &[Shard], tensors: &[Tensor]) -> Result<(), CheckpointError> {
    let holders: HashMap<&str, usize> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shard)).collect();
    let mut ghosts = Sample::default();
    for (tensor, &named) in &index.weight_map {
        let named = index.shards[named].as_str();
        match holders.get(tensor.as_str()).map(|&holder| shards[holder].name.as_str()) {
            None => ghosts.push(tensor),
            Some(actual) if actual != named => {
                return Err(CheckpointError::WrongShard {
                    tensor: tensor.clone(),
                    named: named.to_owned(),
                    actual: actual.to_owned(),
                });
            }
            Some(_) => {}
        }
    }
    if !ghosts.is_empty() {
        return Err(CheckpointError::GhostTensors { tensors: ghosts });
    }
    let listed = |tensor: &&Tensor| !index.weight_map.contains_key(&tensor.name);
    let unlisted: Sample = tensors.iter().filter(listed).map(|tensor| &tensor.name).collect();
    if !unlisted.is_empty() {
        return Err(CheckpointError::Unlisted { tensors: unlisted });
    }
    Ok(())
}
