//! The pairing of two checkpoints' tensors: by name, by the name a server gives them, by content.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use super::described::Renamed;
use super::side::DiffSide;
use super::tensor::LogicalTensor;
use crate::decode::{Shards, ranges};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::progress::ProgressSink;
use qwen_fp8_checkpoint::source::SourceError;

/// The tensors of two checkpoints, paired.
pub(super) struct TensorPairs<'a> {
    /// Pairs in order of A's names, renamed tensors among them.
    pub(super) both: Vec<(LogicalTensor<'a>, LogicalTensor<'a>)>,
    pub(super) only_in_a: Vec<LogicalTensor<'a>>,
    pub(super) only_in_b: Vec<LogicalTensor<'a>>,
    pub(super) renamed: Vec<Renamed>,
}

/// Pairs the tensors of two checkpoints, each in order of name.
pub(super) fn pair<'a>(
    a: &[LogicalTensor<'a>],
    b: &[LogicalTensor<'a>],
    side_a: &DiffSide<'_>,
    side_b: &DiffSide<'_>,
    progress: &dyn ProgressSink,
) -> Result<TensorPairs<'a>, SourceError> {
    let of_b: BTreeMap<&str, &LogicalTensor<'a>> = b.iter().map(|of| (of.name.as_str(), of)).collect();
    let names_a: BTreeSet<&str> = a.iter().map(|of| of.name.as_str()).collect();
    let mut pairs = TensorPairs { both: Vec::new(), only_in_a: Vec::new(), only_in_b: Vec::new(), renamed: Vec::new() };
    for of in a {
        match of_b.get(of.name.as_str()) {
            Some(other) => pairs.both.push((of.clone(), (*other).clone())),
            None => pairs.only_in_a.push(of.clone()),
        }
    }
    // Names decide first: a tensor that kept its name is the same one, whatever became of its values.
    pairs.only_in_b = b.iter().filter(|of| !names_a.contains(of.name.as_str())).cloned().collect();
    let model = Model::default();
    let by_name = |of: &LogicalTensor<'a>| Ok((bare_name(&model, &of.name), 0, of.shape()));
    by_key(&mut pairs, by_name, by_name)?;
    // Tensors are read only where an unpaired one of the other side has their dtype and shape.
    let forms = |of: &[LogicalTensor<'_>]| {
        let forms = of.iter().map(|of| form(of.tensor));
        forms.collect::<BTreeSet<_>>()
    };
    let (forms_a, forms_b) = (forms(&pairs.only_in_a), forms(&pairs.only_in_b));
    let to_hash = |of: &[LogicalTensor<'_>], others: &BTreeSet<_>| -> u64 {
        of.iter().filter(|of| others.contains(&form(of.tensor))).map(|of| of.tensor.len).sum()
    };
    let bytes = to_hash(&pairs.only_in_a, &forms_b) + to_hash(&pairs.only_in_b, &forms_a);
    if bytes > 0 {
        progress.reading("looking for renamed tensors", bytes);
    }
    let key = |shards: &Shards, of: &LogicalTensor<'_>, others: &BTreeSet<(String, Vec<usize>)>| {
        let form = form(of.tensor);
        // No tensor of the other side has this dtype and shape, so that any hash will do.
        let hash = if others.contains(&form) { content_hash(shards, of.tensor, progress)? } else { 0 };
        Ok((form.0, hash, form.1))
    };
    by_key(&mut pairs, |of| key(&side_a.shards, of, &forms_b), |of| key(&side_b.shards, of, &forms_a))?;
    pairs.both.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    pairs.renamed.sort_by(|a, b| a.a.cmp(&b.a));
    Ok(pairs)
}

type PairKey = (String, u64, Vec<usize>);

/// Pairs two tensors, one left over on each side, that have the same key and share it with no other.
fn by_key<'a>(
    pairs: &mut TensorPairs<'a>,
    key_a: impl Fn(&LogicalTensor<'a>) -> Result<PairKey, SourceError>,
    key_b: impl Fn(&LogicalTensor<'a>) -> Result<PairKey, SourceError>,
) -> Result<(), SourceError> {
    let mut keys: BTreeMap<PairKey, (Vec<LogicalTensor<'a>>, Vec<LogicalTensor<'a>>)> = BTreeMap::new();
    for of in std::mem::take(&mut pairs.only_in_a) {
        keys.entry(key_a(&of)?).or_default().0.push(of);
    }
    for of in std::mem::take(&mut pairs.only_in_b) {
        keys.entry(key_b(&of)?).or_default().1.push(of);
    }
    for (of_a, of_b) in keys.into_values() {
        // One of each side, or none: two norms of ones have the same content, and a guess would invent a renaming.
        match (of_a.as_slice(), of_b.as_slice()) {
            ([a], [b]) => {
                pairs.renamed.push(Renamed { a: a.name.clone(), b: b.name.clone() });
                pairs.both.push((a.clone(), b.clone()));
            }
            _ => {
                pairs.only_in_a.extend(of_a);
                pairs.only_in_b.extend(of_b);
            }
        }
    }
    pairs.only_in_a.sort_by(|a, b| a.name.cmp(&b.name));
    pairs.only_in_b.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// Returns the name without the prefix that a language model has inside a vision model.
fn bare_name(model: &Model, name: &str) -> String {
    let served = model.served_name(name);
    served.strip_prefix("language_model.").unwrap_or(&served).to_owned()
}

fn form(tensor: &Tensor) -> (String, Vec<usize>) {
    (tensor.dtype.to_string(), tensor.shape.clone())
}

fn content_hash(shards: &Shards, tensor: &Tensor, progress: &dyn ProgressSink) -> Result<u64, SourceError> {
    let (mut hasher, mut bytes) = (DefaultHasher::new(), Vec::new());
    for range in ranges(tensor.len) {
        shards.read(tensor, range.start, (range.end - range.start) as usize, &mut bytes)?;
        hasher.write(&bytes);
        progress.advanced(bytes.len() as u64);
    }
    Ok(hasher.finish())
}
