//! One quantized weight of a source: its tensors, found by their names and held to the shapes that go with its codes.

use std::collections::BTreeMap;

use qwen_fp8_schemes::{CodeFormat, Dtype, SourceDtype, Strategy, TensorRole, packed_rows};

use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};
use crate::plan::planned_input::{
    CarriedForm, CodeRows, GlobalScale, InputData, PlannedInput, QuantizedSource, SourcePart, ZeroPointTensor,
};

use super::layout::{ExtraRole, ExtraTensor, SourceLayout};
use super::transposed::{self, TransposedTensors};

/// The tensors beside codes that no weight has claimed.
pub(super) struct Beside<'a>(BTreeMap<&'a str, &'a Tensor>);

/// The scales of a weight, and what else stands beside its codes.
type Claimed<'l, 'a> = (&'a Tensor, Vec<(&'l ExtraTensor, &'a Tensor)>);

impl<'a> Beside<'a> {
    pub(super) fn new(tensors: impl Iterator<Item = &'a Tensor>) -> Self {
        Self(tensors.map(|tensor| (tensor.name.as_str(), tensor)).collect())
    }

    /// The first that is left, in order of name.
    pub(super) fn first(&self) -> Option<&'a Tensor> {
        self.0.values().next().copied()
    }

    fn claim(&mut self, module: &str, parameter: &str) -> Option<&'a Tensor> {
        self.0.remove(format!("{module}.{parameter}").as_str())
    }

    /// Takes the scales of a weight and what else its layout has.
    fn of_weight<'l>(&mut self, codes: &Tensor, layout: &'l SourceLayout) -> Result<Claimed<'l, 'a>, String> {
        let (name, module) = (shown(&codes.name), codes.module());
        let missing = |parameter: &str| {
            format!("{name} is {} and has no {}", layout.name, shown(&format!("{module}.{parameter}")))
        };
        let scales = layout.scales.iter().find_map(|scale| self.claim(module, scale));
        let scales = scales.ok_or_else(|| missing(layout.scales[0]))?;
        dtype_is(scales, layout.scale_dtypes)?;
        let mut extras = Vec::new();
        for extra in &layout.extras {
            match self.claim(module, extra.stored) {
                Some(tensor) => {
                    dtype_is(tensor, extra.dtypes)?;
                    extras.push((extra, tensor));
                }
                None if extra.required => return Err(missing(extra.stored)),
                None => {}
            }
        }
        Ok((scales, extras))
    }
}

/// Returns the input that a tensor of codes becomes, together with what belongs to it.
pub(super) fn weight(
    checkpoint: &Checkpoint,
    codes: &Tensor,
    layout: &SourceLayout,
    dtype: SourceDtype,
    beside: &mut Beside<'_>,
) -> Result<PlannedInput, String> {
    let name = shown(&codes.name).to_string();
    let &[rows, stored] = codes.shape.as_slice() else {
        return Err(format!("{name} is {} and has {} dimensions", layout.name, codes.shape.len()));
    };
    let module = codes.module();
    let (scales, extras) = beside.of_weight(codes, layout)?;
    if let Some(order) = layout.transposed {
        return transposed::weight(checkpoint, layout, order, dtype, TransposedTensors { codes, scales, extras });
    }
    let said = extras.iter().find(|(extra, _)| extra.role == ExtraRole::Shape).map(|(_, tensor)| *tensor);
    let columns = columns(checkpoint, layout, codes, [rows, stored], scales, said)?;
    let granule = match layout.strategy {
        Strategy::Block(block) => block,
        Strategy::Channel => [1, columns.max(1)],
        Strategy::Group(width) | Strategy::TensorGroup(width) => [1, width],
        Strategy::Tensor | Strategy::Token => [rows.max(1), columns.max(1)],
    };
    let expected = groups(layout.strategy, granule, [rows, columns])
        .ok_or_else(|| format!("{columns} columns of {name} are no multiple of {}, its group", granule[1]))?;
    // A single scale, or one per row, is also written flat.
    let squeezed = |shape: &[usize]| shape.iter().copied().filter(|&side| side != 1).collect::<Vec<_>>();
    let may_be_flat = !matches!(layout.strategy, Strategy::Block(_) | Strategy::Group(_) | Strategy::TensorGroup(_));
    let fits =
        |shape: &[usize], expected: &[usize]| shape == expected || may_be_flat && squeezed(shape) == squeezed(expected);
    if !fits(&scales.shape, &expected) {
        return Err(format!("{} has shape {:?}, and {name} needs {expected:?}", shown(&scales.name), scales.shape));
    }
    let (mut zeros, mut global) = (None, None);
    for (extra, tensor) in &extras {
        let expected = match extra.role {
            ExtraRole::GlobalDivides | ExtraRole::GlobalMultiplies => {
                global =
                    Some(GlobalScale { tensor: (*tensor).clone(), divides: extra.role == ExtraRole::GlobalDivides });
                vec![1]
            }
            ExtraRole::ZeroPoints => {
                zeros = Some(ZeroPointTensor { tensor: (*tensor).clone(), packed: None });
                expected.clone()
            }
            ExtraRole::PackedZeroPoints(bits) => {
                zeros = Some(ZeroPointTensor { tensor: (*tensor).clone(), packed: Some(bits) });
                let mut shape = expected.clone();
                shape[0] = packed_rows(&(0..shape[0]), bits).end;
                shape
            }
            ExtraRole::Shape => vec![2],
            ExtraRole::Activations => vec![1],
            // Only weights that are stored transposed have these.
            ExtraRole::TransposedZeroPoints | ExtraRole::GroupsOfColumns => continue,
        };
        if tensor.shape != expected && squeezed(&tensor.shape) != squeezed(&expected) {
            return Err(format!("{} has shape {:?}, and {name} needs {expected:?}", shown(&tensor.name), tensor.shape));
        }
    }
    // The header's reader has proven that the codes are in the file; the decoded values may be too many for a count of
    // bytes.
    let values = (rows as u64).checked_mul(columns as u64);
    let len = values.and_then(|values| values.checked_mul(dtype.bytes() as u64));
    let len = len.ok_or_else(|| format!("{name} is too large"))?;
    let part = |tensor: &Tensor, role, (suffix, dtype)| SourcePart { tensor: tensor.clone(), role, suffix, dtype };
    let carried = match &layout.served {
        Err(reason) => Err(*reason),
        Ok(served) => {
            let has = |need: &str| extras.iter().any(|(extra, _)| extra.served == need);
            let scale_dtype = served.scales.unwrap_or(scales.dtype);
            let mut parts = vec![
                part(codes, TensorRole::Codes, served.codes),
                part(scales, TensorRole::Scale, ("weight_scale", scale_dtype)),
            ];
            parts.extend(
                extras.iter().map(|(extra, tensor)| part(tensor, extra.role.of_tensor(), (extra.served, tensor.dtype))),
            );
            let mut form = served.form.clone();
            // Bytes are scales of blocks only as powers of two, whether the config says so or not.
            form.exponents = served.scales.is_none() && scales.dtype.bitsize() == 8 && !is_grouped(layout);
            form.powers_of_two |= form.exponents;
            match served.needs.iter().all(|need| has(need)) {
                true => Ok(CarriedForm { form, parts, at_home: served.at_home, keeps_config: false }),
                false => Err("its activations are static, and it has no scale of theirs"),
            }
        }
    };
    let source = QuantizedSource {
        name: layout.name,
        codes: codes.clone(),
        scales: scales.clone(),
        global,
        zeros,
        format: layout.format,
        granule,
        rows: CodeRows::All,
        transposed: None,
        carried,
    };
    Ok(PlannedInput {
        name: format!("{module}.weight"),
        dtype: dtype.into(),
        shape: vec![rows, columns],
        len,
        data: InputData::Quantized(Box::new(source)),
        part_of: None,
        layer: checkpoint.model.layer(&format!("{module}.weight"), 2),
        merged: Vec::new(),
    })
}

