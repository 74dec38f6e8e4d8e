//! What must hold of every output, read with the `safetensors` crate.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

use super::scene::Scene;

/// A tensor of either side: dtype, shape, bytes.
type Content = (Dtype, Vec<usize>, Vec<u8>);

pub(crate) fn prove(scene: &Scene) -> Result<(), String> {
    let output = scene.at(&scene.output);
    let source = tensors(&scene.at(&scene.model), |name| scene.is_shard(name))?;
    let written = tensors(&output, |_| true)?;
    for (name, content) in &source {
        match written.get(name) {
            None => return Err(format!("tensor {name:?} is lost")),
            Some(found) if found == content => {}
            Some((Dtype::F8_E4M3, shape, _)) if *shape == content.1 => {
                let module = name.strip_suffix(".weight").ok_or_else(|| format!("{name:?} is no weight"))?;
                let scaled =
                    ["weight_scale", "weight_scale_inv"].iter().any(|s| written.contains_key(&format!("{module}.{s}")));
                if !scaled {
                    return Err(format!("{name:?} has no scale"));
                }
            }
            Some(_) => return Err(format!("tensor {name:?} changed")),
        }
    }
    for (name, (dtype, _, bytes)) in written.iter().filter(|(name, _)| !source.contains_key(*name)) {
        if !floats(*dtype, bytes).iter().all(|scale| scale.is_finite() && *scale > 0.0) {
            return Err(format!("scale {name:?} is not a finite number above 0"));
        }
    }
    let codes = written.values().filter(|(dtype, ..)| *dtype == Dtype::F8_E4M3).flat_map(|(_, _, bytes)| bytes);
    if codes.clone().any(|code| code & 0x7f == 0x7f) {
        return Err("an FP8 weight holds NaN".to_owned());
    }
    files(&output)
}

/// A config that says what the output is, and nothing but files.
fn files(output: &Path) -> Result<(), String> {
    only_files(output)?;
    match fs::read_to_string(output.join("config.json")) {
        Ok(config) if config.contains("\"quantization_config\"") => Ok(()),
        _ => Err("config.json does not say that the output is quantized".to_owned()),
    }
}

/// No links, no modes that let anyone run a file, no file that hides, in the folders of side files too.
fn only_files(folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder).map_err(|error| error.to_string())? {
        let entry = entry.map_err(|error| error.to_string())?;
        let (name, metadata) = (entry.file_name(), entry.metadata().map_err(|error| error.to_string())?);
        if metadata.is_dir() && !name.as_encoded_bytes().starts_with(b".") {
            only_files(&entry.path())?;
        } else if !metadata.is_file()
            || metadata.permissions().mode() & 0o7111 != 0
            || name.as_encoded_bytes().starts_with(b".")
        {
            return Err(format!("{name:?} has no place in an output"));
        }
    }
    Ok(())
}

fn tensors(dir: &Path, is_shard: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Content>, String> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(".safetensors") || !is_shard(name) {
            continue;
        }
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let read = SafeTensors::deserialize(&bytes).map_err(|error| format!("{name}: {error}"))?;
        for (name, view) in read.iter() {
            tensors.insert(name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()));
        }
    }
    Ok(tensors)
}

fn floats(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::BF16 => bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        // No scale has another dtype.
        _ => vec![f32::NAN],
    }
}
