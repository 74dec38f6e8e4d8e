//! The names of an adapter's tensors: what PEFT puts around the name of a module, and how the names of a module differ
//! between versions of transformers.

/// The file of an adapter's options.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";

/// The file of an adapter's tensors.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of a model's tensors.
const PREFIX: &str = "base_model.model.";

/// What a tensor of an adapter is for its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TensorUse {
    A,
    B,
    BiasOfB,
    EmbeddingA,
    EmbeddingB,
    Magnitude,
    /// A tensor of the model, which it replaces.
    Whole,
}

/// The ends of names, and what they mean.
const ENDS: [(&str, TensorUse); 7] = [
    (".lora_A.weight", TensorUse::A),
    (".lora_B.weight", TensorUse::B),
    (".lora_B.bias", TensorUse::BiasOfB),
    (".lora_embedding_A", TensorUse::EmbeddingA),
    (".lora_embedding_B", TensorUse::EmbeddingB),
    (".lora_magnitude_vector", TensorUse::Magnitude),
    (".lora_magnitude_vector.weight", TensorUse::Magnitude),
];

/// Returns what a tensor is, and the module that it belongs to, or the tensor of the model that it replaces; `None` where the
/// name is none that PEFT saves.
pub(super) fn meaning(name: &str) -> Option<(TensorUse, String)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some((module, known)) = ENDS.iter().find_map(|(end, known)| Some((name.strip_suffix(end)?, *known))) {
        return Some((known, module.to_owned()));
    }
    let is_of_peft = |part: &str| {
        part.starts_with("lora_") || matches!(part, "original_module" | "modules_to_save" | "token_adapter")
    };
    if name.split('.').any(is_of_peft) {
        return None;
    }
    Some((TensorUse::Whole, name.replace(".base_layer.", ".")))
}

/// The beginnings by which the same part of a model is called, by transformers' classes and versions.
const BEGINNINGS: [&[&str]; 2] =
    [&["model.language_model.", "language_model.model.", "model.", "language_model."], &["model.visual.", "visual."]];

/// Names that may mean the same tensor of a model, the given one first.
pub(super) fn spellings(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    for beginnings in BEGINNINGS {
        // The longest beginning that fits is the name's own: `model.language_model.` begins with `model.` too.
        let Some((own, rest)) = beginnings.iter().find_map(|own| Some((own, name.strip_prefix(own)?))) else {
            continue;
        };
        let others = beginnings.iter().filter(|other| *other != own);
        names.extend(others.map(|other| format!("{other}{rest}")));
        break;
    }
    if name == "lm_head.weight" || name.ends_with(".lm_head.weight") {
        let heads = ["lm_head.weight", "language_model.lm_head.weight", "model.lm_head.weight"];
        names.extend(heads.into_iter().filter(|head| *head != name).map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_peft_saves() {
        for (name, expected) in [
            ("base_model.model.model.layers.0.q.lora_A.weight", Some((TensorUse::A, "model.layers.0.q"))),
            ("base_model.model.q.lora_B.bias", Some((TensorUse::BiasOfB, "q"))),
            ("base_model.model.e.lora_embedding_B", Some((TensorUse::EmbeddingB, "e"))),
            ("base_model.model.q.lora_magnitude_vector", Some((TensorUse::Magnitude, "q"))),
            ("base_model.model.lm_head.weight", Some((TensorUse::Whole, "lm_head.weight"))),
            ("base_model.model.v.base_layer.bias", Some((TensorUse::Whole, "v.bias"))),
            ("base_model.model.q.lora_A.default.weight", None),
            ("base_model.model.q.modules_to_save.default.weight", None),
            ("base_model.model.q.lora_E", None),
        ] {
            let expected = expected.map(|(known, module)| (known, module.to_owned()));
            assert_eq!(meaning(name), expected, "{name}");
        }
    }

    #[test]
    fn a_model_by_the_names_of_another_version_is_found() {
        let names = spellings("model.language_model.layers.0.q.weight");
        assert_eq!(names[0], "model.language_model.layers.0.q.weight");
        assert!(names.contains(&"model.layers.0.q.weight".to_owned()), "{names:?}");
        assert!(names.contains(&"language_model.model.layers.0.q.weight".to_owned()), "{names:?}");
        assert!(spellings("visual.a").contains(&"model.visual.a".to_owned()));
        assert!(spellings("lm_head.weight").contains(&"language_model.lm_head.weight".to_owned()));
        assert_eq!(spellings("transformer.h.0.weight").len(), 1);
    }
}
