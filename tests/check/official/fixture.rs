//! A published layout at a small size, with valid values.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::layout::{self, Form, Layout};
use super::values::{made, stored};
use crate::support::folder::{Folder, Tensor};
use crate::support::random::Random;

/// A checkpoint of a published layout, and what it was made from.
pub(super) struct Fixture {
    pub(super) layout: Layout,
    pub(super) folder: Folder,
    /// In BF16; `None` where no rule leads from there to the published scales.
    pub(super) source: Option<Folder>,
    pub(super) weights: Vec<Quantized>,
    /// The tensors that stay.
    pub(super) plain: Vec<String>,
}

/// A weight of a fixture.
#[derive(Clone, Debug)]
pub(super) struct Quantized {
    /// The module; of a stack, the stack.
    pub(super) module: String,
    pub(super) form: Form,
    pub(super) codes: String,
    pub(super) scale: String,
    /// Codes, scale and what stands beside them.
    pub(super) names: Vec<String>,
    pub(super) powers: bool,
}

impl Quantized {
    /// The name of the tensor beside the codes that ends so.
    pub(super) fn beside(&self, end: &str) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| name.ends_with(end))
    }

    /// The name of the scale of its activations.
    pub(super) fn activations(&self) -> Option<&str> {
        ["activation_scale", "input_scale", "input_global_scale"].iter().find_map(|end| self.beside(end))
    }

    /// The name of the scale above its scales.
    pub(super) fn global(&self) -> Option<&str> {
        self.beside(".weight_global_scale").or(self.beside(".weight_scale_2"))
    }
}

/// The fixtures of all layouts, by name; making one takes as long as a dozen checks of it.
//
// Not in parallel: whoever waits for it could be a worker that the maker needs.
static ALL: LazyLock<Vec<(String, Fixture)>> = LazyLock::new(|| {
    let of = |name: String| (name.clone(), Fixture::of(&name));
    layout::names().into_iter().map(of).collect()
});

impl Fixture {
    /// The fixtures of all layouts, by name.
    pub(super) fn all() -> &'static [(String, Self)] {
        &ALL
    }

    fn of(name: &str) -> Self {
        let layout = Layout::named(name);
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Random::new(seed);
        let (mut here, mut before) = (BTreeMap::new(), BTreeMap::new());
        let (mut weights, mut plain, mut has_source) = (Vec::new(), Vec::new(), true);
        for tensor in layout.tensors() {
            let Some(kind) = layout.kind(&tensor.name) else {
                let values: Vec<f32> = (0..tensor.shape.iter().product()).map(|_| random.weight()).collect();
                let stays = match tensor.dtype.as_str() {
                    "I64" => integers(&tensor.shape),
                    dtype => stored(dtype, &tensor.shape, &values),
                };
                here.insert(tensor.name.clone(), stays.clone());
                before.insert(tensor.name.clone(), stays);
                plain.push(tensor.name);
                continue;
            };
            let of_kind = made(kind, &tensor.shape, &mut random);
            let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name).to_owned();
            let names: Vec<String> = of_kind.tensors.iter().map(|(end, _)| format!("{module}{end}")).collect();
            weights.push(Quantized {
                codes: names[0].clone(),
                scale: format!("{module}{}", of_kind.scale),
                names: names.clone(),
                module,
                form: kind.form,
                powers: kind.powers,
            });
            here.extend(names.into_iter().zip(of_kind.tensors.into_iter().map(|(_, tensor)| tensor)));
            match of_kind.weights {
                Some(bytes) => {
                    let source = Tensor { dtype: "BF16".to_owned(), shape: tensor.shape, bytes };
                    before.insert(tensor.name, source);
                }
                None => has_source = false,
            }
        }
        let mut config = layout.config();
        let source = Folder { shards: in_shards(before), config: config.clone(), others: BTreeMap::new() };
        let mut others = BTreeMap::new();
        if let Some(text) = &layout.hf_quant_config {
            others.insert("hf_quant_config.json".to_owned(), text.clone().into_bytes());
        }
        if !layout.quantization.is_empty() {
            let quantization: Value = serde_json::from_str(&layout.quantization).unwrap();
            holder(&mut config, layout.in_text_config).insert("quantization_config".to_owned(), quantization);
        }
        let folder = Folder { shards: in_shards(here), config, others };
        Self { source: has_source.then_some(source), layout, folder, weights, plain }
    }
}

/// The object of `config.json` that holds the declaration.
pub(super) fn holder(config: &mut Map<String, Value>, in_text_config: bool) -> &mut Map<String, Value> {
    match in_text_config {
        true => config.get_mut("text_config").and_then(Value::as_object_mut).expect("the layout has a text_config"),
        false => config,
    }
}

fn integers(shape: &[usize]) -> Tensor {
    let bytes = (0..shape.iter().product::<usize>() as i64).flat_map(i64::to_le_bytes).collect();
    Tensor { dtype: "I64".to_owned(), shape: shape.to_vec(), bytes }
}

/// Two shards, as a published model has more than one.
fn in_shards(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let middle = tensors.keys().nth(tensors.len() / 2).expect("a model has tensors").clone();
    let second = tensors.split_off(&middle);
    let name = |number| format!("model-{number:05}-of-00002.safetensors");
    BTreeMap::from([(name(1), tensors), (name(2), second)])
}
