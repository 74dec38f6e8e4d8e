//! A group of layers that are stored alike, and what the readers of several methods make of its arguments.

use qwen_fp8_schemes::{Dynamic, NumberKind, QuantizationArgs, Strategy};
use serde_json::Value;

use crate::checkpoint::Tensor;
use crate::checkpoint::models::{LayerKind, Model};
use crate::checkpoint::pattern::Pattern;

use super::layout::SourceLayout;

/// Layers that are stored alike.
pub(super) struct SourceGroup {
    /// `None` takes every layer.
    pub(super) targets: Option<Vec<Pattern>>,
    pub(super) layout: SourceLayout,
}

impl SourceGroup {
    /// Reports whether a target takes the module of these codes.
    pub(super) fn takes(&self, model: &Model, codes: &Tensor) -> bool {
        let Some(targets) = &self.targets else { return true };
        let is_linear = |kind| matches!(kind, LayerKind::Linear | LayerKind::Router);
        // The kind that the weight has unpacked, whatever its codes are called.
        let kind = model.layer(&format!("{}.weight", codes.module()), codes.shape.len()).kind;
        let kind = if is_linear(kind) { LayerKind::Linear } else { kind };
        targets.iter().any(|target| target.matches(codes.module(), kind).unwrap_or(false))
    }
}

/// Describes E4M3 values.
pub(super) fn float8(strategy: Strategy, dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs { num_bits: 8, kind: NumberKind::Float, symmetric: true, strategy, dynamic, scale_dtype: None }
}

/// Describes values under a power of two for every 32 columns.
pub(super) fn microscaled(num_bits: u8, dynamic: Dynamic) -> QuantizationArgs {
    let strategy = Strategy::Group(32);
    QuantizationArgs { num_bits, scale_dtype: Some("torch.uint8"), ..float8(strategy, dynamic) }
}

/// Reads two positive sides of a block.
pub(super) fn sides(value: &Value) -> Option<[usize; 2]> {
    let sides: Vec<usize> =
        value.as_array()?.iter().map(|side| usize::try_from(side.as_u64()?).ok()).collect::<Option<_>>()?;
    <[usize; 2]>::try_from(sides).ok().filter(|sides| !sides.contains(&0))
}
