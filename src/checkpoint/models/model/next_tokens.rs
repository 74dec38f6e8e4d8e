//! The layers of a model that predict further tokens (MTP): which they are, what promises them, and what is asked for them.

use super::super::catalogue::ListFormat;
use super::super::part::Part;
use super::{LAYERS, Model};

impl Model {
    /// Reports whether the module belongs to a layer that predicts further tokens: one of the part of that name, or one
    /// that is numbered after the last layer.
    pub fn predicts_further_tokens(&self, module: &str) -> bool {
        self.is_behind_the_last_layer(module) || self.part(module) == Some(Part::NextTokens)
    }

    /// Reports whether the module's layer is numbered after the last one of the language model.
    pub fn is_behind_the_last_layer(&self, module: &str) -> bool {
        let Some(&layers) = self.numbers.get(LAYERS) else { return false };
        let mut parts = module.split('.').skip_while(|part| *part != "layers").skip(1);
        let number = parts.next().and_then(|number| number.parse::<u64>().ok());
        // A tower has a number of layers of its own.
        let is_elsewhere = || matches!(self.part(module), Some(Part::Vision | Part::Audio | Part::Projector));
        number.is_some_and(|number| number >= layers) && !is_elsewhere()
    }

    /// The number of config.json that promises such layers, and how many; `None` where none does.
    pub fn promised_next_tokens(&self) -> Option<(&str, u64)> {
        let keys = self.files().flat_map(|file| &file.next_tokens.promised_by);
        let mut promised = keys.filter_map(|key| Some((key.as_str(), *self.numbers.get(key)?)));
        promised.find(|(_, count)| *count > 0)
    }

    /// Returns the name that vLLM's class for such layers asks the list for, beside the one on disk; `None` where it
    /// asks for no other, or where the module is in no such layer.
    pub fn asked_for_next_tokens(&self, module: &str, format: ListFormat) -> Option<String> {
        if !self.predicts_further_tokens(module) {
            return None;
        }
        self.rewritten(self.files().flat_map(|file| &file.next_tokens.asked), module, format)
    }
}
