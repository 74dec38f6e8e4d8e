//! Which tensor of one checkpoint is which of the other: by name, by the name a server gives it, by content.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use super::tensor::Logical;
use super::{Renamed, Side};
use crate::shards::{Shards, ranges};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::served_name;
use qwen_fp8_checkpoint::source::SourceError;

/// The tensors of two checkpoints.
pub(super) struct Pairs<'a> {
    /// In order of A's names; renamed ones included.
    pub(super) both: Vec<(Logical<'a>, Logical<'a>)>,
    pub(super) only_in_a: Vec<Logical<'a>>,
    pub(super) only_in_b: Vec<Logical<'a>>,
    pub(super) renamed: Vec<Renamed>,
}

/// Pairs the tensors of two checkpoints, each in order of name.
pub(super) fn pair<'a>(
    a: &[Logical<'a>],
    b: &[Logical<'a>],
    side_a: &Side<'_>,
    side_b: &Side<'_>,
) -> Result<Pairs<'a>, SourceError> {
    let of_b: BTreeMap<&str, &Logical<'a>> = b.iter().map(|of| (of.name.as_str(), of)).collect();
    let names_a: BTreeSet<&str> = a.iter().map(|of| of.name.as_str()).collect();
    let mut pairs = Pairs { both: Vec::new(), only_in_a: Vec::new(), only_in_b: Vec::new(), renamed: Vec::new() };
    for of in a {
        match of_b.get(of.name.as_str()) {
            Some(other) => pairs.both.push((of.clone(), (*other).clone())),
            None => pairs.only_in_a.push(of.clone()),
        }
    }
    pairs.only_in_b = b.iter().filter(|of| !names_a.contains(of.name.as_str())).cloned().collect();
    by_key(&mut pairs, |of| Ok((bare_name(&of.name), 0, of.shape())), |of| Ok((bare_name(&of.name), 0, of.shape())))?;
    // Only tensors that some unpaired one of the other side could be are read.
    let forms =
        |of: &[Logical<'_>]| -> BTreeSet<(String, Vec<usize>)> { of.iter().map(|of| form(of.tensor)).collect() };
    let (forms_a, forms_b) = (forms(&pairs.only_in_a), forms(&pairs.only_in_b));
    let key = |shards: &Shards, of: &Logical<'_>, others: &BTreeSet<(String, Vec<usize>)>| {
        let form = form(of.tensor);
        // A key of its own, which is no tensor's of the other side.
        let hash = if others.contains(&form) { content_hash(shards, of.tensor)? } else { 0 };
        Ok((form.0, hash, form.1))
    };
    by_key(&mut pairs, |of| key(&side_a.shards, of, &forms_b), |of| key(&side_b.shards, of, &forms_a))?;
    pairs.both.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    pairs.renamed.sort_by(|a, b| a.a.cmp(&b.a));
    Ok(pairs)
}

type Key = (String, u64, Vec<usize>);

/// Pairs what is left over on both sides and has the same key, where no other has it.
fn by_key<'a>(
    pairs: &mut Pairs<'a>,
    key_a: impl Fn(&Logical<'a>) -> Result<Key, SourceError>,
    key_b: impl Fn(&Logical<'a>) -> Result<Key, SourceError>,
) -> Result<(), SourceError> {
    let mut keys: BTreeMap<Key, (Vec<Logical<'a>>, Vec<Logical<'a>>)> = BTreeMap::new();
    for of in std::mem::take(&mut pairs.only_in_a) {
        keys.entry(key_a(&of)?).or_default().0.push(of);
    }
    for of in std::mem::take(&mut pairs.only_in_b) {
        keys.entry(key_b(&of)?).or_default().1.push(of);
    }
    for (of_a, of_b) in keys.into_values() {
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

/// The name without what tells a language model in a vision model from one alone.
fn bare_name(name: &str) -> String {
    let served = served_name(name);
    served.strip_prefix("language_model.").unwrap_or(&served).to_owned()
}

fn form(tensor: &Tensor) -> (String, Vec<usize>) {
    (tensor.dtype.to_string(), tensor.shape.clone())
}

fn content_hash(shards: &Shards, tensor: &Tensor) -> Result<u64, SourceError> {
    let (mut hasher, mut bytes) = (DefaultHasher::new(), Vec::new());
    for range in ranges(tensor.len) {
        shards.read(tensor, range.start, (range.end - range.start) as usize, &mut bytes)?;
        hasher.write(&bytes);
    }
    Ok(hasher.finish())
}
