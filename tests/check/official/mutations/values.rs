//! Values that no tool writes, or that do not follow from the source.

use super::super::layout::Form;
use super::{By, Mutation, content};
use crate::support::folder::Tensor;

pub(super) const MUTATIONS: &[Mutation] = &[
    content("scale NaN", &["Q401"], By::Lint, |fixture, folder| set(folder.tensor(&fixture.middle().scale), f32::NAN)),
    content("scale infinite", &["Q401"], By::Lint, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        is_float(scale).then(|| set(scale, f32::INFINITY))?
    }),
    content("scale zero", &["Q401"], By::Lint, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        (is_float(scale) || scale.dtype == "F8_E4M3").then(|| set(scale, 0.0))?
    }),
    content("scale negative", &["Q401"], By::Lint, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        is_float(scale).then(|| set(scale, -0.5))?
    }),
    content("scale no power of two", &["Q406"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        let scale = folder.tensor(&weight.scale);
        (weight.powers && is_float(scale)).then(|| set(scale, 0.75))?
    }),
    content("scales upside down", &["Q407"], By::Lint, |fixture, folder| {
        for weight in &fixture.weights {
            let scale = folder.tensor(&weight.scale);
            if !matches!(weight.form, Form::Fp8Blocks | Form::Fp8Rows | Form::Fp8Tensor) || !is_float(scale) {
                return None;
            }
            for at in 0..scale.shape.iter().product() {
                let value = get(scale, at);
                put(scale, at, 1.0 / value);
            }
        }
        Some(())
    }),
    content("global scale zero", &["Q401"], By::Lint, |fixture, folder| global(fixture, folder, 0.0)),
    content("global scale NaN", &["Q401"], By::Lint, |fixture, folder| global(fixture, folder, f32::NAN)),
    content("global scale negative", &["Q401"], By::Lint, |fixture, folder| global(fixture, folder, -1.0)),
    content("global scales of a fused layer differ", &["Q405"], By::Lint, |fixture, folder| {
        let weight = fixture.weight(|weight| weight.module.ends_with("up_proj"))?;
        let name = weight.global()?;
        let tensor = folder.tensor(name);
        let value = get(tensor, 0);
        put(tensor, 0, value * 2.0);
        Some(())
    }),
    content("scale of activations NaN", &["Q401"], By::Lint, |fixture, folder| activations(fixture, folder, f32::NAN)),
    content("scale of activations zero", &["Q401"], By::Lint, |fixture, folder| activations(fixture, folder, 0.0)),
    content("code NaN", &["Q402"], By::Codes, |fixture, folder| {
        let weight = fixture.middle();
        let codes = folder.tensor(&weight.codes);
        (codes.dtype == "F8_E4M3").then(|| {
            let middle = codes.bytes.len() / 2 + 1;
            codes.bytes[middle] = 0x7F;
        })
    }),
    content("group of a column out of range", &["Q314"], By::Lint, |fixture, folder| {
        let groups = folder.tensor(fixture.middle().beside(".g_idx")?);
        groups.bytes[40..44].copy_from_slice(&99i32.to_le_bytes());
        Some(())
    }),
    content("one code changed", &["Q501", "Q502", "Q506"], By::Source, |fixture, folder| {
        let codes = folder.tensor(&fixture.middle().codes);
        let middle = codes.bytes.len() / 2 + 1;
        codes.bytes[middle] ^= 0x10;
        Some(())
    }),
    content("two layers exchanged", &["Q102", "Q501", "Q502", "Q506"], By::Source, |fixture, folder| {
        let first = fixture.middle();
        let shape = |name: &str| {
            fixture.folder.shards.values().find_map(|tensors| tensors.get(name)).map(|tensor| tensor.shape.clone())
        };
        let second = fixture.weights.iter().find(|weight| {
            weight.module != first.module && weight.form == first.form && shape(&weight.codes) == shape(&first.codes)
        })?;
        for (a, b) in first.names.iter().zip(&second.names) {
            folder.swap(a, b);
        }
        Some(())
    }),
    content("one scale halved", &["Q102", "Q501", "Q502", "Q506"], By::Source, |fixture, folder| {
        let weight = fixture.middle();
        let scale = folder.tensor(&weight.scale);
        match scale.dtype.as_str() {
            "U8" | "F8_E8M0" => scale.bytes[0] -= 1,
            "F8_E4M3" => scale.bytes[0] -= 8,
            _ => {
                let value = get(scale, 0);
                put(scale, 0, value / 2.0);
            }
        }
        Some(())
    }),
    content("all scales of a layer halved", &["Q102", "Q501", "Q502", "Q506"], By::Source, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        if !is_float(scale) {
            scale.bytes.iter_mut().for_each(|byte| *byte -= if scale.dtype == "F8_E4M3" { 8 } else { 1 });
            return Some(());
        }
        for at in 0..scale.shape.iter().product() {
            let value = get(scale, at);
            put(scale, at, value / 2.0);
        }
        Some(())
    }),
    content("scale of activations doubled", &["Q501", "Q506"], By::Source, |fixture, folder| {
        let weight = fixture.middle();
        let name = weight.activations()?;
        let tensor = folder.tensor(name);
        let value = get(tensor, 0);
        put(tensor, 0, value * 2.0);
        Some(())
    }),
    content("a layer that stays changed", &["Q501"], By::Source, |fixture, folder| {
        let name = fixture.plain.iter().find(|name| name.ends_with("norm.weight"))?;
        folder.tensor(name).bytes[0] ^= 1;
        Some(())
    }),
    content("zero point changed", &["Q501"], By::Source, |fixture, folder| {
        folder.tensor(fixture.middle().beside(".qzeros")?).bytes[0] ^= 1;
        Some(())
    }),
];

