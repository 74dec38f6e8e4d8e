//! Tensors that are missing, too many, or of another name, shape or dtype.

use super::super::layout::Form;
use super::{By, Fixture, Mutation, Quantized, content};
use crate::support::folder::Tensor;

pub(super) const MUTATIONS: &[Mutation] = &[
    content("scale missing", &["Q301"], By::Lint, |fixture, folder| {
        folder.remove(&fixture.middle().scale);
        Some(())
    }),
    content("scale of a layer that stays", &["Q302"], By::Lint, |fixture, folder| {
        let norm = fixture
            .plain
            .iter()
            .find(|name| name.ends_with("input_layernorm.weight") || name.ends_with("attn_norm.weight"))?;
        let scale = folder.tensor(&fixture.middle().scale).clone();
        folder.add(&norm.replace(".weight", ".weight_scale"), scale);
        Some(())
    }),
    content("scale of one row less", &["Q304", "Q314"], By::Lint, |fixture, folder| {
        let weight = fixture.weight(|weight| {
            fixture.folder.shards.values().any(|tensors| {
                tensors.get(&weight.scale).is_some_and(|scale| scale.shape.first().is_some_and(|rows| *rows > 1))
            })
        })?;
        let scale = folder.tensor(&weight.scale);
        let row = scale.bytes.len() / scale.shape[0];
        scale.shape[0] -= 1;
        scale.bytes.truncate(scale.bytes.len() - row);
        Some(())
    }),
    content("scale transposed", &["Q304"], By::Lint, |fixture, folder| {
        let weight = fixture.weight(|weight| {
            let shape = &tensor(fixture, &weight.scale).shape;
            shape.len() == 2 && shape[0] != shape[1]
        })?;
        folder.tensor(&weight.scale).shape.reverse();
        Some(())
    }),
    content("scale flat", &["Q304"], By::Lint, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        if scale.shape.len() < 2 {
            return None;
        }
        scale.shape = vec![scale.shape.iter().product()];
        Some(())
    }),
    content("scale of another dtype", &["Q305"], By::Lint, |fixture, folder| {
        let scale = folder.tensor(&fixture.middle().scale);
        scale.dtype = match scale.dtype.as_str() {
            "F32" => "I32",
            "BF16" | "F16" => "I16",
            _ => "I8",
        }
        .to_owned();
        Some(())
    }),
    content("scale by another name", &["Q301", "Q303"], By::Lint, |fixture, folder| {
        let scale = &fixture.middle().scale;
        folder.rename(scale, &format!("{scale}s"));
        Some(())
    }),
    content("weight by another name", &["Q302"], By::Lint, |fixture, folder| {
        let codes = &fixture.middle().codes;
        folder.rename(codes, &codes.replace("weight", "wieght").replace("_blocks", "_bloks"));
        Some(())
    }),
    // Of two layers nobody can tell which has the name right.
    content("layer by another name", &["Q102", "Q312", "Q503", "Q504"], By::Source, |fixture, folder| {
        let ends = [("down_proj", "down_porj"), ("o_proj", "o_porj"), ("wo_b", "w0_b")];
        let renamed = |weight: &Quantized| {
            let (end, other) = ends.iter().find(|(end, _)| weight.module.ends_with(end))?;
            Some(weight.module.replace(end, other))
        };
        let weight = fixture.weight(|weight| renamed(weight).is_some())?;
        let module = renamed(weight)?;
        weight.names.iter().for_each(|name| folder.rename(name, &name.replace(&weight.module, &module)));
        Some(())
    }),
    content("codes of another dtype", &["Q306"], By::Lint, |fixture, folder| {
        let codes = folder.tensor(&fixture.middle().codes);
        codes.dtype = match codes.dtype.as_str() {
            "F8_E4M3" => "F8_E5M2",
            "I32" => "F32",
            "U8" => "I8",
            _ => "U8",
        }
        .to_owned();
        Some(())
    }),
    content("codes transposed", &["Q304", "Q315"], By::Lint, |fixture, folder| {
        let weight = fixture.weight(|weight| {
            let shape = &tensor(fixture, &weight.codes).shape;
            shape.len() == 2 && shape[0] != shape[1] && weight.form != Form::Fp8Tensor
        })?;
        folder.tensor(&weight.codes).shape.reverse();
        Some(())
    }),
    content("codes cut by rows", &["Q304", "Q315"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        if weight.form == Form::Fp8Tensor {
            return None;
        }
        let codes = folder.tensor(&weight.codes);
        let (rows, row) = (codes.shape[0], codes.bytes.len() / codes.shape[0]);
        // Beyond a granule, so that fewer scales are due.
        let kept = if rows > 128 { rows - 128 } else { rows - 1 };
        codes.shape[0] = kept;
        codes.bytes.truncate(kept * row);
        Some(())
    }),
    content("codes cut by columns", &["Q304", "Q314", "Q315"], By::Lint, |fixture, folder| {
        let scales = |weight: &Quantized| tensor(fixture, &weight.scale).shape.last().copied().unwrap_or(1);
        let weight = fixture.weight(|weight| {
            !matches!(weight.form, Form::Fp8Tensor | Form::Fp8Rows | Form::Int8Rows) && scales(weight) > 1
        })?;
        let codes = folder.tensor(&weight.codes);
        let last = codes.shape.len() - if weight.form == Form::Mxfp4Stack { 2 } else { 1 };
        codes.shape[last] /= 2;
        codes.bytes.truncate(codes.bytes.len() / 2);
        Some(())
    }),
    content("codes of three dimensions", &["Q102", "Q308"], By::Codes, |fixture, folder| {
        folder.tensor(&fixture.middle().codes).shape.insert(0, 1);
        Some(())
    }),
    content("layer not quantized", &["Q202", "Q207"], By::Lint, |fixture, folder| {
        // vLLM takes the layers of AWQ and GPTQ from the files: only parts of a fused one have to agree.
        let is_part = |weight: &Quantized| weight.module.ends_with("k_proj");
        let weight = match fixture.middle().form {
            Form::Mxfp4Stack => return None,
            Form::Awq | Form::Gptq => fixture.weight(is_part)?,
            _ => fixture.middle(),
        };
        let shape = plain_shape(fixture, &weight.module);
        weight.names.iter().for_each(|name| drop(folder.remove(name)));
        let bytes = vec![0; shape.iter().product::<usize>() * 2];
        folder.add(&format!("{}.weight", weight.module), Tensor { dtype: "BF16".to_owned(), shape, bytes });
        Some(())
    }),
    content("draft layer without scale", &["Q301"], By::Lint, |fixture, folder| {
        let weight = fixture
            .weight(|weight| ["mtp.", "model.layers.2."].iter().any(|start| weight.module.starts_with(start)))?;
        folder.remove(&weight.scale);
        Some(())
    }),
    content("one expert lost", &["Q312"], By::Lint, |fixture, folder| {
        let expert = fixture.weight(|weight| weight.module.contains(".experts.1."))?;
        let (prefix, _) = expert.module.split_at(expert.module.find(".experts.1.")? + ".experts.1.".len());
        let names: Vec<_> = fixture
            .weights
            .iter()
            .filter(|weight| weight.module.starts_with(prefix))
            .flat_map(|weight| &weight.names)
            .collect();
        names.into_iter().for_each(|name| drop(folder.remove(name)));
        Some(())
    }),
    content("layer of a fused one lost", &["Q311", "Q312"], By::Lint, |fixture, folder| {
        let ends = ["k_proj", "up_proj", ".w3", "kv_a_proj_with_mqa"];
        let weight = fixture
            .weight(|weight| ends.iter().any(|end| weight.module.ends_with(end)) && weight.form != Form::Mxfp4Stack)?;
        weight.names.iter().for_each(|name| drop(folder.remove(name)));
        Some(())
    }),
    content("a layer of the stack lost", &["Q312"], By::Lint, |_, folder| {
        for tensors in folder.shards.values_mut() {
            tensors.retain(|name, _| {
                !name.starts_with("layers.1.")
                    && !name.contains("model.layers.1.")
                    && !name.contains("language_model.layers.1.")
            });
        }
        Some(())
    }),
    content("head quantized", &["Q201", "Q210"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        if matches!(weight.form, Form::Mxfp4Stack | Form::ModeloptNvfp4) {
            return None;
        }
        let head = ["head", "lm_head", "language_model.lm_head", "language_model.model.lm_head"];
        let head = head.iter().find(|head| fixture.plain.contains(&format!("{head}.weight"))).unwrap_or(&"lm_head");
        if fixture.plain.contains(&format!("{head}.weight")) {
            folder.remove(&format!("{head}.weight"));
        }
        for name in &weight.names {
            let copied = folder.tensor(name).clone();
            folder.add(&name.replace(&weight.module, head), copied);
        }
        Some(())
    }),
    content("zero points missing", &["Q313"], By::Lint, |fixture, folder| {
        folder.remove(fixture.middle().beside(".qzeros")?);
        Some(())
    }),
    content("zero points of another shape", &["Q314"], By::Lint, |fixture, folder| {
        let zeros = folder.tensor(fixture.middle().beside(".qzeros")?);
        zeros.shape[1] /= 2;
        zeros.bytes.truncate(zeros.bytes.len() / 2);
        Some(())
    }),
    content("global scale missing", &["Q313"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        folder.remove(weight.global()?);
        Some(())
    }),
    content("global scale for each row", &["Q314"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        let global = folder.tensor(weight.global()?);
        (global.shape, global.bytes) = (vec![8], global.bytes.repeat(8));
        Some(())
    }),
    content("weight_shape missing", &["Q313"], By::Lint, |fixture, folder| {
        folder.remove(fixture.middle().beside(".weight_shape")?);
        Some(())
    }),
    content("weight_shape wrong", &["Q315"], By::Lint, |fixture, folder| {
        folder.tensor(fixture.middle().beside(".weight_shape")?).bytes[8] ^= 0x40;
        Some(())
    }),
    content("scale of activations missing", &["Q313"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        folder.remove(weight.activations()?);
        // To ModelOpt's readers the activations are then dynamic.
        (weight.form != Form::ModeloptNvfp4 && fixture.layout.hf_quant_config.is_none()).then_some(())
    }),
    content("scale of activations that are dynamic", &["Q307"], By::Lint, |fixture, folder| {
        let weight = fixture.middle();
        if weight.names.iter().any(|name| name.contains("activation_scale") || name.contains("input_")) {
            return None;
        }
        if weight.form == Form::Mxfp4Stack {
            return None;
        }
        let bytes = 1f32.to_le_bytes().to_vec();
        folder.add(&format!("{}.input_scale", weight.module), Tensor { dtype: "F32".to_owned(), shape: vec![], bytes });
        Some(())
    }),
    content("columns of groups missing in part", &["Q314", "Q304"], By::Lint, |fixture, folder| {
        let groups = folder.tensor(fixture.middle().beside(".g_idx")?);
        groups.shape[0] -= 32;
        groups.bytes.truncate(groups.shape[0] * 4);
        Some(())
    }),
];

fn tensor<'f>(fixture: &'f Fixture, name: &str) -> &'f Tensor {
    fixture.folder.shards.values().find_map(|tensors| tensors.get(name)).expect("a tensor of the fixture")
}

fn plain_shape(fixture: &Fixture, module: &str) -> Vec<usize> {
    let tensors = fixture.layout.tensors();
    tensors.into_iter().find(|tensor| tensor.name == format!("{module}.weight")).expect("a weight of the layout").shape
}
