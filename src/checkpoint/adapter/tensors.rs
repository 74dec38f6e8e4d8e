//! The tensors of an adapter put together to what it changes.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::change::{AdapterChange, ChangeKind, LowRankTensors};
use super::config::AdapterConfig;
use super::error::AdapterError;
use super::names::{TensorUse, meaning};
use crate::tensor::Tensor;

/// Returns what an adapter with these tensors changes: replaced tensors first, since others may be added to them.
pub(super) fn changes(config: &AdapterConfig, tensors: Vec<Tensor>) -> Result<Vec<AdapterChange>, AdapterError> {
    if tensors.is_empty() {
        return Err(AdapterError::Empty);
    }
    let (mut replaced, mut modules): (Vec<AdapterChange>, Vec<ModuleTensors>) = (Vec::new(), Vec::new());
    let mut by_name: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in tensors {
        if !matches!(tensor.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(wrong(&tensor, format!("is {:?}, and an adapter is F32, F16 or BF16", tensor.dtype)));
        }
        let Some((known, name)) = meaning(&tensor.name) else {
            return Err(wrong(&tensor, "has a name that PEFT gives to nothing that is merged here".to_owned()));
        };
        if known == TensorUse::Whole {
            replaced.push(AdapterChange { tensor: name, kind: ChangeKind::Replace(tensor) });
            continue;
        }
        let at = *by_name.entry(name).or_insert_with_key(|name| {
            modules.push(ModuleTensors { name: name.clone(), ..ModuleTensors::default() });
            modules.len() - 1
        });
        modules[at].take(known, tensor)?;
    }
    let mut all = replaced;
    for module in modules {
        module.changes(config, &mut all)?;
    }
    Ok(all)
}

/// The tensors of a module that an adapter changes.
#[derive(Default)]
struct ModuleTensors {
    name: String,
    a: Option<Tensor>,
    b: Option<Tensor>,
    bias: Option<Tensor>,
    magnitude: Option<Tensor>,
    is_embedding: bool,
}

impl ModuleTensors {
    fn take(&mut self, known: TensorUse, tensor: Tensor) -> Result<(), AdapterError> {
        let is_embedding = matches!(known, TensorUse::EmbeddingA | TensorUse::EmbeddingB);
        self.is_embedding |= is_embedding;
        let place = match known {
            TensorUse::A | TensorUse::EmbeddingA => &mut self.a,
            TensorUse::B | TensorUse::EmbeddingB => &mut self.b,
            TensorUse::BiasOfB => &mut self.bias,
            // A whole tensor belongs to no module.
            TensorUse::Magnitude | TensorUse::Whole => &mut self.magnitude,
        };
        match place {
            Some(other) => Err(wrong(&tensor, format!("is there twice: also as `{}`", other.name))),
            None => {
                *place = Some(tensor);
                Ok(())
            }
        }
    }

    fn changes(self, config: &AdapterConfig, all: &mut Vec<AdapterChange>) -> Result<(), AdapterError> {
        let Self { name, a, b, bias, magnitude, is_embedding } = self;
        let (rank, scaling) = config.rank_and_scaling(&name)?;
        let (a, b) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (Some(alone), None) | (None, Some(alone)) => {
                return Err(wrong(&alone, "stands alone, without its other factor".to_owned()));
            }
            (None, None) => {
                let alone = bias.or(magnitude);
                return alone.map_or(Ok(()), |alone| Err(wrong(&alone, "belongs to no pair of factors".to_owned())));
            }
        };
        let (&[of_a, _], &[_, of_b]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            let odd = if a.shape.len() == 2 { &b } else { &a };
            let reason = match odd.shape.len() {
                0 | 1 => "was saved by a part of a training alone, such as one of DeepSpeed or FSDP",
                _ => "belongs to a convolution, which is not merged here",
            };
            return Err(wrong(odd, format!("of shape {:?} {reason}", odd.shape)));
        };
        if [of_a, of_b] != [rank; 2] {
            let (odd, has) = if of_a == rank { (&b, of_b) } else { (&a, of_a) };
            return Err(wrong(odd, format!("has the rank {has}, and `adapter_config.json` says {rank}")));
        }
        match (&magnitude, config.has_magnitudes) {
            (Some(magnitude), false) => {
                return Err(wrong(magnitude, "is DoRA's, and `use_dora` is not set".to_owned()));
            }
            (Some(magnitude), true) if is_embedding => {
                return Err(wrong(magnitude, "is DoRA's for an embedding, which is not merged here".to_owned()));
            }
            (None, true) => return Err(wrong(&a, "has no magnitudes beside it, and `use_dora` is set".to_owned())),
            (Some(_), true) | (None, false) => {}
        }
        if let Some(bias) = bias {
            if !config.has_bias {
                return Err(wrong(&bias, "is a bias, and `lora_bias` is not set".to_owned()));
            }
            let kind = ChangeKind::AddBias { bias, scaling };
            all.push(AdapterChange { tensor: format!("{name}.bias"), kind });
        }
        let low = LowRankTensors { a, b, magnitude, rank, scaling, is_embedding };
        all.push(AdapterChange { tensor: format!("{name}.weight"), kind: ChangeKind::LowRank(Box::new(low)) });
        Ok(())
    }
}

fn wrong(tensor: &Tensor, reason: String) -> AdapterError {
    AdapterError::Tensor { tensor: tensor.name.clone(), reason }
}