fn is_float(tensor: &Tensor) -> bool {
    matches!(tensor.dtype.as_str(), "F32" | "BF16" | "F16")
}

fn get(tensor: &Tensor, at: usize) -> f32 {
    match tensor.dtype.as_str() {
        "F32" => f32::from_le_bytes(tensor.bytes.as_chunks().0[at]),
        "BF16" => half::bf16::from_le_bytes(tensor.bytes.as_chunks().0[at]).to_f32(),
        "F16" => half::f16::from_le_bytes(tensor.bytes.as_chunks().0[at]).to_f32(),
        other => panic!("{other} is no float"),
    }
}

fn put(tensor: &mut Tensor, at: usize, value: f32) {
    match tensor.dtype.as_str() {
        "F32" => tensor.bytes[at * 4..][..4].copy_from_slice(&value.to_le_bytes()),
        "BF16" => tensor.bytes[at * 2..][..2].copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        "F16" => tensor.bytes[at * 2..][..2].copy_from_slice(&half::f16::from_f32(value).to_le_bytes()),
        "F8_E4M3" if value == 0.0 => tensor.bytes[at] = 0,
        "F8_E4M3" => tensor.bytes[at] = 0x7F,
        // The only value of E8M0 that is none.
        _ => tensor.bytes[at] = 0xFF,
    }
}

/// Sets one in the middle.
fn set(tensor: &mut Tensor, value: f32) -> Option<()> {
    put(tensor, tensor.shape.iter().product::<usize>() / 2, value);
    Some(())
}

fn global(fixture: &super::Fixture, folder: &mut super::Folder, value: f32) -> Option<()> {
    let weight = fixture.middle();
    put(folder.tensor(weight.global()?), 0, value);
    Some(())
}

fn activations(fixture: &super::Fixture, folder: &mut super::Folder, value: f32) -> Option<()> {
    let weight = fixture.middle();
    let name = weight.activations()?;
    put(folder.tensor(name), 0, value);
    Some(())
}
