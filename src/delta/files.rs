//! The files of a checkpoint that a delta holds, beside the shards.

use std::collections::{HashMap, HashSet};

use qwen_fp8_checkpoint::hf_quant_config::HF_QUANT_CONFIG;
use qwen_fp8_checkpoint::layout::INDEX_FILE;
use qwen_fp8_checkpoint::manifest::MANIFEST_FILE;
use qwen_fp8_checkpoint::source::{SourceError, SourceFile};
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

use crate::contents::{ContentFile, ContentPart, PartBase};
use crate::words::WordKind;

/// The files beside the shards in the order in which a result is written: what makes it loadable comes last.
pub(crate) fn beside_shards(checkpoint: &Checkpoint) -> Result<Vec<(String, u64)>, SourceError> {
    let mut files: Vec<_> = checkpoint.side_files.iter().map(|file| (file.name.clone(), file.stamp.size)).collect();
    for name in [MANIFEST_FILE, HF_QUANT_CONFIG, INDEX_FILE, "config.json"] {
        match SourceFile::open(&checkpoint.dir.join(name)) {
            Ok(file) => files.push((name.to_owned(), file.size())),
            Err(SourceError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// Lays out the new checkpoint, and decides what of the old one each part is held against.
pub(crate) fn lay_out(old: &Checkpoint, new: &Checkpoint) -> Result<Vec<ContentFile>, SourceError> {
    let pairs = BasePairs::new(old, new);
    let mut files = Vec::new();
    let mut tensors = new.tensors.iter().peekable();
    for (number, shard) in new.shards.iter().enumerate() {
        let mut of_shard = Vec::new();
        while let Some(tensor) = tensors.next_if(|tensor| tensor.shard == number) {
            of_shard.push(tensor);
        }
        // A shard without tensors is a header.
        let header = of_shard.iter().map(|tensor| tensor.offset).min().unwrap_or(shard.size);
        let mut parts = vec![ContentPart { tensor: None, words: WordKind::Text, bytes: header, base: PartBase::File }];
        parts.extend(of_shard.into_iter().map(|tensor| ContentPart {
            tensor: Some(tensor.name.clone()),
            words: WordKind::of(tensor.dtype),
            bytes: tensor.len,
            base: pairs.base_of(tensor),
        }));
        files.push(ContentFile { name: shard.name.clone(), parts });
    }
    for (name, bytes) in beside_shards(new)? {
        let part = ContentPart { tensor: None, words: WordKind::Text, bytes, base: PartBase::File };
        files.push(ContentFile { name, parts: vec![part] });
    }
    Ok(files)
}

/// The tensors of the old checkpoint that those of the new one can be held against.
struct BasePairs<'a> {
    old: HashMap<&'a str, &'a Tensor>,
    /// Tensors of names that the new checkpoint does not have, by words and size.
    gone: HashMap<(u8, u64), Vec<&'a Tensor>>,
}

impl<'a> BasePairs<'a> {
    fn new(old: &'a Checkpoint, new: &Checkpoint) -> Self {
        let still: HashSet<&str> = new.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        let mut gone: HashMap<_, Vec<&Tensor>> = HashMap::new();
        for tensor in old.tensors.iter().filter(|tensor| !still.contains(tensor.name.as_str())) {
            gone.entry((WordKind::of(tensor.dtype) as u8, tensor.len)).or_default().push(tensor);
        }
        Self { old: old.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(), gone }
    }

    fn base_of(&self, tensor: &Tensor) -> PartBase {
        let is_alike = |old: &&&Tensor| old.len == tensor.len && WordKind::of(old.dtype) == WordKind::of(tensor.dtype);
        match self.old.get(tensor.name.as_str()) {
            _ if tensor.len == 0 => PartBase::None,
            Some(old) if is_alike(&old) => PartBase::Same,
            Some(_) => PartBase::None,
            None => self.renamed(tensor).map_or(PartBase::None, |old| PartBase::Tensor(old.name.clone())),
        }
    }

    /// The tensor that this one may have been under another name: of those of its size, the one with the longest end of
    /// the name in common. A wrong guess costs bytes of the delta, and nothing else.
    fn renamed(&self, tensor: &Tensor) -> Option<&'a Tensor> {
        let common = |old: &Tensor| {
            let parts = old.name.rsplit('.').zip(tensor.name.rsplit('.'));
            parts.take_while(|(old, new)| old == new).count()
        };
        let alike = self.gone.get(&(WordKind::of(tensor.dtype) as u8, tensor.len))?;
        // The first of several: `max_by_key` returns the last one.
        alike.iter().rev().copied().max_by_key(|old| common(old)).filter(|old| common(old) > 0)
    }
}
