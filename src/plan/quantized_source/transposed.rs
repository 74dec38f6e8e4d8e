//! Weights that are stored transposed, their integers in words: what AWQ's and GPTQ's have in common.

use qwen_fp8_schemes::{
    CodeFormat, Dtype, Dynamic, NumberKind, QuantizationArgs, SourceDtype, Strategy, TensorRole, WordOrder,
};
use serde_json::Value;

use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::plan::planned_input::{
    CarriedForm, CodeRows, InputData, PlannedInput, QuantizedSource, SourcePart, Transposed, ZeroPointTensor,
};
use crate::plan::served_form::ServedForm;

use super::group::SourceGroup;
use super::layout::{ExtraRole, ExtraTensor, FLOAT_SCALES, ServedLayout, SourceLayout, TransposedLayout};

/// The arguments of a method that stores weights so.
pub(super) struct TransposedMethod {
    pub(super) name: &'static str,
    pub(super) storage_format: &'static str,
    pub(super) bits: u32,
    pub(super) is_symmetric: bool,
    pub(super) strategy: Strategy,
    pub(super) words: TransposedLayout,
    /// Set where a tensor may tell the group of each column, and true where it must.
    pub(super) groups_of_columns: Option<bool>,
}

/// Reads `group_size`, where -1 stands for whole rows.
pub(super) fn group_strategy(value: &Value, default: usize) -> Result<Strategy, String> {
    match value.get("group_size").filter(|size| !size.is_null()) {
        None => Ok(Strategy::Group(default)),
        Some(size) if size.as_i64() == Some(-1) => Ok(Strategy::Channel),
        Some(size) => match size.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|&size| size > 0) {
            Some(size) => Ok(Strategy::Group(size)),
            None => Err(format!("`group_size` is {}", shown(&size.to_string()))),
        },
    }
}

impl TransposedMethod {
    /// Returns the group that takes every layer with such tensors.
    pub(super) fn group(self) -> SourceGroup {
        let extra = |stored, role, required| {
            let dtypes: &[Dtype] = &[Dtype::I32];
            ExtraTensor { stored, served: stored, role, dtypes, required }
        };
        let mut extras = vec![extra("qzeros", ExtraRole::TransposedZeroPoints, true)];
        if let Some(required) = self.groups_of_columns {
            extras.push(extra("g_idx", ExtraRole::GroupsOfColumns, required));
        }
        let form = ServedForm {
            weights: QuantizationArgs {
                num_bits: self.bits as u8,
                kind: NumberKind::Int,
                symmetric: self.is_symmetric,
                strategy: self.strategy,
                dynamic: Dynamic::Static,
                scale_dtype: None,
            },
            inputs: None,
            storage_format: self.storage_format,
            powers_of_two: false,
            exponents: false,
        };
        let codes = ("qweight", Dtype::I32);
        let layout = SourceLayout {
            name: self.name,
            codes: codes.0,
            codes_dtype: codes.1,
            format: CodeFormat::PackedInteger(self.bits),
            scales: &["scales"],
            scale_dtypes: FLOAT_SCALES,
            strategy: self.strategy,
            extras,
            transposed: Some(self.words),
            served: Ok(ServedLayout { form, codes, scales: None, at_home: None, needs: &[] }),
        };
        SourceGroup { targets: None, layout }
    }
}

/// The stored tensors of such a weight.
pub(super) struct TransposedTensors<'l, 'a> {
    pub(super) codes: &'a Tensor,
    pub(super) scales: &'a Tensor,
    pub(super) extras: Vec<(&'l ExtraTensor, &'a Tensor)>,
}

