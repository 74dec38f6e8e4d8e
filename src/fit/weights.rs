//! Bytes of weights on one GPU: every tensor that vLLM loads, split as it splits it.

use schemars::JsonSchema;
use serde::Serialize;

use super::subject::{FitSubject, HeldTensor, number};
use crate::checkpoint::models::catalogue::StoredFused;
use crate::checkpoint::models::{LayerKind, ParallelSplit, Part, parallel_split, split_name};

/// The rows that vLLM pads a vocabulary to.
const VOCABULARY_STEP: u64 = 64;

/// Bytes of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct WeightBytes {
    /// Of all tensors of the checkpoint.
    pub all: u64,
    /// Of tensors that vLLM does not load: layers that predict further tokens, which wait for speculative decoding, and a
    /// head that config.json ties to the embedding.
    pub not_loaded: u64,
    /// On each GPU.
    pub per_gpu: u64,
    /// On each GPU if all linear layers of the language model had half of their bytes, as in FP8.
    pub per_gpu_in_fp8: u64,
}

impl WeightBytes {
    pub(super) fn of(subject: &FitSubject<'_>, gpus: u64) -> Self {
        let split = Splitting {
            gpus,
            subject,
            is_encoder: subject.model.cache_of_every_layer() == Some("none"),
            layers: subject.config.text_number("num_hidden_layers"),
            tied: subject.config.tie_word_embeddings() == Some(true),
        };
        let mut bytes = Self { all: 0, not_loaded: 0, per_gpu: 0, per_gpu_in_fp8: 0 };
        for tensor in &subject.tensors {
            bytes.all = bytes.all.saturating_add(tensor.bytes);
            match split.of_gpu(tensor) {
                Some(share) => {
                    let is_quantized = tensor.layer.part == Part::Decoder
                        && matches!(tensor.layer.kind, LayerKind::Linear | LayerKind::Experts);
                    let in_fp8 = if is_quantized { share.div_ceil(2) } else { share };
                    bytes.per_gpu = bytes.per_gpu.saturating_add(share);
                    bytes.per_gpu_in_fp8 = bytes.per_gpu_in_fp8.saturating_add(in_fp8);
                }
                None => bytes.not_loaded = bytes.not_loaded.saturating_add(tensor.bytes),
            }
        }
        bytes
    }
}

/// The figures that decide how a tensor is split.
struct Splitting<'a> {
    gpus: u64,
    subject: &'a FitSubject<'a>,
    /// True of a model that keeps no cache, such as BERT.
    is_encoder: bool,
    layers: Option<u64>,
    tied: bool,
}

impl Splitting<'_> {
    /// Bytes of the tensor on one GPU; `None` where vLLM does not load it.
    fn of_gpu(&self, tensor: &HeldTensor<'_>) -> Option<u64> {
        let (module, parameter) = split_name(tensor.name);
        if tensor.layer.part == Part::NextTokens || self.is_beyond(tensor) {
            return None;
        }
        if tensor.layer.part == Part::ClassHead || self.subject.model.is_replicated(module) {
            return Some(tensor.bytes);
        }
        match tensor.layer.kind {
            LayerKind::LmHead if self.tied => None,
            // vLLM splits them as it does a vocabulary.
            LayerKind::PositionEmbedding if self.is_encoder => Some(self.vocabulary(tensor)),
            LayerKind::LmHead | LayerKind::Embedding if tensor.layer.part == Part::Decoder => {
                Some(self.vocabulary(tensor))
            }
            LayerKind::Experts => Some(tensor.bytes.div_ceil(self.gpus)),
            LayerKind::Linear | LayerKind::Bias | LayerKind::LmHead => Some(self.linear(tensor, module, parameter)),
            // The codes and scales of a quantized layer are of no kind; nor are the parameters of states, which go by heads.
            LayerKind::Other if parameter.contains("weight") || parameter.contains("scale") => {
                Some(self.linear(tensor, module, parameter))
            }
            LayerKind::Other if matches!(parameter, "A_log" | "D" | "dt_bias") => {
                Some(self.parts(tensor, 0, self.gpus))
            }
            LayerKind::Conv if module.ends_with("conv1d") => Some(self.parts(tensor, 0, self.gpus)),
            _ => Some(tensor.bytes),
        }
    }

    /// Reports whether the tensor is of a layer after the last one of config.json.
    fn is_beyond(&self, tensor: &HeldTensor<'_>) -> bool {
        if tensor.layer.part != Part::Decoder && tensor.layer.part != Part::Unquantized {
            return false;
        }
        let mut words = tensor.name.split('.').skip_while(|word| *word != "layers").skip(1);
        let number = words.next().and_then(|number| number.parse::<u64>().ok());
        number.zip(self.layers).is_some_and(|(number, layers)| number >= layers)
    }

    fn vocabulary(&self, tensor: &HeldTensor<'_>) -> u64 {
        let Some(&rows) = tensor.shape.first().filter(|rows| **rows > 0) else { return tensor.bytes };
        let rows = rows as u64;
        let padded = rows.next_multiple_of(VOCABULARY_STEP).next_multiple_of(self.gpus);
        (tensor.bytes / rows).saturating_mul(padded / self.gpus)
    }

    /// The number of different shares of keys that the GPUs have.
    fn shares_of_keys(&self) -> u64 {
        self.subject.model.heads().map_or(self.gpus, |heads| heads.shares_of_keys(number(self.gpus)) as u64)
    }

    fn linear(&self, tensor: &HeldTensor<'_>, module: &str, parameter: &str) -> u64 {
        let model = self.subject.model;
        match parallel_split(module) {
            ParallelSplit::Replicated => tensor.bytes,
            ParallelSplit::Columns if parameter == "bias" || tensor.shape.len() < 2 => tensor.bytes,
            ParallelSplit::Columns => self.parts(tensor, 1, self.gpus),
            ParallelSplit::KeyRows => self.parts(tensor, 0, self.shares_of_keys()),
            ParallelSplit::Rows if model.stored_fused(module) == Some(StoredFused::QueriesKeysValues) => {
                self.queries_keys_values(tensor)
            }
            ParallelSplit::Rows => self.parts(tensor, 0, self.gpus),
        }
    }

    /// The share of queries, keys and values in one tensor: heads of keys are copied where there are fewer than GPUs.
    fn queries_keys_values(&self, tensor: &HeldTensor<'_>) -> u64 {
        let Some(heads) = self.subject.model.heads() else {
            return self.parts(tensor, 0, self.gpus);
        };
        if tensor.layer.part != Part::Decoder || tensor.shape.first().is_none_or(|rows| *rows <= 1) {
            return self.parts(tensor, 0, self.gpus);
        }
        let gpus = number(self.gpus);
        let of_gpu = heads.queries.div_ceil(gpus) as u128 + 2 * heads.keys_of(gpus) as u128;
        let bytes = u128::from(tensor.bytes) * of_gpu / (heads.queries as u128 + 2 * heads.keys as u128);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// The largest of so many parts along a dimension; all of it where the dimension is 1.
    fn parts(&self, tensor: &HeldTensor<'_>, dimension: usize, parts: u64) -> u64 {
        match tensor.shape.get(dimension) {
            Some(&length) if length > 1 => {
                let length = length as u64;
                (tensor.bytes / length)
                    .saturating_mul(length.div_ceil(parts))
                    .saturating_add((tensor.bytes % length).div_ceil(parts))
            }
            _ => tensor.bytes,
        }
    }
}