fn is_grouped(layout: &SourceLayout) -> bool {
    matches!(layout.strategy, Strategy::Group(_) | Strategy::TensorGroup(_))
}

fn dtype_is(tensor: &Tensor, expected: &[Dtype]) -> Result<(), String> {
    if expected.contains(&tensor.dtype) {
        return Ok(());
    }
    let names: Vec<String> = expected.iter().map(Dtype::to_string).collect();
    let names = match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    };
    Err(format!("{} is {}, not {names}", shown(&tensor.name), tensor.dtype))
}

/// Returns the shape of scales; `None` where groups do not divide the columns.
fn groups(strategy: Strategy, [height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> Option<Vec<usize>> {
    match strategy {
        Strategy::Tensor | Strategy::Token => Some(vec![1]),
        Strategy::Channel => Some(vec![rows, 1]),
        Strategy::Group(_) | Strategy::TensorGroup(_) => {
            columns.is_multiple_of(width).then(|| vec![rows, columns / width])
        }
        Strategy::Block(_) => Some(vec![rows.div_ceil(height), columns.div_ceil(width)]),
    }
}

/// Returns the columns of a weight from those that its codes are stored in.
fn columns(
    checkpoint: &Checkpoint,
    layout: &SourceLayout,
    codes: &Tensor,
    [rows, stored]: [usize; 2],
    scales: &Tensor,
    said: Option<&Tensor>,
) -> Result<usize, String> {
    let name = shown(&codes.name);
    let too_large = || format!("{name} is too large");
    match (layout.format, layout.strategy, scales.shape.last()) {
        (CodeFormat::E4m3 | CodeFormat::Integer, ..) => Ok(stored),
        (CodeFormat::E2m1, ..) => stored.checked_mul(2).ok_or_else(too_large),
        (CodeFormat::E2m3, ..) if stored.is_multiple_of(3) => (stored / 3).checked_mul(4).ok_or_else(too_large),
        (CodeFormat::E2m3, ..) => {
            Err(format!("{name} has {stored} bytes in a row, and three hold four codes of MXFP6"))
        }
        // Scales tell, and no data has to be read for a plan.
        (CodeFormat::PackedInteger(_), Strategy::Group(width), Some(&groups)) => {
            let columns = groups.checked_mul(width).ok_or_else(too_large)?;
            let is_so =
                columns.checked_mul(8).is_some() && layout.format.row_bytes(columns) == stored.saturating_mul(4);
            if is_so { Ok(columns) } else { Err(format!("{name} does not hold {columns} columns, as its scales say")) }
        }
        // The last word of a row may be filled in part, and then its shape alone says by how much.
        (CodeFormat::PackedInteger(_), ..) => {
            let said = said.ok_or_else(|| format!("{name} is packed and has no shape"))?;
            let numbers = checkpoint.integers(said).map_err(|error| error.to_string())?;
            let sides: Vec<usize> = numbers.iter().filter_map(|&side| usize::try_from(side).ok()).collect();
            match sides[..] {
                [said_rows, columns]
                    if said_rows == rows
                        && columns.checked_mul(8).is_some()
                        && layout.format.row_bytes(columns) == stored.saturating_mul(4) =>
                {
                    Ok(columns)
                }
                _ => Err(format!("{} is {numbers:?}, and {name} does not have that shape", shown(&said.name))),
            }
        }
    }
}