/// Returns the input that such tensors become, held to the shapes that go with one another.
pub(super) fn weight(
    checkpoint: &Checkpoint,
    layout: &SourceLayout,
    words: TransposedLayout,
    dtype: SourceDtype,
    TransposedTensors { codes, scales, extras }: TransposedTensors<'_, '_>,
) -> Result<PlannedInput, String> {
    let CodeFormat::PackedInteger(bits) = layout.format else {
        return Err(format!("{} is {}, which is not packed", shown(&codes.name), layout.name));
    };
    let with_role = |role| extras.iter().find(|(extra, _)| extra.role == role).map(|(_, tensor)| *tensor);
    let groups_of_columns = with_role(ExtraRole::GroupsOfColumns);
    let [rows, columns] = sides(codes, words.order, bits, groups_of_columns)?;
    let width = match layout.strategy {
        Strategy::Group(width) => width,
        _ => columns.max(1),
    };
    let name = shown(&codes.name);
    if !columns.is_multiple_of(width) {
        let of = groups_of_columns.map(|tensor| format!("{} has shape {:?}: ", shown(&tensor.name), tensor.shape));
        let of = of.unwrap_or_default();
        return Err(format!("{of}{columns} columns of {name} are no multiple of {width}, its group"));
    }
    let groups = columns / width;
    let fits = |tensor: &Tensor, expected: [usize; 2]| match tensor.shape[..] == expected {
        true => Ok(()),
        false => Err(format!("{} has shape {:?}, and {name} needs {expected:?}", shown(&tensor.name), tensor.shape)),
    };
    fits(scales, [groups, rows])?;
    let zeros = with_role(ExtraRole::TransposedZeroPoints);
    if let Some(zeros) = zeros {
        fits(zeros, [groups, rows.div_ceil(32 / bits as usize)])?;
    }
    let len = (rows as u64).checked_mul(columns as u64).and_then(|values| values.checked_mul(dtype.bytes() as u64));
    let len = len.ok_or_else(|| format!("{name} is too large"))?;
    let carried = layout.served.as_ref().map_err(|reason| *reason).map(|served| {
        let part =
            |tensor: &Tensor, role, suffix| SourcePart { tensor: tensor.clone(), role, suffix, dtype: tensor.dtype };
        let mut parts = vec![part(codes, TensorRole::Codes, layout.codes), part(scales, TensorRole::Scale, "scales")];
        parts.extend(extras.iter().map(|(extra, tensor)| part(tensor, extra.role.of_tensor(), extra.served)));
        CarriedForm { form: served.form.clone(), parts, at_home: None, keeps_config: true }
    });
    let source = QuantizedSource {
        name: layout.name,
        codes: codes.clone(),
        scales: scales.clone(),
        global: None,
        zeros: zeros.map(|tensor| ZeroPointTensor { tensor: tensor.clone(), packed: Some(bits) }),
        format: layout.format,
        granule: [1, width],
        rows: CodeRows::All,
        transposed: Some(Transposed {
            order: words.order,
            zeros_less_one: words.zeros_less_one,
            groups: groups_of_columns.cloned(),
        }),
        carried,
    };
    let name = format!("{}.weight", codes.module());
    Ok(PlannedInput {
        layer: checkpoint.model.layer(&name, 2),
        name,
        dtype: dtype.into(),
        shape: vec![rows, columns],
        len,
        data: InputData::Quantized(Box::new(source)),
        part_of: None,
        merged: Vec::new(),
    })
}

/// Returns rows and columns of the weight that is stored so.
fn sides(codes: &Tensor, order: WordOrder, bits: u32, groups: Option<&Tensor>) -> Result<[usize; 2], String> {
    let (name, per_word) = (shown(&codes.name), 32 / bits as usize);
    let &[stored, across] = codes.shape.as_slice() else {
        return Err(format!("{name} has {} dimensions", codes.shape.len()));
    };
    let too_large = || format!("{name} is too large");
    match order {
        WordOrder::Awq => Ok([across.checked_mul(per_word).ok_or_else(too_large)?, stored]),
        WordOrder::Gptq => {
            let columns = stored.checked_mul(per_word).ok_or_else(too_large)?;
            // The last word of a row may be filled in part, and then this tensor alone says by how much.
            match groups {
                None => Ok([across, columns]),
                Some(groups) => match groups.shape[..] {
                    [said] if said.div_ceil(per_word) == stored => Ok([across, said]),
                    _ => {
                        let groups = (shown(&groups.name), &groups.shape);
                        Err(format!("{} has shape {:?}, and {name} needs [{columns}]", groups.0, groups.1))
                    }
                },
            }
        }
    }
}
