//! A small, loadable part of a checkpoint, for a first try: its first layers, and a config that says so.

use serde_json::{Value, json};

use crate::checkpoint::Checkpoint;

/// A reason for which a checkpoint cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SmokeError {
    #[error("config.json has no `num_hidden_layers`, so the checkpoint cannot be cut to its first layers")]
    NoLayerCount,
    #[error("the checkpoint has {has} layers, and its first {wanted} are asked for")]
    TooFew { has: u64, wanted: u64 },
}

impl Checkpoint {
    /// Reports whether a tensor of this name would be of a layer that was left out.
    pub fn is_cut_away(&self, tensor: &str) -> bool {
        let Some(layers) = self.cut_to else { return false };
        let mut parts = tensor.split('.').skip_while(|part| *part != "layers").skip(1);
        parts.next().and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| number >= layers)
    }

    /// Leaves out every language-model layer from the `count`th on; vision tower, embeddings and head stay.
    ///
    /// # Errors
    /// The config does not say how many layers there are, or there are fewer.
    pub fn first_layers(mut self, count: u64) -> Result<Self, SmokeError> {
        let has = self.config.text_number("num_hidden_layers").ok_or(SmokeError::NoLayerCount)?;
        if count == 0 || count > has {
            return Err(SmokeError::TooFew { has, wanted: count });
        }
        self.tensors.retain(|tensor| tensor.layer_number().is_none_or(|number| number < count));
        let nested = self.config.value(&["text_config", "num_hidden_layers"]).is_some();
        let at = |key: &'static str| if nested { vec!["text_config", key] } else { vec![key] };
        self.config.set(&at("num_hidden_layers"), &json!(count));
        for key in ["layer_types", "mlp_layer_types"] {
            if let Some(Value::Array(mut types)) = self.config.value(&at(key)) {
                types.truncate(count as usize);
                self.config.set(&at(key), &Value::Array(types));
            }
        }
        // DeepSeek's prediction layers are numbered after the last, and went with them.
        if self.config.value(&at("num_nextn_predict_layers")).is_some() {
            self.config.set(&at("num_nextn_predict_layers"), &json!(0));
        }
        self.cut_to = Some(count);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_checkpoint_says_so_in_its_config() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tiny-qwen3-vl");
        let whole = Checkpoint::open(&fixture).unwrap();
        let of_layer_1 = |checkpoint: &Checkpoint| {
            checkpoint.tensors.iter().filter(|tensor| tensor.layer_number() == Some(1)).count()
        };
        let (tensors, gone) = (whole.tensors.len(), of_layer_1(&whole));
        assert!(gone > 0);
        let cut = whole.first_layers(1).unwrap();
        assert_eq!((cut.tensors.len(), of_layer_1(&cut)), (tensors - gone, 0));
        assert_eq!(cut.cut_to, Some(1));
        assert_eq!(cut.config.text_number("num_hidden_layers"), Some(1));
        assert_eq!(cut.first_layers(2).err(), Some(SmokeError::TooFew { has: 1, wanted: 2 }));
    }
}
