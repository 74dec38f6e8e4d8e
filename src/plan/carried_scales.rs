//! Scales of FP8 weights that pass through in another form than they are stored in; codes stay as they are.

use qwen_fp8_schemes::{Dtype, PassthroughOptions, Strategy, TensorRole, read_options};
use serde_json::Value;

use crate::recipe::Rule;

use super::planned_input::{PlannedInput, QuantizedSource, SourcePart};
use super::served_form::ServedForm;

/// The scales of a quantized weight that passes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CarriedScales {
    /// They are written as F32, whatever they are stored as.
    pub floats: bool,
    /// The rows that a single scale is repeated for.
    pub repeated: Option<usize>,
}

impl CarriedScales {
    /// Returns what a rule makes of the scales of an input.
    ///
    /// # Errors
    /// The reason for which the source has no such scales.
    pub(super) fn of(rule: &Rule, input: &PlannedInput, source: &QuantizedSource) -> Result<Self, String> {
        // The recipe's schema has held the options to this form.
        let options = read_options::<PassthroughOptions>(Value::Object(rule.options.clone())).unwrap_or_default();
        if options == PassthroughOptions::default() {
            return Ok(Self::default());
        }
        let strategy = source.carried.as_ref().map(|carried| carried.form.weights.strategy);
        match strategy {
            Ok(Strategy::Tensor | Strategy::Channel | Strategy::Block(_)) if source.name == "FP8" => {}
            _ => {
                return Err(format!("it is {}, and `scale_dtype` and `granularity` are for FP8", source.name));
            }
        }
        let floats = options.scale_dtype.is_some();
        let repeated = match (options.granularity, strategy) {
            (None, _) | (_, Ok(Strategy::Channel)) => None,
            (Some(_), Ok(Strategy::Tensor)) => Some(input.shape[0]),
            (Some(_), _) => return Err("its scales are for blocks, which no scale per row can stand for".to_owned()),
        };
        Ok(Self { floats, repeated })
    }

    /// Reports whether scales are copied as they are stored.
    pub fn are_copied(self) -> bool {
        self == Self::default()
    }

    /// Returns dtype and shape of a tensor that passes through; `dtype` is what it has where it stays as it is.
    pub(super) fn form_of(self, part: &SourcePart, dtype: Dtype) -> (Dtype, Vec<usize>) {
        if part.role != TensorRole::Scale {
            return (dtype, part.tensor.shape.clone());
        }
        let shape = self.repeated.map_or_else(|| part.tensor.shape.clone(), |rows| vec![rows, 1]);
        (if self.floats { Dtype::F32 } else { dtype }, shape)
    }

    /// Returns the bytes of a tensor that passes through.
    pub fn bytes_of(self, part: &SourcePart) -> u64 {
        let (dtype, shape) = self.form_of(part, part.dtype);
        shape.iter().product::<usize>() as u64 * (dtype.bitsize() / 8) as u64
    }

    /// Returns the form of a weight under such scales.
    pub(super) fn served(self, form: &ServedForm) -> ServedForm {
        let mut form = form.clone();
        // As floats they are like all others: servers need no promise of what they are.
        form.exponents &= !self.floats;
        form.powers_of_two &= !self.floats;
        if self.repeated.is_some() {
            form.weights.strategy = Strategy::Channel;
        }
        form
    }
}
