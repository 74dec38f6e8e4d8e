//! Published models at their published size: `tests/models/shapes/`, which `tests/models/shapes.py` writes, with the
//! source of every figure.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Shapes, bf16};

/// A published model, of which a few layers stand for all.
pub(crate) struct Published {
    value: Value,
}

/// Tensors of one form, such as `model.layers.*.mlp.gate.weight`, and of one shape.
pub(crate) struct Form {
    pub(crate) form: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) names: Vec<String>,
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/tests/models/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn parsed(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The names of all published models.
pub(crate) fn names() -> Vec<String> {
    let files = fs::read_dir(folder("shapes")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter_map(|file| file.strip_suffix(".json").map(str::to_owned)).collect();
    names.sort();
    names
}

/// The tiny models of `facts/` by type: one layer and one expert of each form, with no more of a config than says what it is.
pub(crate) fn tiny_models() -> BTreeMap<String, Shapes> {
    let files = fs::read_dir(folder("facts")).unwrap().map(|entry| parsed(entry.unwrap().path()));
    let with_tensors = files.filter(|facts| facts["tensors"].is_array());
    with_tensors.map(|facts| (facts["model_type"].as_str().unwrap().to_owned(), tiny(&facts))).collect()
}

fn tiny(facts: &Value) -> Shapes {
    let tensors = facts["tensors"].as_array().unwrap().iter().map(|tensor| {
        let shape = tensor["shape"].as_array().unwrap().iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap());
        bf16(tensor["form"].as_str().unwrap().replace('*', "0"), &shape.collect::<Vec<_>>())
    });
    // A form whose layers have several shapes stands there once for each.
    let tensors: BTreeMap<String, _> = tensors.map(|tensor| (tensor.name.clone(), tensor)).collect();
    let config = json!({
        "architectures": [facts["architecture"]],
        "model_type": facts["model_type"],
        "tie_word_embeddings": facts["tied"],
    });
    Shapes { config, tensors: tensors.into_values().collect() }
}

impl Published {
    pub(crate) fn named(name: &str) -> Self {
        Self { value: parsed(folder("shapes").join(format!("{name}.json"))) }
    }

    /// What is known of the model's type, of a tiny model.
    pub(crate) fn facts(&self) -> Value {
        parsed(folder("facts").join(format!("{}.json", self.value["facts"].as_str().unwrap())))
    }

    pub(crate) fn forms(&self) -> Vec<Form> {
        let forms = self.value["tensors"].as_array().unwrap().iter().map(|tensor| {
            let form = tensor["form"].as_str().unwrap().to_owned();
            let numbers = tensor["at"].as_array().into_iter().flatten().map(|spans| numbers(spans.as_str().unwrap()));
            let names = numbers.fold(vec![form.clone()], |names, numbers| {
                let with = |name: &String| numbers.iter().map(|n| name.replacen('*', &n.to_string(), 1)).collect();
                names.iter().flat_map::<Vec<String>, _>(with).collect()
            });
            let shape =
                tensor["shape"].as_array().unwrap().iter().map(|n| usize::try_from(n.as_u64().unwrap()).unwrap());
            Form { form, shape: shape.collect(), names }
        });
        forms.collect()
    }

    pub(crate) fn shapes(&self) -> Shapes {
        let tensors = self
            .forms()
            .into_iter()
            .flat_map(|Form { shape, names, .. }| names.into_iter().map(move |n| bf16(n, &shape)));
        Shapes { config: self.value["config"].clone(), tensors: tensors.collect() }
    }
}

/// The numbers of a text such as `0-2,4`.
fn numbers(spans: &str) -> Vec<usize> {
    let of = |span: &str| {
        let (first, last) = span.split_once('-').unwrap_or((span, span));
        first.parse().unwrap()..=last.parse().unwrap()
    };
    spans.split(',').flat_map(of).collect()
}
