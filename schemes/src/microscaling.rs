//! What the microscaling schemes have in common: elements under a power of two per 32 columns.

use safetensors::Dtype;

use crate::kernels::{MX_GROUP, MxElement, quantize_microscaled};
use crate::{
    AmaxScope, Band, Dynamic, Matrix, NonFinite, NumberKind, QuantizationArgs, Role, Scheme, ShapeError, Strategy,
    TensorSpec,
};

/// Elements and their E8M0 scales.
#[derive(Debug)]
pub(crate) struct Microscaled {
    pub(crate) element: MxElement,
    /// Whether the server is told to quantize the layer's input in the same way.
    pub(crate) activations: bool,
}

impl Microscaled {
    fn arguments(&self, dynamic: Dynamic) -> QuantizationArgs {
        QuantizationArgs {
            num_bits: match self.element {
                MxElement::E4m3 => 8,
                MxElement::E2m1 { .. } => 4,
            },
            kind: NumberKind::Float,
            symmetric: true,
            strategy: Strategy::Group(MX_GROUP),
            dynamic,
            scale_dtype: Some("torch.uint8"),
        }
    }

    /// Whether this is what the arguments ask for.
    pub(crate) fn answers(&self, weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> bool {
        *weights == self.weights() && activations == self.input_activations().as_ref()
    }
}

/// Refuses columns that groups of a fixed size cut short.
pub(crate) fn whole_groups(columns: usize, size: usize) -> Result<usize, ShapeError> {
    if columns.is_multiple_of(size) {
        return Ok(columns / size);
    }
    Err(ShapeError {
        reason: format!(
            "{columns} columns are no multiple of {size}, the group of this scheme; `FP8_DYNAMIC`, `W8A8` and \
             `group_size: channel` of the integer schemes take any"
        ),
    })
}

impl Scheme for Microscaled {
    fn weights(&self) -> QuantizationArgs {
        self.arguments(Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        self.activations.then(|| self.arguments(Dynamic::Dynamic))
    }

    fn storage_format(&self) -> &'static str {
        match self.element {
            MxElement::E4m3 => "mxfp8-quantized",
            MxElement::E2m1 { .. } => "mxfp4-pack-quantized",
        }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { rows, columns, .. } = source;
        let groups = whole_groups(columns, MX_GROUP)?;
        let (suffix, dtype, bytes) = match self.element {
            MxElement::E4m3 => ("weight", Dtype::F8_E4M3, columns),
            MxElement::E2m1 { .. } => ("weight_packed", Dtype::U8, columns / 2),
        };
        Ok(vec![
            TensorSpec::per_row(suffix, Role::Codes, dtype, [rows, bytes]),
            TensorSpec::per_row("weight_scale", Role::Scale, Dtype::U8, [rows, groups]),
        ])
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales] = outputs else { panic!("a band comes with a slice for each of the two outputs") };
        quantize_microscaled(self.element, band, weight, scales)
    }
}
