//! The arguments of a compressed-tensors group, and the storage form that they declare.
//!
//! Nothing here knows a storage form: each says in its `Declaration` what a group must
//! say.

use serde_json::{Map, Value};

use super::block::{block, check_block};
use super::compressed_tensors::GroupReader;
use super::declared::{DeclaredForm, StoredActivations};
use crate::decode::{Granularity, Storage, Strategies, Symmetry, in_format};
use qwen_fp8_checkpoint::text::shown;

/// Arguments of weights or activations.
type ArgumentMap = Map<String, Value>;

impl GroupReader<'_> {
    /// Reads the form of a group, which `format` names.
    pub(super) fn form(&mut self, group: &Value, format: &str) -> Option<DeclaredForm> {
        let Some(weights) = group.get("weights").and_then(Value::as_object) else {
            self.bad("`weights` is missing: the group quantizes nothing", "/weights");
            return None;
        };
        let inputs = group.get("input_activations").and_then(Value::as_object);
        let storage = self.storage(weights, format)?;
        // Flags are reported and passed over: what follows can be read all the same, and has faults of its own.
        self.flags(weights, storage);
        let granularity = self.granularity(weights, storage)?;
        if let Some(inputs) = inputs {
            self.activations(inputs, storage, granularity);
        }
        let activations = match inputs.and_then(|inputs| inputs.get("dynamic")) {
            Some(Value::Bool(false)) => StoredActivations::Scale,
            // NVFP4's activations: group scales are computed as they come, under a global scale that is stored.
            Some(Value::String(local)) if local == "local" => StoredActivations::GlobalScale,
            _ => StoredActivations::Nothing,
        };
        Some(DeclaredForm::new(storage, granularity, activations))
    }

    /// Returns the storage form that goes by this format and that the arguments of the weights declare.
    fn storage(&mut self, weights: &ArgumentMap, format: &str) -> Option<&'static dyn Storage> {
        let bits = weights.get("num_bits").and_then(Value::as_u64).and_then(|bits| u32::try_from(bits).ok());
        let (bits, number) = (bits.unwrap_or_default(), text(weights, "type"));
        if in_format(format).next().is_none() {
            self.unknown(&format!("tensors in the format {} are not checked", shown(format)), "/format");
            return None;
        }
        let is_symmetric = weights.get("symmetric") != Some(&Value::Bool(false));
        let declared = in_format(format).find(|storage| {
            let declaration = storage.declaration();
            let has_symmetry = match declaration.symmetric {
                Symmetry::Always => true,
                Symmetry::Declared(symmetric) => symmetric == is_symmetric,
            };
            (declaration.bits, declaration.number) == (bits, number) && has_symmetry
        });
        let Some(storage) = declared else {
            let message = format!("weights of {bits} bits and type {} in the format {}", shown(number), shown(format));
            self.unknown(&format!("{message} are not checked"), "/weights");
            return None;
        };
        let scales = storage.declaration().scale_dtypes;
        let declared = text(weights, "scale_dtype");
        if !scales.contains(&declared) {
            let message = match scales[0] {
                "" => format!("{} weights with scales in {} are not checked", storage.name(), shown(declared)),
                scale => format!("`scale_dtype` of {} weights must be `{scale}`", storage.name()),
            };
            self.unknown(&message, "/weights/scale_dtype");
            return None;
        }
        // The columns are then permuted by `weight_g_idx`, which the decoder does not undo.
        if text(weights, "actorder") == "group" {
            self.unknown(
                "weights whose columns were reordered (`actorder: group`) are not checked",
                "/weights/actorder",
            );
            return None;
        }
        Some(storage)
    }

    fn flags(&mut self, weights: &ArgumentMap, storage: &dyn Storage) {
        let flag = |key: &str| weights.get(key).and_then(Value::as_bool);
        match (storage.declaration().symmetric, flag("symmetric")) {
            (Symmetry::Declared(_), Some(_)) | (Symmetry::Always, Some(true)) => {}
            (Symmetry::Declared(_), None) => self.bad("`symmetric` of the weights is missing", "/weights/symmetric"),
            (Symmetry::Always, _) => self.bad("`symmetric` of the weights must be true", "/weights/symmetric"),
        }
        if flag("dynamic") != Some(false) {
            self.bad("`dynamic` of the weights must be false", "/weights/dynamic");
        }
    }

    fn granularity(&mut self, weights: &ArgumentMap, storage: &dyn Storage) -> Option<Granularity> {
        let (strategy, width) = (text(weights, "strategy"), group_size(weights));
        let allowed = match storage.declaration().strategies {
            Strategies::Group(expected, size) => {
                if (strategy, width) == (expected, Some(size)) {
                    return Some(Granularity::Group(size));
                }
                let message = format!("{} has the strategy `{expected}` and groups of {size}", storage.name());
                self.bad(&message, "/weights/strategy");
                return None;
            }
            Strategies::Any(allowed) => allowed,
        };
        match strategy {
            _ if !allowed.contains(&strategy) => {
                let message = format!("the strategy {} of {} weights is not checked", shown(strategy), storage.name());
                self.unknown(&message, "/weights/strategy");
                None
            }
            "tensor" => Some(Granularity::Tensor),
            "channel" => Some(Granularity::Channel),
            "block" => match weights.get("block_structure").and_then(block) {
                Some(sides) => {
                    check_block(sides, &format!("{}/weights/block_structure", self.pointer), self.faults);
                    Some(Granularity::Block(sides))
                }
                None => {
                    let message = "`block_structure` is not two numbers that make a block of 128 weights or more";
                    self.bad(message, "/weights/block_structure");
                    None
                }
            },
            _ => match width {
                Some(width) => Some(Granularity::Group(width)),
                None => {
                    self.bad("`group_size` is not a number of columns", "/weights/group_size");
                    None
                }
            },
        }
    }

    /// Checks that servers have kernels for these activations and the group's weights; a group without activations is
    /// weight-only, which every form may be.
    fn activations(&mut self, inputs: &ArgumentMap, storage: &dyn Storage, granularity: Granularity) {
        let bits = inputs.get("num_bits").and_then(Value::as_u64).unwrap_or_default();
        let (number, strategy, width) = (text(inputs, "type"), text(inputs, "strategy"), group_size(inputs));
        let declaration = storage.declaration();
        if !declaration.activations.contains(&(bits, number)) {
            let name = storage.name();
            let message =
                format!("no server computes with {bits}-bit activations of type {} and {name} weights", shown(number));
            self.bad(&message, "/input_activations");
        }
        let symmetric = inputs.get("symmetric").and_then(Value::as_bool);
        // Integer activations may be asymmetric, but it has to be said which they are.
        if symmetric != Some(true) && (number != "int" || symmetric.is_none()) {
            self.bad("`symmetric` of the activations must be true", "/input_activations/symmetric");
        }
        // Activations share scales along the columns that a weight's scale covers, or over a whole token.
        let fits = match (declaration.strategies, granularity) {
            // Beside FP4, vLLM takes FP8 under floats of any width.
            (Strategies::Group("group", _), _)
                if (declaration.bits, bits) == (4, 8) && text(inputs, "scale_dtype").is_empty() =>
            {
                matches!(strategy, "token" | "group")
            }
            (Strategies::Group(expected, size), _) => strategy == expected && width == Some(size),
            (_, Granularity::Block([_, columns])) => strategy == "group" && width == Some(columns),
            _ => matches!(strategy, "token" | "tensor"),
        };
        if !fits {
            let (strategy, weights) = (shown(strategy), granularity.describe());
            let message = format!("the activations' strategy {strategy} does not go with weights in {weights}");
            self.bad(&message, "/input_activations/strategy");
        }
    }
}

/// Returns a text among arguments; empty where there is none.
fn text<'a>(arguments: &'a ArgumentMap, key: &str) -> &'a str {
    arguments.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the columns of a group; `None` where the key is missing or -1, which stands for a whole row.
fn group_size(arguments: &ArgumentMap) -> Option<usize> {
    let size = arguments.get("group_size")?.as_u64()?;
    usize::try_from(size).ok().filter(|&size| size > 0)
}
